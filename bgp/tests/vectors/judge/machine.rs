//! Messages that come in the wrong state: what the speaker's state machine answers.

use std::time::Instant;

use bgp::speaker::{Ends, Input, Output, PeerAddress, PeerConfig, RemoteAs, Speaker, SpeakerConfig};
use bgp::wire::{Capability, Context, Message, Notification, Open, decode, encode, frame};
use bytes::{Bytes, BytesMut};

/// The states in which something can be read from a peer.
pub(super) const STATES: [&str; 3] = ["OpenSent", "OpenConfirm", "Established"];

/// The NOTIFICATION a speaker sends that gets these octets in this state; `None` if it sends none.
pub(super) fn answer(octets: &[u8], state: &str) -> Result<Option<Notification>, String> {
    let local = "192.0.2.1:179".parse().map_err(|_| "an address")?;
    let remote: std::net::SocketAddr = "192.0.2.2:40000".parse().map_err(|_| "an address")?;
    let mut speaker = Speaker::new(SpeakerConfig::new(64999, [192, 0, 2, 1].into()), 1);
    let now = Instant::now();
    let peer = PeerConfig::new(PeerAddress::Numbered(remote.ip()), RemoteAs::Auto);
    speaker.add_peer(now, PeerConfig { passive: true, ..peer });
    let conn = speaker.accept(now, Ends::new(local, remote), None)?;

    let capabilities =
        vec![Capability::Multiprotocol { afi: 1, safi: 1 }, Capability::Multiprotocol { afi: 2, safi: 1 }];
    let open = Message::Open(Open::new(65001, 90, [192, 0, 2, 2].into(), capabilities));
    let before = match state {
        "OpenSent" => vec![],
        "OpenConfirm" => vec![open],
        "Established" => vec![open, Message::Keepalive],
        other => return Err(format!("no such state: {other}")),
    };
    let mut stream = BytesMut::new();
    for message in before {
        encode(&message, &Context::default(), &mut stream).map_err(|error| error.to_string())?;
    }
    for bytes in [stream.freeze(), Bytes::copy_from_slice(octets)] {
        if let Some(closed) = closed(&mut speaker)? {
            return Err(format!("closed before the message: {closed:?}"));
        }
        speaker.handle(now, Input::Received { conn, bytes });
    }
    closed(&mut speaker)
}

/// The NOTIFICATION with which a connection was closed, if one was.
fn closed(speaker: &mut Speaker) -> Result<Option<Notification>, String> {
    while let Some(output) = speaker.poll() {
        let Output::Close { last, .. } = output else { continue };
        let mut rest = &last[..];
        while let Some(len) = frame(rest, 4096).map_err(|error| error.to_string())? {
            let (message, after) = rest.split_at(len);
            if let Ok(Message::Notification(notification)) = decode(message, &Context::default()) {
                return Ok(Some(notification));
            }
            rest = after;
        }
    }
    Ok(None)
}
