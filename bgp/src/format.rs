//! What keeps the format of a state that is handed over what it was.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::driver::hand_over::FORMAT;

/// Holds a state to the one that the first version of this format wrote, which every version of the same format has to read, and to
/// write so that the first can read it; answers that one. Whoever makes this fail gives what was added a default, and leaves alone what
/// was there; or raises [`FORMAT`], so that an upgrade between the two is refused before it begins, and keeps what this prints as the
/// file of the new format. The file of a format is never changed.
pub(crate) fn stays<T: Serialize + DeserializeOwned>(name: &str, now: &T) -> T {
    let file = format!("{}/{name}-{FORMAT}.json", env!("CARGO_MANIFEST_DIR"));
    let text = serde_json::to_string_pretty(now).unwrap();
    // By way of the text, as numbers of floating point are read.
    let now: Value = serde_json::from_str(&text).unwrap();
    let written =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}; it is to hold\n{text}"));
    let written: Value = serde_json::from_str(&written).unwrap();
    let read = serde_json::from_value::<T>(written.clone());
    let read = read.unwrap_or_else(|error| panic!("format {FORMAT} cannot be read: {error}; raise FORMAT"));
    let again = serde_json::to_value(&read).unwrap();
    let lost = [missing(&written, &again, ""), missing(&written, &now, "")].concat();
    assert!(lost.is_empty(), "format {FORMAT} is no longer written: raise FORMAT; {}", lost.join(", "));
    read
}

/// What is in the first and not in the second, besides elements of lists.
fn missing(old: &Value, new: &Value, at: &str) -> Vec<String> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let of = |(key, old): (&String, &Value)| {
                let at = format!("{at}.{key}");
                new.get(key).map_or_else(|| vec![at.clone()], |new| missing(old, new, &at))
            };
            old.iter().flat_map(of).collect()
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => old
            .iter()
            .zip(new)
            .enumerate()
            .flat_map(|(i, (old, new))| missing(old, new, &format!("{at}[{i}]")))
            .collect(),
        (old, new) if old == new => Vec::new(),
        _ => vec![format!("{at}: {old} has become {new}")],
    }
}
