//! The body of an UPDATE, with every session option.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((options, body)) = data.split_first_chunk() else { return };
    bgp_fuzz::check(&bgp_fuzz::message(2, body), &bgp_fuzz::context(*options));
});
