//! `decode`: what a message says, or the verdict on it.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use bgp::bfd::packet::Packet;
use bgp::types::{Families, Family, PeerKind};
use bgp::wire::{Context, describe::describe};
use serde_json::json;

use super::args::{DecodeArgs, FamilyArg};
use super::output::{self, Failure};

/// One message a line, from the arguments or stdin, to one JSON line each. Exit code 1 if something was not hexadecimal.
pub(super) fn run(arguments: &DecodeArgs) -> Result<ExitCode, Failure> {
    let context = context(arguments);
    let mut all_hex = true;
    let mut one = |text: &str| {
        let line = match octets(text) {
            Ok(octets) if arguments.bfd => bfd(&octets),
            Ok(octets) => serde_json::to_value(describe(&octets, &context)).unwrap_or_else(|e| error(&e.to_string())),
            Err(fault) => {
                all_hex = false;
                error(&fault)
            }
        };
        output::print(&format!("{line}\n"))
    };
    if arguments.hex.is_empty() {
        if std::io::stdin().is_terminal() {
            output::diagnose("one message in hexadecimal a line; end with ctrl-D\n");
        }
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::Input(format!("cannot read stdin: {error}")))?;
            if !line.trim().is_empty() {
                one(&line)?;
            }
        }
    } else {
        for text in &arguments.hex {
            one(text)?;
        }
    }
    Ok(if all_hex { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A session that has agreed on everything but what the arguments take away or add.
fn context(arguments: &DecodeArgs) -> Context {
    let family = |f: &FamilyArg| match f {
        FamilyArg::Ipv4 => Family::Ipv4,
        FamilyArg::Ipv6 => Family::Ipv6,
    };
    Context {
        as4: !arguments.as2,
        families: Families::ALL,
        add_path: arguments.add_path.iter().map(family).collect(),
        extended_next_hop: true,
        extended_message: arguments.extended,
        enhanced_refresh: true,
        peer: if arguments.ibgp { PeerKind::Ibgp } else { PeerKind::Ebgp },
        ..Context::default()
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

/// Hexadecimal as people paste it: with spaces, colons or `0x`.
fn octets(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::with_capacity(text.len());
    for (place, c) in text.chars().enumerate() {
        match c.to_digit(16) {
            Some(digit) => digits.push(u8::try_from(digit).unwrap_or(0)),
            None if c.is_whitespace() || c == ':' || c == '-' => {}
            None => return Err(format!("character {}, '{}', is not hexadecimal", place + 1, c.escape_default())),
        }
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("an odd number of hexadecimal digits".to_owned());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_as_people_paste_it() {
        assert_eq!(octets(" 0xFF:00 1a-2b\n"), Ok(vec![0xff, 0, 0x1a, 0x2b]));
        assert_eq!(octets(""), Ok(vec![]));
        assert_eq!(octets("abc"), Err("an odd number of hexadecimal digits".to_owned()));
        assert_eq!(octets("ab xy"), Err("character 4, 'x', is not hexadecimal".to_owned()));
    }
}
