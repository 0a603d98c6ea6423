//! JSON-RPC 2.0 as the reference server takes and answers it: on `POST /mcp`, on `WS /mcp` and in
//! the `mcp` frames of `/ws`.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::VIOLATIONS_MAX;
use crate::json_text;

/// The codes of JSON-RPC errors that the reference server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpcCode {
    /// What came is no JSON.
    Parse,
    /// It is JSON, but no request; or a request that is refused in this situation.
    InvalidRequest,
    /// There is no such method.
    MethodNotFound,
    /// The parameters are wrong, or name what does not exist.
    InvalidParams,
    /// The environment raised an exception, or has no tools.
    Internal,
    /// There is no room, the environment could not be made, or the session is over.
    Server,
}

impl RpcCode {
    /// The number that stands in the response.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Parse => -32_700,
            Self::InvalidRequest => -32_600,
            Self::MethodNotFound => -32_601,
            Self::InvalidParams => -32_602,
            Self::Internal => -32_603,
            Self::Server => -32_000,
        }
    }
}

/// What names a request in its response: the text of a JSON string, of an integer or of `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcId(Cow<'static, str>);

impl RpcId {
    /// The name of what has none, or could not be read.
    pub const NULL: Self = Self(Cow::Borrowed("null"));

    /// The text of the JSON value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the reference server makes of an id: whole numbers and booleans become integers. Else,
    /// why it is no integer.
    fn of(raw: &RawValue) -> Result<Self, (&'static str, &'static str)> {
        let text = raw.get();
        Ok(Self(match text.as_bytes().first() {
            Some(b'n') => return Ok(Self::NULL),
            Some(b'"') => text.to_owned().into(),
            Some(b't') => "1".into(),
            Some(b'f') => "0".into(),
            Some(b'-' | b'0'..=b'9') => integer(text)?,
            _ => return Err(("Input should be a valid integer", "int_type")),
        }))
    }
}

/// A JSON number as Python's `int`, by pydantic's rules: only whole ones, and no floats beyond 64
/// bits.
fn integer(text: &str) -> Result<Cow<'static, str>, (&'static str, &'static str)> {
    if text == "-0" {
        return Ok("0".into());
    }
    if !text.contains(['.', 'e', 'E']) {
        return Ok(text.to_owned().into());
    }
    match text.parse::<f64>() {
        Ok(number) if number.fract() != 0.0 => Err((
            "Input should be a valid integer, got a number with a fractional part",
            "int_from_float",
        )),
        Ok(number) if number.abs() < 9_223_372_036_854_775_808.0 => {
            Ok((number as i64).to_string().into())
        }
        _ => Err((
            "Unable to parse input string as an integer, exceeded maximum size",
            "int_parsing_size",
        )),
    }
}

/// A JSON-RPC request, as far as a server must know it. Its other parameters stay in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcCall {
    /// What names it.
    pub id: RpcId,
    /// What is asked.
    pub method: String,
    /// `params.session_id`, in Python's words; `None` where it is missing or what Python takes for
    /// false (`null`, `""`, 0, …).
    pub session_id: Option<String>,
}

/// Why a text is no JSON-RPC request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcRefusal {
    /// It is no JSON; why.
    #[error("Parse error: {0}")]
    NotJson(String),
    /// It is JSON, but no object. What the reference server says here is what Python says.
    #[error(
        "openenv.core.env_server.mcp_types.JsonRpcRequest() argument after ** must be a mapping, \
         not {0}"
    )]
    NotAnObject(&'static str),
    /// It is an object, but no request. The text begins as pydantic's does, and names each field and
    /// what is wrong with it; the input, which pydantic quotes in Python's notation, is left out.
    #[error("Invalid request: {0}")]
    Invalid(String),
}

/// Decodes one JSON-RPC request. Of a repeated key the last counts, as in Python.
///
/// # Errors
///
/// What is wrong, in the cases that the reference server tells apart. Its parser takes `NaN`,
/// `Infinity` and texts in UTF-16; this one does not.
pub fn decode_rpc(text: &[u8]) -> Result<RpcCall, RpcRefusal> {
    let not_json = |error: serde_json::Error| RpcRefusal::NotJson(error.to_string());
    let raw: &RawValue = serde_json::from_slice(text).map_err(not_json)?;
    if !raw.get().starts_with('{') {
        return Err(RpcRefusal::NotAnObject(json_text::python_type(raw.get())));
    }
    let envelope: Envelope<'_> = serde_json::from_str(raw.get()).map_err(not_json)?;
    envelope.call().map_err(|violations| RpcRefusal::Invalid(told(&violations)))
}

/// What is wrong with one field: its path, words for people, pydantic's name for it.
struct Wrong<'a>(Cow<'a, str>, &'static str, &'static str);

fn told(violations: &[Wrong<'_>]) -> String {
    use fmt::Write as _;

    let plural = if violations.len() == 1 { "" } else { "s" };
    let mut text = format!("{} validation error{plural} for JsonRpcRequest", violations.len());
    for Wrong(path, message, kind) in violations {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{path}\n  {message} [type={kind}]");
    }
    text
}

/// The top level of a request.
#[derive(Default)]
struct Envelope<'a> {
    jsonrpc: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    /// At most [`VIOLATIONS_MAX`].
    extra: Vec<Cow<'a, str>>,
}

impl<'a> Envelope<'a> {
    fn call(self) -> Result<RpcCall, Vec<Wrong<'a>>> {
        let mut wrong = Vec::new();
        match self.jsonrpc.map(json_text::string) {
            Some(Some(version)) if version == "2.0" => {}
            Some(_) => {
                wrong.push(Wrong("jsonrpc".into(), "Input should be '2.0'", "literal_error"));
            }
            None => wrong.push(Wrong("jsonrpc".into(), "Field required", "missing")),
        }
        let method = self.method.map(json_text::string);
        match &method {
            Some(Some(_)) => {}
            Some(None) => {
                wrong.push(Wrong("method".into(), "Input should be a valid string", "string_type"));
            }
            None => wrong.push(Wrong("method".into(), "Field required", "missing")),
        }
        let params = self.params.map(RawValue::get);
        if params.is_some_and(|params| !params.starts_with('{')) {
            wrong.push(Wrong("params".into(), "Input should be a valid dictionary", "dict_type"));
        }
        let id = self.id.map_or(Ok(RpcId::NULL), RpcId::of);
        if let Err((message, kind)) = id {
            wrong.push(Wrong("id.str".into(), "Input should be a valid string", "string_type"));
            wrong.push(Wrong("id.int".into(), message, kind));
        }
        wrong.extend(
            self.extra
                .into_iter()
                .map(|key| Wrong(key, "Extra inputs are not permitted", "extra_forbidden")),
        );
        match (id, method.flatten()) {
            (Ok(id), Some(method)) if wrong.is_empty() => {
                let session_id = params.and_then(session_id);
                Ok(RpcCall { id, method: method.into_owned(), session_id })
            }
            _ => {
                wrong.truncate(VIOLATIONS_MAX);
                Err(wrong)
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC request")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let value = Some(map.next_value()?);
                    match &*key {
                        "jsonrpc" => envelope.jsonrpc = value,
                        "method" => envelope.method = value,
                        "params" => envelope.params = value,
                        "id" => envelope.id = value,
                        _ if envelope.extra.len() < VIOLATIONS_MAX => envelope.extra.push(key),
                        _ => {}
                    }
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// `session_id` of the parameters, the text of a JSON object, as Python shows it.
fn session_id(params: &str) -> Option<String> {
    struct Picked<'a>(Option<&'a RawValue>);

    struct PickedVisitor;

    impl<'de> Visitor<'de> for PickedVisitor {
        type Value = Picked<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked<'de>, A::Error> {
            let mut picked = None;
            while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                if key == "session_id" {
                    picked = Some(value);
                }
            }
            Ok(Picked(picked))
        }
    }

    impl<'de: 'a, 'a> Deserialize<'de> for Picked<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(PickedVisitor)
        }
    }

    let Picked(raw) = serde_json::from_str(params).ok()?;
    let raw = raw?;
    match raw.get() {
        "null" | "false" | r#""""# | "[]" | "{}" => None,
        "true" => Some("True".into()),
        text if text.starts_with('"') => json_text::string(raw).map(Cow::into_owned),
        number if number.parse() == Ok(0.0) => None,
        other => Some(other.to_owned()),
    }
}

/// Appends a response that is an error. `data` is the text of one JSON value, or empty for `null`.
pub fn encode_rpc_error(out: &mut Vec<u8>, id: &RpcId, code: RpcCode, message: &str, data: &[u8]) {
    begin(out, id);
    out.extend_from_slice(br#","error":{"code":"#);
    json_text::put(out, &code.number());
    out.extend_from_slice(br#","message":"#);
    json_text::put_string(out, message);
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(if data.is_empty() { b"null" } else { data });
    out.extend_from_slice(b"}}");
}

/// Appends a response that is a result; `result` is the text of one JSON value.
pub fn encode_rpc_result(out: &mut Vec<u8>, id: &RpcId, result: &[u8]) {
    begin(out, id);
    out.extend_from_slice(br#","result":"#);
    out.extend_from_slice(result);
    out.push(b'}');
}

fn begin(out: &mut Vec<u8>, id: &RpcId) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.as_str().as_bytes());
}

/// What the reference server adds to the refusal of a session, as an error's `data`.
#[must_use]
pub fn capacity_data(active_sessions: u32, max_sessions: u32) -> Bytes {
    format!(r#"{{"active_sessions":{active_sessions},"max_sessions":{max_sessions}}}"#).into()
}

/// What it adds where the environment could not be made.
#[must_use]
pub fn factory_data(factory_name: &str) -> Bytes {
    let mut data = br#"{"factory_name":"#.to_vec();
    json_text::put_string(&mut data, factory_name);
    data.push(b'}');
    data.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> RpcCall {
        decode_rpc(text.as_bytes()).unwrap()
    }

    fn refused(text: &str) -> String {
        decode_rpc(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn ids_are_texts_and_whole_numbers() {
        for (id, becomes) in [
            ("1", "1"),
            ("-7", "-7"),
            ("-0", "0"),
            ("1.0", "1"),
            ("1e2", "100"),
            ("true", "1"),
            ("null", "null"),
            (r#""a\u0062""#, r#""a\u0062""#),
            ("1180591620717411303424", "1180591620717411303424"),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#);
            assert_eq!(call(&text).id.as_str(), becomes);
        }
        assert_eq!(call(r#"{"jsonrpc":"2.0","method":"m"}"#).id, RpcId::NULL);
        for id in ["1.5", "1e300", "[1]", "{}"] {
            let told = refused(&format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#));
            assert!(told.starts_with("Invalid request: 2 validation errors"), "{told}");
        }
    }

    #[test]
    fn sessions_are_named_as_python_names_them() {
        for (value, name) in [
            (r#""x""#, Some("x")),
            (r#""\u0078""#, Some("x")),
            ("5", Some("5")),
            ("true", Some("True")),
            ("[1]", Some("[1]")),
            ("0", None),
            ("0.0", None),
            ("null", None),
            (r#""""#, None),
            ("{}", None),
        ] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"m","params":{{"session_id":"first","session_id":{value}}}}}"#
            );
            assert_eq!(call(&text).session_id.as_deref(), name, "{value}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        assert!(refused("{bad").starts_with("Parse error: "));
        assert!(refused("").starts_with("Parse error: "));
        assert!(refused("[1]").ends_with("must be a mapping, not list"));
        assert!(refused("null").ends_with("must be a mapping, not NoneType"));
        assert_eq!(
            refused(r#"{"method":5,"params":null,"x":1}"#),
            "Invalid request: 4 validation errors for JsonRpcRequest\n\
             jsonrpc\n  Field required [type=missing]\n\
             method\n  Input should be a valid string [type=string_type]\n\
             params\n  Input should be a valid dictionary [type=dict_type]\n\
             x\n  Extra inputs are not permitted [type=extra_forbidden]"
        );
        let many: String = (0..1000).map(|key| format!(r#","{key}":0"#)).collect();
        assert!(refused(&format!(r#"{{"jsonrpc":"2.0"{many}}}"#)).len() < 2048);
    }

    #[test]
    fn responses_are_as_the_reference_servers() {
        let mut out = Vec::new();
        encode_rpc_error(&mut out, &RpcId::NULL, RpcCode::Parse, "Parse error", b"");
        assert_eq!(
            out,
            br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":null}}"#
        );
        out.clear();
        encode_rpc_result(&mut out, &RpcId("3".into()), br#"{"closed":true}"#);
        assert_eq!(out, br#"{"jsonrpc":"2.0","id":3,"result":{"closed":true}}"#);
        assert_eq!(factory_data("a\"b"), r#"{"factory_name":"a\"b"}"#);
    }
}
