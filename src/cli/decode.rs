//! `decode`: what a message says, or the verdict on it.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use bgp::bfd::packet::Packet;
use bgp::types::{Families, Family, PeerKind};
use bgp::wire::{Context, describe::describe, frame};
use serde_json::json;

use super::args::{DecodeArgs, FamilyArg};
use super::hex::{Octets, Reader};
use super::output::{self, Failure};

/// Messages from the arguments or stdin, one JSON line for each. Exit code 1 if something was not hexadecimal.
pub(super) fn run(arguments: &DecodeArgs) -> Result<ExitCode, Failure> {
    let context = context(arguments);
    let mut all_hex = true;
    let mut say = |octets: Octets, line: Option<usize>| {
        let said = match octets {
            Ok(octets) if arguments.bfd => vec![bfd(&octets)],
            Ok(octets) => messages(&octets, &context),
            Err(fault) => {
                all_hex = false;
                vec![error(&line.map_or_else(|| fault.clone(), |line| format!("line {line}: {fault}")))]
            }
        };
        said.iter().try_for_each(|line| output::print(&format!("{line}\n")).map(|_| ()))
    };
    if arguments.hex.is_empty() {
        if std::io::stdin().is_terminal() {
            output::diagnose("one message in hexadecimal a line, or a hex dump; end with ctrl-D\n");
        }
        let mut reader = Reader::default();
        for (number, line) in std::io::stdin().lock().split(b'\n').enumerate() {
            let line = line.map_err(|error| Failure::Input(format!("cannot read stdin: {error}")))?;
            for octets in reader.line(&String::from_utf8_lossy(&line)) {
                say(octets, Some(number + 1))?;
            }
        }
        if let Some(octets) = reader.end() {
            say(Ok(octets), None)?;
        }
    } else {
        for text in texts(&arguments.hex) {
            let mut reader = Reader::default();
            let mut found: Vec<_> = text.lines().flat_map(|line| reader.line(line)).collect();
            found.extend(reader.end().map(Ok));
            if found.is_empty() {
                // An empty argument is an empty message.
                found.push(Ok(Vec::new()));
            }
            found.into_iter().try_for_each(|octets| say(octets, None))?;
        }
    }
    Ok(if all_hex { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One message an argument; but single octets, or pairs, are one message that was pasted without quotes.
fn texts(arguments: &[String]) -> Vec<String> {
    let is_part = |text: &String| (1..=4).contains(&text.trim_start_matches("0x").trim_end_matches(',').len());
    if arguments.len() > 1 && arguments.iter().all(is_part) {
        return vec![arguments.join(" ")];
    }
    arguments.to_vec()
}

/// What each message of a stream says. Behind a faulty header nothing can be delimited.
fn messages(stream: &[u8], context: &Context) -> Vec<serde_json::Value> {
    let mut said = Vec::new();
    let mut rest = stream;
    loop {
        let length = frame(rest, context.max_len()).ok().flatten().unwrap_or(rest.len());
        let (message, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        said.push(serde_json::to_value(describe(message, context)).unwrap_or_else(|e| error(&e.to_string())));
        if after.is_empty() {
            return said;
        }
        rest = after;
    }
}

/// A session that has agreed on everything but what the arguments take away or add.
fn context(arguments: &DecodeArgs) -> Context {
    let family = |f: &FamilyArg| match f {
        FamilyArg::Ipv4 => Family::Ipv4,
        FamilyArg::Ipv6 => Family::Ipv6,
    };
    let all = arguments.families.is_empty();
    Context {
        as4: !arguments.as2,
        families: if all { Families::ALL } else { arguments.families.iter().map(family).collect() },
        add_path: arguments.add_path.iter().map(family).collect(),
        extended_next_hop: !arguments.no_extended_next_hop,
        extended_message: arguments.extended,
        enhanced_refresh: !arguments.no_enhanced_refresh,
        peer: if arguments.ibgp { PeerKind::Ibgp } else { PeerKind::Ebgp },
        confederation: arguments.confederation,
    }
}

fn error(message: &str) -> serde_json::Value {
    json!({ "error": message })
}

fn bfd(payload: &[u8]) -> serde_json::Value {
    let length = payload.len();
    match Packet::parse(payload) {
        Ok((packet, _)) => json!({
            "type": "BFD",
            "length": length,
            "outcome": "accept",
            "packet": {
                "diagnostic": packet.diagnostic.0,
                "diagnostic_name": packet.diagnostic.to_string(),
                "state": packet.state.to_string(),
                "poll": packet.poll,
                "final": packet.r#final,
                "control_plane_independent": packet.control_plane_independent,
                "authentication": packet.authentication,
                "demand": packet.demand,
                "detect_mult": packet.detect_mult,
                "my_discriminator": packet.my_discriminator,
                "your_discriminator": packet.your_discriminator,
                "desired_min_tx_us": packet.desired_min_tx,
                "required_min_rx_us": packet.required_min_rx,
                "required_min_echo_rx_us": packet.required_min_echo_rx,
            },
        }),
        Err(rule) => json!({
            "type": "BFD",
            "length": length,
            "outcome": "discard",
            "offset": rule.offset(),
            "reason": rule.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: [u8; 19] =
        [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4];

    #[test]
    fn messages_of_a_stream_are_told_apart() {
        let said = |octets: &[u8]| {
            let said = messages(octets, &Context::default());
            said.iter().map(|line| (line["length"].clone(), line["outcome"].clone())).collect::<Vec<_>>()
        };
        let accept = (json!(19), json!("accept"));
        assert_eq!(said(&KEEPALIVE), std::slice::from_ref(&accept));
        assert_eq!(said(&[KEEPALIVE, KEEPALIVE].concat()), [accept.clone(), accept.clone()]);
        assert_eq!(said(&[&KEEPALIVE[..], &KEEPALIVE[..7]].concat()), [accept, (json!(7), json!("incomplete"))]);
        assert_eq!(said(&[&[0], &KEEPALIVE[1..], &KEEPALIVE].concat()), [(json!(38), json!("session_reset"))]);
        assert_eq!(said(&[]), [(json!(0), json!("incomplete"))]);
    }

    #[test]
    fn octets_pasted_without_quotes_are_one_message() {
        let arguments = |list: &[&str]| texts(&list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(arguments(&["ff", "ff", "0x00,", "ffff"]), ["ff ff 0x00, ffff"]);
        assert_eq!(arguments(&["ffff00", "ff"]), ["ffff00", "ff"]);
        assert_eq!(arguments(&["ff"]), ["ff"]);
        assert_eq!(arguments(&["", ""]), ["", ""]);
    }
}
