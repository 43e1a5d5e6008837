//! A byte stream: framing, then every message in it.
#![no_main]

use bgp::wire::{MAX_EXTENDED_LEN, MAX_LEN, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((options, mut stream)) = data.split_first_chunk() else { return };
    let ctx = bgp_fuzz::context(*options);
    let max_len = if ctx.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN };
    while let Ok(Some(len)) = frame(stream, max_len) {
        let (message, rest) = stream.split_at(len);
        bgp_fuzz::check(message, &ctx);
        stream = rest;
    }
});
