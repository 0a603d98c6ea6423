//! Small dealings with JSON text: appending it to a buffer, looking into it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Appends `value` as compact JSON.
///
/// Writing to a `Vec` cannot fail, and neither can the types of this crate that come here: strings,
/// numbers, and slices of them (numbers that are not finite become `null`).
pub(crate) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// Appends `text` as a JSON string, quoted and escaped.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    put(out, text);
}

/// Whether `text` is exactly one JSON value, without building it.
pub(crate) fn is_value(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// What a JSON string says; `None` where `raw` is another value, or a string that no `str` can hold
/// (half of a surrogate pair).
pub(crate) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    if text.contains('\\') {
        return serde_json::from_str(text).ok().map(Cow::Owned);
    }
    text.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
}

/// What Python calls the type of a JSON value.
pub(crate) fn python_type(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => "dict",
        Some(b'[') => "list",
        Some(b'"') => "str",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ if text.contains(['.', 'e', 'E']) => "float",
        _ => "int",
    }
}

/// For an optional field that is there also where it is `null`.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
