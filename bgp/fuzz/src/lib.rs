//! What the targets share.

use bgp::types::{Families, Family, PeerKind};
use bgp::wire::{Context, Message, Segment, decode, describe, encode};
use bytes::BytesMut;

/// The session options a target's first two octets choose.
pub fn context(options: [u8; 2]) -> Context {
    let [a, b] = options;
    let on = |octet: u8, bit: u8| octet & (1 << bit) != 0;
    let families = |octet: u8, bit: u8| {
        [(Family::Ipv4, bit), (Family::Ipv6, bit + 1)]
            .into_iter()
            .filter(|(_, bit)| on(octet, *bit))
            .map(|(family, _)| family)
            .collect::<Families>()
    };
    Context {
        as4: on(a, 0),
        extended_next_hop: on(a, 1),
        extended_message: on(a, 2),
        enhanced_refresh: on(a, 3),
        peer: if on(a, 4) { PeerKind::Ibgp } else { PeerKind::Ebgp },
        confederation: on(a, 5),
        families: families(!b, 0),
        add_path: families(b, 2),
    }
}

/// One message with this body, header and all.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(65535 - 19)];
    let len = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    let mut octets = vec![0xff; 16];
    octets.extend(len.to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// Whether a confederation segment stands behind others. RFC 5065 has them in front only; AS4_PATH does not carry them, so that their
/// place among the others is lost on a two-octet session.
fn has_late_confederation_segment(message: &Message) -> bool {
    let Message::Update(update) = message else { return false };
    let segments = update.attributes.as_path.iter().flat_map(|path| &path.0);
    segments.skip_while(|segment| segment.is_confederation()).any(Segment::is_confederation)
}

/// Reads a message; what reads without fault is written and read again as the same.
pub fn check(octets: &[u8], ctx: &Context) {
    let _ = describe(octets, ctx);
    let message = match decode(octets, ctx) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.offset <= octets.len(), "offset {} of {}", error.offset, octets.len());
            return;
        }
    };
    if let Message::Update(update) = &message
        && (!update.faults.is_empty() || !update.other_families.is_empty())
    {
        assert!(update.faults.iter().all(|fault| fault.offset <= octets.len()));
        return;
    }
    if !ctx.as4 && has_late_confederation_segment(&message) {
        return;
    }
    let mut out = BytesMut::new();
    // A message at the limit may grow: lengths in two octets, AS4_PATH.
    if encode(&message, ctx, &mut out).is_ok() {
        assert_eq!(decode(&out, ctx).as_ref(), Ok(&message));
    } else {
        assert!(octets.len() > 2000, "does not encode: {message:?}");
    }
}
