//! Every record of the curated vectors does what it has to; none is skipped.

#[path = "vectors/judge/mod.rs"]
mod judge;

use judge::Verdict;

fn judge_all(text: &str) -> usize {
    let mut failures = Vec::new();
    let mut passed = 0;
    for line in text.lines() {
        let (id, verdict) = judge::line(line);
        match verdict {
            Verdict::Pass => passed += 1,
            Verdict::Fail(why) => failures.push(format!("FAIL {}: {why}", id.unwrap_or_default())),
            Verdict::Skip(why) => failures.push(format!("SKIP {}: {why}", id.unwrap_or_default())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    passed
}

#[test]
fn messages() {
    assert!(judge_all(include_str!("vectors/messages.jsonl")) > 250);
}

#[test]
fn bfd_packets() {
    assert!(judge_all(include_str!("vectors/bfd.jsonl")) > 50);
}

/// What the others leave out, worked out from the text of the RFCs: each record names the section.
#[test]
fn derived() {
    assert!(judge_all(include_str!("vectors/derived.jsonl")) > 250);
}

#[test]
fn files_need_not_be_tidy_and_records_not_complete() {
    let keepalive = "ffffffffffffffffffffffffffffffff001304";
    for record in [
        format!("\u{feff}{{\"hex\": \"{keepalive}\", \"expect\": {{\"outcome\": \"accept\"}}}}\r"),
        format!(r#"{{"hex": "{keepalive}", "session": {{"new": 1}}, "expect": {{"outcome": "accept", "new": []}}}}"#),
    ] {
        assert!(matches!(judge::line(&record), (None, Verdict::Pass)), "{record}");
    }
    for (session, expect) in [
        (r#"{"needs": ["RFC 4684"]}"#, r#"{"outcome": "accept"}"#),
        (r#"{"needs_attribute_support": [26]}"#, r#"{"outcome": "accept"}"#),
        (r#"{"required_families": ["1/128"]}"#, r#"{"outcome": "accept"}"#),
        (r#"{"state": "Connect"}"#, r#"{"outcome": "accept"}"#),
        ("{}", r#"{"outcome": "route_dampening"}"#),
    ] {
        let record = format!(r#"{{"id": "x", "hex": "{keepalive}", "session": {session}, "expect": {expect}}}"#);
        assert!(matches!(judge::line(&record).1, Verdict::Skip(why) if !why.is_empty()), "{record}");
    }
}

#[test]
fn a_judge_that_finds_no_fault_would_be_of_no_use() {
    let (id, verdict) = judge::line(
        r#"{"id": "x", "hex": "ffffffffffffffffffffffffffffffff001304", "expect": {"outcome": "session_reset"}}"#,
    );
    assert_eq!(id.as_deref(), Some("x"));
    assert!(matches!(verdict, Verdict::Fail(_)));
    assert!(matches!(judge::line("{"), (None, Verdict::Fail(_))));
}
