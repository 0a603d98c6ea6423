//! Secrets that users keep in environment variables or in files.
//!
//! Start at [`Places`]: two settings, of which one says where the secret is. It is read once, and is one line;
//! white space around it is no part of it. Nothing shows a secret, and no error holds any of it.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// A longer file is that of no secret.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// One line of printable ASCII, as it can stand in a header.
#[derive(PartialEq, Eq)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret may be: two settings, and what they say.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    settings: [&'static str; 2],
    variable: Option<&'a str>,
    file: Option<&'a Path>,
}

impl<'a> Places<'a> {
    /// A token that servers are told: `bearer-env` and `bearer-file`.
    pub(crate) fn bearer(variable: Option<&'a str>, file: Option<&'a Path>) -> Self {
        Self { settings: ["bearer-env", "bearer-file"], variable, file }
    }

    /// A token that callers have to tell: `token-env` and `token-file`.
    pub(crate) fn token(variable: Option<&'a str>, file: Option<&'a Path>) -> Self {
        Self { settings: ["token-env", "token-file"], variable, file }
    }

    /// The secret, if a setting says where it is. `variable` reads an environment variable.
    ///
    /// # Errors
    ///
    /// Both settings are given, or there is no secret where one of them says: the setting, and what to do.
    pub(crate) fn read(
        self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Secret>, (&'static str, String)> {
        let [of_variable, of_file] = self.settings;
        match (self.variable, self.file) {
            (None, None) => Ok(None),
            (Some(name), None) => match Secret::in_variable(name, variable) {
                Ok(secret) => Ok(Some(secret)),
                Err(problem) => Err((of_variable, problem)),
            },
            (None, Some(path)) => match Secret::in_file(path) {
                Ok(secret) => Ok(Some(secret)),
                Err(problem) => Err((of_file, problem)),
            },
            (Some(_), Some(_)) => Err((of_file, format!("either `{of_variable}` or `{of_file}`"))),
        }
    }
}

/// The API key that the environment variable `name` holds, or the file that `name_FILE` names, if one of the
/// two is set to anything.
///
/// # Errors
///
/// Both are, or there is no secret: what to do.
pub(crate) fn api_key(
    name: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, String> {
    let given = |name: &str| variable(name).filter(|it| !it.trim().is_empty());
    let naming = format!("{name}_FILE");
    match (given(name), given(&naming)) {
        (None, None) => Ok(None),
        (Some(_), None) => Secret::in_variable(name, variable).map(Some),
        (None, Some(path)) => match Secret::in_file(Path::new(&path)) {
            Ok(secret) => Ok(Some(secret)),
            Err(problem) => Err(format!("{naming}: {problem}")),
        },
        (Some(_), Some(_)) => Err(format!("set either {name} or {naming}")),
    }
}

impl Secret {
    /// The secret itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The secret itself, for those who keep it.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// What the header `Authorization` says of a bearer of it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    fn in_variable(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let said = |problem: &str| format!("the environment variable {name} {problem}");
        let text = variable(name).ok_or_else(|| said("is not set"))?;
        Self::of(&text).map_err(said)
    }

    fn in_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let bytes = beginning(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "{shown} has more than {FILE_BYTES_MAX} bytes: a secret is one line"
            ));
        }
        let text = str::from_utf8(&bytes);
        let text =
            text.map_err(|_| format!("{shown} is no text in UTF-8: write the secret there"))?;
        Self::of(text).map_err(|problem| format!("{shown} {problem}"))
    }

    fn of(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty: write the secret there");
        }
        if text.contains(['\n', '\r']) {
            return Err("has several lines: a secret is one");
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err("has what no header may: a secret is letters, digits and signs of ASCII");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A file, or so much of it that it is seen to be too long.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::NamedTempFile;

    use super::*;

    fn file(bytes: &[u8]) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn variable(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some(" s3cret\n".into()),
            "BLANK" => Some(" \n".into()),
            "LINES" => Some("s3cret\ns3cret".into()),
            _ => None,
        }
    }

    #[test]
    fn a_secret_is_in_one_place_and_shown_nowhere() {
        let file = file(b"s3cret\r\n");
        for places in [Places::bearer(Some("TOKEN"), None), Places::token(None, Some(file.path()))]
        {
            let secret = places.read(variable).unwrap().unwrap();
            assert_eq!((secret.text(), secret.bearer().as_str()), ("s3cret", "Bearer s3cret"));
            assert_eq!(format!("{secret:?}"), "Secret(…)");
        }
        assert_eq!(Places::bearer(None, None).read(variable), Ok(None));
        let both = Places::token(Some("TOKEN"), Some(file.path())).read(variable).unwrap_err();
        assert_eq!(both, ("token-file", "either `token-env` or `token-file`".to_owned()));
    }

    #[test]
    fn what_is_wrong_with_a_variable_is_said_without_the_secret() {
        for (name, expected) in [
            ("UNSET", "the environment variable UNSET is not set"),
            ("BLANK", "the environment variable BLANK is empty"),
            ("LINES", "the environment variable LINES has several lines"),
        ] {
            let (setting, problem) = Places::bearer(Some(name), None).read(variable).unwrap_err();
            assert_eq!(setting, "bearer-env");
            assert!(problem.contains(expected) && !problem.contains("s3cret"), "{problem}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_the_secret() {
        let long = [b"s3cret".as_slice(), &[b'x'; 64 << 10]].concat();
        for (bytes, expected) in [
            (b"".as_slice(), "is empty: write the secret there"),
            (b" \n\n", "is empty"),
            (b"s3cret\ns3cret\n", "has several lines"),
            (b"s3cret\rs3cret", "has several lines"),
            (b"s3cret\xff", "is no text in UTF-8"),
            ("s3crét".as_bytes(), "letters, digits and signs"),
            (b"s3cret\0", "letters, digits and signs"),
            (&long, "has more than 65536 bytes"),
        ] {
            let file = file(bytes);
            let (setting, problem) =
                Places::bearer(None, Some(file.path())).read(variable).unwrap_err();
            assert_eq!(setting, "bearer-file");
            let name = file.path().display().to_string();
            assert!(problem.contains(expected) && problem.contains(&name), "{problem}");
            assert!(!problem.contains("s3cr"), "{problem}");
        }
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), &directory.path().join("none")] {
            let (_, problem) = Places::bearer(None, Some(path)).read(variable).unwrap_err();
            assert!(problem.starts_with("cannot read "), "{problem}");
        }
    }

    #[test]
    fn an_api_key_is_a_variable_or_a_file_that_one_names() {
        let file = file(b"s3cret\n");
        let of = |key: Option<&str>, path: Option<&Path>| {
            api_key("A_KEY", |name| match name {
                "A_KEY" => key.map(str::to_owned),
                "A_KEY_FILE" => path.map(|path| path.display().to_string()),
                _ => None,
            })
        };
        let path = Some(file.path());
        for (key, path) in [(Some("s3cret"), None), (None, path), (Some(""), path)] {
            assert_eq!(of(key, path).unwrap().unwrap().text(), "s3cret");
        }
        for (key, path) in [(None, None), (Some(" "), None), (None, Some(Path::new("")))] {
            assert_eq!(of(key, path), Ok(None));
        }
        assert_eq!(of(Some("a"), path).unwrap_err(), "set either A_KEY or A_KEY_FILE");
        let missing = of(None, Some(Path::new("/nowhere/key"))).unwrap_err();
        assert!(missing.starts_with("A_KEY_FILE: cannot read /nowhere/key"), "{missing}");
    }
}
