//! The body of an OPEN, and the checks against a configuration.
#![no_main]

use bgp::types::Families;
use bgp::wire::{Context, ExpectedAs, Message, OpenExpectations, decode, open};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let octets = bgp_fuzz::message(1, data);
    let ctx = Context::default();
    bgp_fuzz::check(&octets, &ctx);
    if let Ok(Message::Open(value)) = decode(&octets, &ctx) {
        let expected = OpenExpectations {
            local_as: Some(65001),
            local_id: Some([192, 0, 2, 1].into()),
            peer_as: ExpectedAs::Not(65002),
            role: Some(3),
            role_strict: data.len() % 2 == 0,
            required_families: Families::ALL,
        };
        let _ = open::check(&value, &expected);
    }
});
