//! JSON-RPC 1.0 envelopes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

/// A request, a notification, or a reply.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow, default)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
}

/// The bytes of a request.
pub(crate) fn request(id: u64, method: &str, params: &Json) -> Bytes {
    Bytes::from(json!({"id": id, "method": method, "params": params}).to_string())
}

/// The bytes of a reply; `id` and `result` are JSON already.
pub(crate) fn reply(id: &str, result: &str) -> Bytes {
    Bytes::from(format!(r#"{{"id":{id},"result":{result},"error":null}}"#))
}

/// The bytes of a refusal.
pub(crate) fn refusal(id: &str, error: &str) -> Bytes {
    Bytes::from(format!(r#"{{"id":{id},"result":null,"error":{}}}"#, Json::from(error)))
}

/// Whether an `error` member says that the server is too old for a method.
pub(crate) fn is_unknown_method(error: &str) -> bool {
    match serde_json::from_str::<Json>(error) {
        Ok(Json::String(text)) => text == "unknown method",
        Ok(object) => object.get("error").and_then(Json::as_str) == Some("unknown method"),
        Err(_) => false,
    }
}
