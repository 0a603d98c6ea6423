//! What a run is told: flags and a file, resolved to [`RunOptions`].
//!
//! Start at [`Settings`]: each of its fields is both a flag of `envmill run` and a key of the file
//! named with `--config`. Flags win over the file, the file over the defaults.

mod error;
mod file;
mod options;
mod resume;
mod reuse;
mod rules;
mod sampling;
mod scorers;
mod settings;
mod source;
mod stamp;

pub use error::ConfigError;
pub(crate) use file::{Known, name_problem, parse_as};
pub use file::{from_json, parse, read};
pub(crate) use options::headers;
pub use options::{Limits, RunOptions};
pub(crate) use resume::changed;
pub use resume::resumed_name;
pub(crate) use reuse::Reuse;
pub use rules::Rules;
pub use sampling::TaskSampling;
pub use settings::Settings;
pub use source::{ClassSource, GymnasiumSource, Local, Native, Source};
