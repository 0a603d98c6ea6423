//! The bodies of the fuzz targets: each takes any bytes, and panics where the code under test breaks a
//! promise.
//!
//! Start at [`TARGETS`]. The programs in `fuzz/` hand them to libFuzzer (`cargo xtask fuzz`), the test
//! of this crate hands them the committed corpora.
//!
//! Deliberately absent: anything that only runs under a fuzzer.

#![allow(clippy::expect_used, reason = "a broken promise is told by a panic")]

#[cfg(feature = "formats")]
mod arrow;
mod codec;
mod record;
mod recording;
#[cfg(feature = "engine")]
mod settings;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its program and of its corpus.
    pub name: &'static str,
    /// What it does with the bytes.
    pub run: fn(&[u8]),
}

/// Every target, in the order of their names.
pub const TARGETS: &[Target] = &[
    #[cfg(feature = "formats")]
    Target { name: "arrow", run: arrow::arrow },
    Target { name: "client_decode", run: codec::client_decode },
    #[cfg(feature = "engine")]
    Target { name: "config", run: settings::config },
    Target { name: "error_frame", run: codec::error_frame },
    Target { name: "field_path", run: codec::field_path },
    Target { name: "group", run: record::group },
    Target { name: "record", run: record::record },
    Target { name: "recording", run: recording::recording },
    #[cfg(feature = "service")]
    Target { name: "requests", run: envmill_service::fuzzing::requests },
    Target { name: "server_decode", run: codec::server_decode },
    #[cfg(feature = "worker")]
    Target { name: "websocket", run: envmill_openenv::fuzzing::websocket },
];

/// Runs the target named `name`; does nothing if there is none.
pub fn run(name: &str, bytes: &[u8]) {
    if let Some(target) = TARGETS.iter().find(|target| target.name == name) {
        (target.run)(bytes);
    }
}
