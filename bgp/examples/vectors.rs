//! Judges conformance vectors: `cargo run -p bgp --example vectors -- FILE…`
//!
//! One JSON object a line: the octets of a message, what the session had negotiated, and what a receiver has to do. Prints PASS,
//! FAIL or SKIP with the reason for every record, then `N passed, N failed, N skipped`; ends with 1 if any failed.

#[path = "../tests/vectors/judge/mod.rs"]
mod judge;

use std::process::ExitCode;

use judge::Verdict;

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::from(2);
            }
        };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (id, verdict) = judge::line(line);
            let id = id.unwrap_or_else(|| format!("{file}:{}", number + 1));
            match verdict {
                Verdict::Pass => {
                    passed += 1;
                    println!("PASS {id}");
                }
                Verdict::Fail(why) => {
                    failed += 1;
                    println!("FAIL {id}: {why}");
                }
                Verdict::Skip(why) => {
                    skipped += 1;
                    println!("SKIP {id}: {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ExitCode::from(u8::from(failed > 0))
}
