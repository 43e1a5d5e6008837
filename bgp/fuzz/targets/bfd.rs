//! BFD packets against sessions with every kind of authentication, and time between them.
#![no_main]

use std::time::{Duration, Instant};

use bgp::bfd::{Arrival, AuthKind, Keys, Output, Packet, SessionConfig, SessionKey, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&options, mut rest)) = data.split_first() else { return };
    let start = Instant::now();
    let mut now = start;
    let mut table = Table::new(u64::from(options));
    let key = SessionKey { peer: [192, 0, 2, 2].into(), interface: Some("eth0".into()) };
    let keys = AuthKind::from_code(options & 7)
        .and_then(|kind| Keys::new(kind, [(1, b"secret".to_vec()), (2, b"another".to_vec())]));
    let config = SessionConfig { passive: options & 8 != 0, ..SessionConfig::default() };
    table.set(now, key.clone(), config, keys);
    while let Some(([wait, len], after)) = rest.split_first_chunk::<2>().map(|(head, after)| (*head, after)) {
        let (payload, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        now += Duration::from_millis(u64::from(wait) * 10);
        if wait & 0xf == 0xf {
            table.set_admin_down(now, &key, wait & 0x10 != 0);
        }
        let arrival = Arrival { at: now, source: key.peer, interface: "eth0", ttl: 255 };
        let mut payload = payload.to_vec();
        if let (0x80.., Some(session)) = (options, table.session(&key)) {
            // Otherwise hardly a packet would name the session.
            let ours = session.local_discriminator().to_be_bytes();
            if let Some(field) = payload.get_mut(8..12) {
                field.copy_from_slice(&ours);
            }
        }
        let _ = table.receive(&arrival, &payload);
        for output in table.tick(now) {
            if let Output::Due(key) = output {
                while let Some(payload) = table.transmit(now, &key) {
                    assert!(Packet::parse(&payload).is_ok(), "what we send can be read");
                }
            }
        }
        if let Some(next) = table.next_deadline(now) {
            assert!(next > now, "a deadline that has passed after a tick");
        }
    }
});
