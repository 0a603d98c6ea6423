//! Where sessions come from, as written after `--env`.

use std::{fmt, str::FromStr};

use envmill_native::Parameters;

use super::ConfigError;

/// One server, or what starts one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server that is there.
    Url(String),
    /// An embedded server of a native environment, started as a child.
    Native(Native),
    /// A command that starts a server, with `{port}` where the port goes.
    Command(String),
}

/// A native environment with its parameters, as in `native:synthetic?step_ms=5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    /// Its name.
    pub name: String,
    /// Its parameters as text.
    pub parameters: Parameters,
}

impl FromStr for Native {
    type Err = ConfigError;

    /// Reads `NAME[?parameter=value&...]` and checks that there is such an environment. Parameters may
    /// be written with `-` for `_`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut parameters = Parameters::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(ConfigError::value(
                    "env",
                    format!("`{pair}` has no value: write native:{name}?parameter=value"),
                ));
            };
            parameters.insert(key.replace('-', "_"), value.into());
        }
        envmill_native::environment(name, &parameters)?;
        Ok(Self { name: name.into(), parameters })
    }
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "native:{}", self.name)?;
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Native(native) => native.fmt(f),
            Self::Command(command) => f.write_str(command),
        }
    }
}

impl Source {
    /// Reads what stands after `--env`.
    ///
    /// # Errors
    ///
    /// There is no such native environment, or it takes no such parameter. URLs are checked when
    /// they are first used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        match text.strip_prefix("native:") {
            Some(native) => native.parse().map(Self::Native),
            None if text.is_empty() => {
                Err(ConfigError::value("env", "it is empty: write a URL or native:NAME"))
            }
            None if !text.contains("://") => Err(ConfigError::value(
                "env",
                format!("`{text}` is no URL: write http://HOST:PORT, https://HOST or native:NAME"),
            )),
            None => Ok(Self::Url(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_environments_are_read_with_their_parameters() {
        let source = Source::parse("native:synthetic?step-ms=5&payload_bytes=64").unwrap();
        assert_eq!(source.to_string(), "native:synthetic?payload_bytes=64&step_ms=5");
        assert_eq!(Source::parse("native:echo").unwrap().to_string(), "native:echo");
    }

    #[test]
    fn what_does_not_exist_is_named() {
        for (text, expected) in [
            ("native:carpole", "cartpole"),
            ("native:synthetic?stepms=5", "step_ms"),
            ("native:synthetic?step_ms=x", "step_ms"),
            ("native:synthetic?step_ms", "has no value"),
            ("localhost:8000", "http://"),
            ("", "empty"),
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
