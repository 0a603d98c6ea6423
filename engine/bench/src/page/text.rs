//! Text from outside: escaped, shortened, quoted for a shell.

use std::{borrow::Cow, fmt::Write as _};

/// How many characters of a name stand where there is little room.
const NAME_CHARACTERS_MAX: usize = 80;

/// Appends `text` so that it is text wherever it stands, in an element or in an attribute between quotes.
///
/// Characters that cannot be seen and change what can be seen (controls, and those that turn the direction
/// of writing around) are written by their number instead: `⟨U+202E⟩`.
pub(super) fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            _ if is_hidden(character) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

/// Whether a character is better shown by its number.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
        || u32::from(character) & 0xfffe == 0xfffe
        || ('\u{e0000}'..='\u{e007f}').contains(&character)
        || ('\u{fdd0}'..='\u{fdef}').contains(&character)
}

/// The first `characters_max` characters, and how many there are where those are not all.
pub(super) fn shortened(text: &str, characters_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters_max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            let all = text.chars().count();
            Cow::Owned(format!("{}… ({all} characters)", &text[..end]))
        }
    }
}

/// A name as it stands where there is little room, and many times.
pub(super) fn short_name(name: &str) -> Cow<'_, str> {
    shortened(name, NAME_CHARACTERS_MAX)
}

/// A command as it can be given to a shell again, word for word.
pub(super) fn shell(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    if !word.chars().any(|c| is_hidden(c) || c == '\n' || c == '\t') {
        return Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")));
    }
    // What would not be seen, or not be copied, goes by its bytes.
    let mut quoted = String::from("$'");
    for character in word.chars() {
        match character {
            '\n' => quoted.push_str(r"\n"),
            '\t' => quoted.push_str(r"\t"),
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            _ if is_hidden(character) => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// Whether a link may lead there: a web address, and nothing that a browser runs or reads from the disk.
pub(super) fn is_web_address(url: &str) -> bool {
    let has_scheme = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    (has_scheme("http://") || has_scheme("https://"))
        && url.len() <= 2000
        && !url.chars().any(|c| is_hidden(c) || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        escape(text, &mut out);
        out
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escaped("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
        assert_eq!(escaped("Grüße, 你好 🙂"), "Grüße, 你好 🙂");
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(
            escaped("a\0b\u{202e}c\r\u{85}\u{ffff}"),
            "a⟨U+0000⟩b⟨U+202E⟩c⟨U+000D⟩⟨U+0085⟩⟨U+FFFF⟩"
        );
        assert_eq!(escaped("a\n\tb"), "a\n\tb");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äöü… (4 characters)");
    }

    #[test]
    fn commands_can_be_given_again() {
        let words =
            ["envmill", "bench", "it's", "", "a b", "x\u{1b}\n\u{202e}'"].map(str::to_owned);
        assert_eq!(shell(&words), r"envmill bench 'it'\''s' '' 'a b' $'x\x1b\n\xe2\x80\xae\''");
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert!(is_web_address("http://127.0.0.1:8000"));
        assert!(is_web_address("HTTPS://example.org/x?y=<z>"));
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ws://x",
            "http:/x",
            "",
            "http://a b",
            "höö",
        ] {
            assert!(!is_web_address(url), "{url}");
        }
    }
}
