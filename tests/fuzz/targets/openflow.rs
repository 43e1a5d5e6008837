//! What a switch says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovn_bgpd::openflow::message;

fuzz_target!(|data: &[u8]| {
    let mut stream = data;
    while let Ok(Some(length)) = message::complete(stream) {
        let Some((one, rest)) = stream.split_at_checked(length) else { panic!("{length} of {} octets", stream.len()) };
        let _ = message::decode(one);
        stream = rest;
    }
    let _ = message::decode(data);
});
