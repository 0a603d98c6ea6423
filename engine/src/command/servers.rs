//! Flags for servers that want to know who asks.

use std::path::PathBuf;

use crate::{config, secret::Places};

#[derive(Debug, clap::Args)]
pub(super) struct ServerFlags {
    /// A header for every request to a server, such as "X-Key: 3". May be given several times. Values are in no
    /// report and no log.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,

    /// The environment variable that holds a bearer token for the servers.
    #[arg(long, value_name = "VARIABLE")]
    pub(super) bearer_env: Option<String>,

    /// The file that holds a bearer token for the servers, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub(super) bearer_file: Option<PathBuf>,

    /// Certificates (PEM) to trust besides the web's own.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

impl ServerFlags {
    /// The headers, with that of the token.
    pub(super) fn headers(&self) -> Result<Vec<(String, String)>, String> {
        let bearer = Places::bearer(self.bearer_env.as_deref(), self.bearer_file.as_deref());
        config::headers(&self.header, bearer, |name| std::env::var(name).ok())
            .map_err(|error| error.to_string())
    }
}

/// A header without its value, for reports.
pub(super) fn hidden(header: &str) -> String {
    format!("{}: …", header.split(':').next().unwrap_or_default())
}
