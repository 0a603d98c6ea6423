//! The configuration: TOML to options.

use std::path::Path;

use envmill::config::{self, RunOptions, Settings};

/// A configuration file. What is refused is refused with a message; what is taken can be shown.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let settings = match config::parse(text, Path::new("fuzz.toml")) {
        // These name files to be read at once, which may be any on this machine.
        Ok(settings) => Settings { scorers: None, bearer_file: None, ..settings },
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match RunOptions::resolve(settings, "stamp", |_| Some("secret".into())) {
        Ok(options) => drop(options.to_json()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
