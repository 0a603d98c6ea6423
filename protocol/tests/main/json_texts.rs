//! Arbitrary JSON, as text: with spaces and newlines between tokens, escapes, numbers of any size,
//! repeated keys and nesting, which a value of `serde_json` would tidy away.

use proptest::{collection::vec, prelude::*};

/// The text of one JSON value.
pub(crate) fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..5), space()).prop_map(|(items, space)| format!(
                "[{space}{}]",
                items.join(&format!(",{space}"))
            )),
            members(inner),
        ]
    })
}

/// The text of one JSON object.
pub(crate) fn object() -> impl Strategy<Value = String> {
    members(value())
}

/// The text of one JSON number.
pub(crate) fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,30})",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
    ]
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        // What serde_json escapes, and what it does not.
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        // Escapes that need not be, half surrogate pairs among them.
        "\"(\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|[a-zé😀 ]){0,8}\"",
    ]
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (vec((string(), value), 0..5), space()).prop_map(|(members, space)| {
        let members: Vec<_> =
            members.iter().map(|(key, value)| format!("{space}{key}:{space}{value}")).collect();
        format!("{{{}{space}}}", members.join(","))
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n"), 1 => Just("\r\n\t ")]
}
