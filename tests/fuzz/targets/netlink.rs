//! What the kernel says: headers, attributes, acknowledgements. They end, and stay within what came.
#![no_main]

#[allow(dead_code, reason = "only what reads is of interest here")]
#[path = "../../../src/actuate/netlink/wire.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for frame in wire::frames(data) {
        let _ = wire::acknowledgement(&frame);
    }
    let mut total = 0;
    for (_, value) in wire::attrs(data) {
        total += value.len();
        assert!(total <= data.len());
        let _ = (wire::text(value), wire::address(value), wire::u32_at(value, 2), wire::u16_at(value, usize::MAX));
        let _ = wire::attrs(value).count();
    }
});
