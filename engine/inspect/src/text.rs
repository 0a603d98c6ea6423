//! Text for a terminal, none of which may act on it.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
};

/// `text` with everything escaped that a terminal acts on rather than shows: control characters (with
/// them every escape sequence, in seven bits or eight), line ends, and the marks that turn the direction
/// of writing.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        let _ = match character {
            '\n' => escaped.write_str("\\n"),
            '\r' => escaped.write_str("\\r"),
            '\t' => escaped.write_str("\\t"),
            it if !acts(it) => escaped.write_char(it),
            it if u32::from(it) < 0x100 => write!(escaped, "\\x{:02x}", u32::from(it)),
            it => write!(escaped, "\\u{{{:x}}}", u32::from(it)),
        };
    }
    Cow::Owned(escaped)
}

/// Whether a terminal may do something else than show it.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// `text`, [`escaped`], of which at most about `bytes_max` bytes are shown, and then how long it is.
#[must_use]
pub fn folded(text: &str, bytes_max: Option<usize>) -> String {
    match bytes_max {
        Some(most) if text.len() > most => {
            let shown = &text[..text.floor_char_boundary(most)];
            format!("{}…({} bytes)", escaped(shown), text.len())
        }
        _ => escaped(text).into_owned(),
    }
}

/// A value as one line of JSON without control characters. (JSON itself lets those of eight bits stand
/// as they are.)
#[must_use]
pub fn json_line(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if !text.contains(acts) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        // They can only stand within strings, and none needs a pair of surrogates.
        let _ = match character {
            it if acts(it) => write!(line, "\\u{:04x}", u32::from(it)),
            it => line.write_char(it),
        };
    }
    line
}

/// Colours, where there is a terminal that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// Whether there is.
    pub is_on: bool,
}

impl Paint {
    /// What stands out.
    #[must_use]
    pub fn strong(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// What is in the background.
    #[must_use]
    pub fn faint(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// What went well, or was sampled.
    #[must_use]
    pub fn good(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: impl Display) -> String {
        self.with("1;31", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.is_on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// A number with four decimals at most.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e9) {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// A time in the unit that suits it.
pub(crate) fn time(us: f64) -> String {
    if us >= 1e6 {
        format!("{:.2} s", us / 1e6)
    } else if us >= 1e3 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{us:.0} µs")
    }
}

/// So many of something.
pub(crate) fn counted(count: u64, one: &str) -> String {
    let (stem, many) = match one.strip_suffix('y') {
        Some(stem) => (stem, "ies"),
        None => (one, "s"),
    };
    if count == 1 { format!("1 {one}") } else { format!("{count} {stem}{many}") }
}

/// Bytes of whatever came from outside, as text.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_gets_through() {
        let wild = "a\u{1b}[31mred\u{9b}2J\u{7f}\0\r\n\t\u{202e}é\u{7}";
        assert_eq!(escaped(wild), "a\\x1b[31mred\\x9b2J\\x7f\\x00\\r\\n\\t\\u{202e}é\\x07");
        assert!(!escaped(wild).contains(acts));
        assert!(matches!(escaped("plain é 猫"), Cow::Borrowed(_)));
        let line = json_line(&serde_json::json!({ "wild": wild }));
        assert!(!line.contains(acts), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["wild"], wild);
    }

    #[test]
    fn long_texts_say_how_long_they_are() {
        assert_eq!(folded("abcdef", Some(6)), "abcdef");
        assert_eq!(folded("abcdefg", Some(6)), "abcdef…(7 bytes)");
        assert_eq!(folded("éé", Some(3)), "é…(4 bytes)");
        assert_eq!(folded("abcdefg", None), "abcdefg");
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, -0.0, 1.0, 0.5, -0.000_01, 1e12, 21.123_456].map(number);
        assert_eq!(all, ["0", "0", "1", "0.5", "-1.000e-5", "1.000e12", "21.1235"]);
        assert_eq!([12.0, 5120.0, 1.27e6].map(time), ["12 µs", "5.12 ms", "1.27 s"]);
        assert_eq!(counted(1, "retry"), "1 retry");
        assert_eq!(counted(2, "retry"), "2 retries");
    }
}
