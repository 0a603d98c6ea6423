//! The numbers among `info`, which cross as a column of their own; whose they are is told once.

use bytes::Bytes;
use serde::Deserialize;

/// The most numbers of one `info` that cross so; further ones are part of its text.
pub(crate) const NUMBERS: usize = 16;

/// The most lists of keys that a process tells.
const LISTS_MAX: usize = 1024;

/// What kind of number it is, in JSON.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Kind {
    /// A whole one, of at most 53 bits.
    #[serde(rename = "i")]
    Whole,
    /// A fraction.
    #[serde(rename = "f")]
    Float,
    /// `true` or `false`.
    #[serde(rename = "b")]
    Truth,
}

/// The keys that a process's numbers have had, one list after another, as they came to be.
#[derive(Debug, Default)]
pub(crate) struct InfoKeys(Vec<Vec<(String, Kind)>>);

impl InfoKeys {
    /// Reads one more list: the text of a JSON array of `[key, "i" | "f" | "b"]`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn learn(&mut self, text: &[u8]) -> Result<(), String> {
        let keys: Vec<(String, Kind)> =
            serde_json::from_slice(text).map_err(|error| format!("keys of info: {error}"))?;
        if keys.is_empty() || keys.len() > NUMBERS {
            return Err(format!("{} keys of info, where there is room for {NUMBERS}", keys.len()));
        }
        if self.0.len() == LISTS_MAX {
            return Err(format!("more than {LISTS_MAX} lists of keys of info"));
        }
        let quoted = |(key, kind)| (serde_json::Value::String(key).to_string(), kind);
        self.0.push(keys.into_iter().map(quoted).collect());
        Ok(())
    }

    /// `info` as one JSON object, or empty where there is nothing: `numbers` with the keys of list
    /// `which`, counted from 1, and then what is in `rest`, an object or empty.
    pub(crate) fn print(&self, which: u32, numbers: &[f64], rest: Bytes) -> Bytes {
        let keys = (which as usize).checked_sub(1).and_then(|which| self.0.get(which));
        let Some(keys) = keys.filter(|keys| keys.len() <= numbers.len()) else { return rest };
        let mut out = Vec::with_capacity(32 * keys.len() + rest.len());
        for ((key, kind), number) in keys.iter().zip(numbers) {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(key.as_bytes());
            out.push(b':');
            match kind {
                Kind::Whole => out.extend_from_slice((*number as i64).to_string().as_bytes()),
                Kind::Truth => {
                    out.extend_from_slice(if *number == 0.0 { b"false" } else { b"true" });
                }
                // `null` for what is no number. A vector takes all that is written.
                Kind::Float => drop(serde_json::to_writer(&mut out, number)),
            }
        }
        match rest.strip_prefix(b"{") {
            Some(inner) => {
                if inner != b"}" {
                    out.push(b',');
                }
                out.extend_from_slice(inner);
            }
            None => out.push(b'}'),
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_the_rest_are_one_object() {
        let mut keys = InfoKeys::default();
        keys.learn(br#"[["lives","i"],["x \"y\"","f"],["won","b"]]"#).unwrap();
        keys.learn(br#"[["won","b"]]"#).unwrap();
        let numbers = [3.0, 0.1, 1.0];
        let print = |which, rest: &'static str| {
            String::from_utf8(keys.print(which, &numbers, rest.into()).to_vec()).unwrap()
        };
        assert_eq!(print(0, ""), "");
        assert_eq!(print(0, r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(print(1, ""), r#"{"lives":3,"x \"y\"":0.1,"won":true}"#);
        assert_eq!(print(2, r#"{"a": 1}"#), r#"{"won":true,"a": 1}"#);
        assert_eq!(print(2, "{}"), r#"{"won":true}"#);
        // What nobody has told of says nothing.
        assert_eq!(print(3, ""), "");
        assert_eq!(keys.print(1, &[1.0], Bytes::new()), "");
        assert!(
            keys.print(1, &[1.0, f64::NAN, 0.0], Bytes::new()).ends_with(b"\":null,\"won\":false}")
        );
    }

    #[test]
    fn nonsense_is_no_list_of_keys() {
        let mut keys = InfoKeys::default();
        let many = serde_json::json!(vec![("a", "i"); NUMBERS + 1]).to_string();
        for text in ["", "{}", "[]", r#"[["a","x"]]"#, "[[1,2]]", &many] {
            assert!(keys.learn(text.as_bytes()).is_err(), "{text}");
        }
    }
}
