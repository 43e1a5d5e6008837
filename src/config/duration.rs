//! Durations as text: a number and a unit.

use std::time::Duration;

/// Units with their nanoseconds, longest names first where one is the beginning of another.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `300ms`, `1.5s`, `2m`. One number, one unit, nothing else.
///
/// # Errors
/// What is wrong, to be read after the name of the key.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(format!("is \"{text}\", which is not a duration"));
    }
    if unit.is_empty() {
        return Err(format!("is \"{text}\", which has no unit"));
    }
    let nanos = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, nanos)| *nanos)
        .ok_or_else(|| format!("is \"{text}\": there is no unit '{unit}'"))?;
    decimal(number, nanos).ok_or_else(|| format!("is \"{text}\", which is not a duration"))
}

/// `number` × `nanos`, exactly.
fn decimal(number: &str, nanos: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(nanos)?;
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(nanos) / u128::from(scale);
    Some(Duration::from_nanos(whole.checked_add(u64::try_from(part).ok()?)?))
}

/// The shortest text that [`parse`] reads back as the same duration.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (name, unit) =
        UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit))).copied().unwrap_or(("ns", 1));
    format!("{}{name}", nanos / u128::from(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("300ms", 300_000_000),
            ("9s", 9_000_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("0s", 0),
            ("50us", 50_000),
            ("1 h", 3_600_000_000_000_u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in
            ["", "s", "9", "-1s", "1.s", ".5s", "1.2.3s", "9sec", "9 s s", "99999999999999h", "1.0000000001s", "٣s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0_u64..u64::MAX / 2) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
