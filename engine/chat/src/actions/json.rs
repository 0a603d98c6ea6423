//! JSON in the midst of text.

use serde_json::Value;

/// How many places are tried: each may be read to the end of the text in vain.
const TRIES: usize = 64;

/// An object that was found.
pub(super) struct Found<'a> {
    /// As it is written.
    pub(super) text: &'a str,
    /// As it is read.
    pub(super) value: Value,
    /// What stands behind it.
    pub(super) rest: &'a str,
}

/// The first JSON object of a text.
pub(super) fn first_object(text: &str) -> Result<Found<'_>, String> {
    let mut why = "there is no JSON object in the text".to_owned();
    let mut from = 0;
    for index in 0..TRIES {
        let Some(at) = text[from..].find('{').map(|at| from + at) else { break };
        match object(&text[at..]) {
            Ok(found) => return Ok(found),
            // The first is most likely what was meant.
            Err(error) if index == 0 => why = error,
            Err(_) => {}
        }
        from = at + 1;
    }
    Err(why)
}

/// The object at the start of a text.
pub(super) fn object(text: &str) -> Result<Found<'_>, String> {
    let (value, end) = value(text)?;
    if !value.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    let (text, rest) = text.split_at(end);
    Ok(Found { text: text.trim_start(), value, rest })
}

/// The JSON value at the start of a text, and where it ends.
pub(super) fn value(text: &str) -> Result<(Value, usize), String> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match stream.next() {
        Some(Ok(value)) => Ok((value, stream.byte_offset())),
        Some(Err(error)) => Err(format!("the JSON is wrong: {error}")),
        None => Err("there is no JSON".to_owned()),
    }
}
