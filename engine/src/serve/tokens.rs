//! Who may speak to a service, as the operator writes it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// A shorter token can be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Named bearer tokens: a TOML file with one `NAME = "TOKEN"` a line. Their `Debug` shows names only.
#[derive(Clone)]
pub struct Tokens(BTreeMap<String, String>);

/// A file of tokens cannot be used. No message holds a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read the tokens in {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no list of names and tokens, or an empty one.
    #[error("{}: it must have one NAME = \"TOKEN\" a line, and at least one", .0.display())]
    Form(PathBuf),
    /// A token is too short, or cannot stand in a header.
    #[error(
        "{}: the token of `{name}` must have at least {TOKEN_CHARACTERS_MIN} characters, printable ones \
         of ASCII without blanks; `openssl rand -hex 32` makes one",
        .path.display()
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Whose token.
        name: String,
    },
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, has no tokens, or one that cannot be used.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let path = path.to_owned();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(TokensError::Unreadable { path, source }),
        };
        // What the parser says shows the line, and so the token.
        let tokens: BTreeMap<String, String> = match toml::from_str(&text) {
            Ok(tokens) => tokens,
            Err(_) => return Err(TokensError::Form(path)),
        };
        if tokens.is_empty() {
            return Err(TokensError::Form(path));
        }
        let is_short = |token: &String| {
            token.len() < TOKEN_CHARACTERS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match tokens.iter().find(|(_, token)| is_short(token)) {
            Some((name, _)) => Err(TokensError::Token { path, name: name.clone() }),
            None => Ok(Self(tokens)),
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and tokens. Secret.
    pub fn into_pairs(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, TokensError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        fs::write(&path, text).unwrap();
        Tokens::read(&path)
    }

    #[test]
    fn names_are_shown_and_tokens_are_not() {
        let tokens = read("b = \"0123456789abcdef\"\na = \"fedcba9876543210\"").unwrap();
        assert_eq!(format!("{tokens:?}"), r#"{"a", "b"}"#);
        assert_eq!(tokens.into_pairs().nth(1).unwrap().1, "0123456789abcdef");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (text, expected) in [
            ("", "at least one"),
            ("a = \"s3cret", "NAME = \"TOKEN\""),
            ("[tokens]\na = \"s3cret\"", "NAME = \"TOKEN\""),
            ("a = \"s3cret\"", "`a` must have at least 16"),
            ("a = \"s3cret s3cret s3cret\"", "without blanks"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
        }
    }
}
