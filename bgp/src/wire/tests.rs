//! Framing and the small messages; what needs more stands beside the code it shows.

use super::*;

fn keepalive() -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&Message::Keepalive, &Context::default(), &mut out).unwrap();
    out.to_vec()
}

fn fault(octets: &[u8], max_len: usize) -> (u8, u8, Vec<u8>, usize) {
    let error = frame(octets, max_len).unwrap_err();
    (error.notification.code, error.notification.subcode, error.notification.data.to_vec(), error.offset)
}

#[test]
fn a_message_is_framed_when_all_of_it_is_there() {
    let octets = keepalive();
    for n in 0..HEADER_LEN {
        assert_eq!(frame(&octets[..n], MAX_LEN), Ok(None), "{n} octets");
    }
    assert_eq!(frame(&octets, MAX_LEN), Ok(Some(19)));
    assert_eq!(decode(&octets, &Context::default()), Ok(Message::Keepalive));
}

#[test]
fn header_faults_show_with_the_header_alone() {
    let with = |at: usize, value: &[u8]| {
        let mut octets = keepalive();
        octets[at..at + value.len()].copy_from_slice(value);
        octets
    };
    assert_eq!(fault(&with(3, &[0]), MAX_LEN), (1, 1, vec![], 3));
    assert_eq!(fault(&with(16, &[0, 18]), MAX_LEN), (1, 2, vec![0, 18], 16));
    assert_eq!(fault(&with(16, &[16, 1, 2]), MAX_LEN), (1, 2, vec![16, 1], 16));
    assert_eq!(frame(&with(16, &[16, 1, 2]), MAX_EXTENDED_LEN), Ok(None));
    assert_eq!(fault(&with(16, &[16, 1, 1]), MAX_EXTENDED_LEN), (1, 2, vec![16, 1], 16));
    assert_eq!(fault(&with(16, &[0, 20]), MAX_LEN), (1, 2, vec![0, 20], 16));
    assert_eq!(fault(&with(18, &[6]), MAX_LEN), (1, 3, vec![6], 18));
    for (kind, shortest) in [(1u8, 29u8), (2, 23), (3, 21)] {
        assert_eq!(fault(&with(16, &[0, shortest - 1, kind]), MAX_LEN), (1, 2, vec![0, shortest - 1], 16));
        assert_eq!(frame(&with(16, &[0, shortest, kind]), MAX_LEN), Ok(None));
    }
}

#[test]
fn a_message_too_long_for_the_session_leaves_nothing_behind() {
    let long = Message::Notification(Notification { data: vec![0; 5000].into(), ..Notification::new(6, 2) });
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = encode(&long, &Context::default(), &mut out);
    assert_eq!(refused, Err(EncodeError::TooLong { len: 5021, max: 4096 }));
    assert_eq!(out, &b"before"[..]);
    let ctx = Context { extended_message: true, ..Context::default() };
    encode(&long, &ctx, &mut out).unwrap();
    assert_eq!(decode(&out[6..], &ctx), Ok(long));
}
