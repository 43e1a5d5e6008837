//! JSON → [`Value`] (RFC 7047 §5.1), straight from the text, with strings shared where they repeat.

use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::{Value as Json, json};

use super::intern::Interner;
use super::value::{Atom, Uuid, Value};

/// Decodes one column. `keys`, if given, are the only map keys kept.
pub(crate) fn column(
    text: &str,
    keys: Option<&[Arc<str>]>,
    interner: &mut Interner,
) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut value = ValueSeed { keys, interner }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    value.sort();
    Ok(value)
}

impl Value {
    /// The value as JSON (RFC 7047 §5.1).
    pub fn to_json(&self) -> Json {
        let atom = |atom: &Atom| match atom {
            Atom::Integer(n) => json!(n),
            Atom::Real(x) => json!(x),
            Atom::Boolean(b) => json!(b),
            Atom::String(text) => json!(**text),
            Atom::Uuid(uuid) => json!(["uuid", uuid.to_string()]),
        };
        match self {
            Self::Set(atoms) => match atoms.as_slice() {
                [one] => atom(one),
                _ => json!(["set", atoms.iter().map(atom).collect::<Vec<_>>()]),
            },
            Self::Map(pairs) => {
                json!(["map", pairs.iter().map(|(k, v)| json!([atom(k), atom(v)])).collect::<Vec<_>>()])
            }
        }
    }

    /// The value that [`Value::to_json`] wrote, or whoever else keeps to RFC 7047.
    ///
    /// # Errors
    /// It is none; what is wrong with it.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        column(&json.to_string(), None, &mut Interner::off()).map_err(|error| error.to_string())
    }
}

struct ValueSeed<'a> {
    keys: Option<&'a [Arc<str>]>,
    interner: &'a mut Interner,
}

struct AtomSeed<'a>(&'a mut Interner);

struct SetSeed<'a>(&'a mut Interner);

struct MapSeed<'a> {
    keys: Option<&'a [Arc<str>]>,
    interner: &'a mut Interner,
}

struct PairSeed<'a> {
    keys: Option<&'a [Arc<str>]>,
    interner: &'a mut Interner,
}

fn end<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    match seq.next_element::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(A::Error::custom("too many elements")),
    }
}

fn uuid<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Atom, A::Error> {
    let text: &str = seq.next_element()?.ok_or_else(|| A::Error::custom("a UUID is missing"))?;
    let uuid = Uuid::try_parse(text).map_err(|_| A::Error::custom(format!("'{text}' is not a UUID")))?;
    end(seq)?;
    Ok(Atom::Uuid(uuid))
}

/// The visitor methods that scalars of both seeds share.
macro_rules! scalars {
    ($wrap:expr) => {
        fn visit_bool<E: Error>(self, v: bool) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Boolean(v)))
        }
        fn visit_i64<E: Error>(self, v: i64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Integer(v)))
        }
        fn visit_u64<E: Error>(self, v: u64) -> Result<Self::Value, E> {
            i64::try_from(v).map(|v| $wrap(Atom::Integer(v))).map_err(|_| E::custom("an integer beyond 64 bits"))
        }
        fn visit_f64<E: Error>(self, v: f64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Real(v)))
        }
    };
}

impl<'de> Visitor<'de> for AtomSeed<'_> {
    type Value = Atom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB atom")
    }

    scalars!(std::convert::identity);

    fn visit_str<E: Error>(self, v: &str) -> Result<Atom, E> {
        Ok(Atom::String(self.0.get(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Atom, A::Error> {
        match seq.next_element::<&str>()? {
            Some("uuid") => uuid(&mut seq),
            _ => Err(A::Error::custom("an array that is not a UUID")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for AtomSeed<'_> {
    type Value = Atom;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Atom, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB value")
    }

    scalars!(|atom| Value::Set(vec![atom]));

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Set(vec![Atom::String(self.interner.get(v))]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let value = match seq.next_element::<&str>()? {
            Some("uuid") => return Ok(Value::Set(vec![uuid(&mut seq)?])),
            Some("set") => seq.next_element_seed(SetSeed(self.interner))?.map(Value::Set),
            Some("map") => seq.next_element_seed(MapSeed { keys: self.keys, interner: self.interner })?.map(Value::Map),
            _ => return Err(A::Error::custom("an array that is neither uuid nor set nor map")),
        };
        end(&mut seq)?;
        value.ok_or_else(|| A::Error::custom("a set or map without elements array"))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SetSeed<'_> {
    type Value = Vec<Atom>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of atoms")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Atom>, A::Error> {
        let mut atoms = Vec::new();
        while let Some(atom) = seq.next_element_seed(AtomSeed(&mut *self.0))? {
            atoms.push(atom);
        }
        atoms.shrink_to_fit();
        Ok(atoms)
    }
}

impl<'de> DeserializeSeed<'de> for SetSeed<'_> {
    type Value = Vec<Atom>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Atom>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for MapSeed<'_> {
    type Value = Vec<(Atom, Atom)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of pairs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = seq.next_element_seed(PairSeed { keys: self.keys, interner: &mut *self.interner })? {
            pairs.extend(pair);
        }
        pairs.shrink_to_fit();
        Ok(pairs)
    }
}

impl<'de> DeserializeSeed<'de> for MapSeed<'_> {
    type Value = Vec<(Atom, Atom)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PairSeed<'_> {
    /// `None` for a key nobody asked for.
    type Value = Option<(Atom, Atom)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let short = || A::Error::custom("a pair of fewer than two");
        let key = seq.next_element_seed(AtomSeed(&mut *self.interner))?.ok_or_else(short)?;
        let wanted = self.keys.is_none_or(|keys| keys.iter().any(|k| matches!(&key, Atom::String(s) if s == k)));
        let pair = if wanted {
            Some((key, seq.next_element_seed(AtomSeed(&mut *self.interner))?.ok_or_else(short)?))
        } else {
            seq.next_element::<IgnoredAny>()?.ok_or_else(short)?;
            None
        };
        end(&mut seq)?;
        Ok(pair)
    }
}

impl<'de> DeserializeSeed<'de> for PairSeed<'_> {
    type Value = Option<(Atom, Atom)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Value, String> {
        column(text, None, &mut Interner::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_of_the_rfc() {
        let s = |text: &str| Atom::String(text.into());
        let uuid = "36bef046-7da7-43a5-905a-c17899216fcb";
        let cases = [
            ("\"a\\n\\u00e9\"", Value::Set(vec![s("a\né")])),
            ("7", Value::Set(vec![Atom::Integer(7)])),
            ("-7", Value::Set(vec![Atom::Integer(-7)])),
            ("1.5", Value::Set(vec![Atom::Real(1.5)])),
            ("true", Value::Set(vec![Atom::Boolean(true)])),
            (&format!(r#"["uuid","{uuid}"]"#), Value::Set(vec![Atom::Uuid(uuid.parse().unwrap())])),
            (r#"["set",[]]"#, Value::Set(vec![])),
            (r#"["set",["b","a"]]"#, Value::Set(vec![s("a"), s("b")])),
            (r#"["map",[["k","v"],["a","b"]]]"#, Value::Map(vec![(s("a"), s("b")), (s("k"), s("v"))])),
        ];
        for (text, value) in cases {
            assert_eq!(decode(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "null",
            "{}",
            "[]",
            r#"["uuid"]"#,
            r#"["uuid","x"]"#,
            r#"["set"]"#,
            r#"["set",[],1]"#,
            r#"["set",[["set",[]]]]"#,
            r#"["map",[["a"]]]"#,
            r#"["map",[["a","b","c"]]]"#,
            r#"["bag",[]]"#,
            "18446744073709551615",
            "1 2",
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_nobody_asked_for_are_dropped() {
        let keys = [Arc::from("b")];
        let value =
            column(r#"["map",[["a","1"],["b","2"],["c",["uuid","x"]]]]"#, Some(&keys), &mut Interner::default());
        assert_eq!(value.unwrap(), Value::Map(vec![(Atom::String("b".into()), Atom::String("2".into()))]));
    }
}
