//! The forms that records are kept in.

use std::{fmt, str::FromStr};

/// The form of a file of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One record a line of JSON: `trajectories.jsonl`.
    #[default]
    JsonLines,
    /// An Arrow IPC stream: `trajectories.arrows`.
    Arrow,
    /// An Arrow IPC stream while the run lasts, and `trajectories.parquet` made from it at its end.
    Parquet,
}

impl Format {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::JsonLines, Self::Arrow, Self::Parquet];

    /// The name, as the setting has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The file that records are written to while the run lasts.
    #[must_use]
    pub const fn running_file(self) -> &'static str {
        match self {
            Self::JsonLines => "trajectories.jsonl",
            Self::Arrow | Self::Parquet => "trajectories.arrows",
        }
    }

    /// The file that holds them after its end.
    #[must_use]
    pub const fn final_file(self) -> &'static str {
        match self {
            Self::JsonLines | Self::Arrow => self.running_file(),
            Self::Parquet => "trajectories.parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| format!("write jsonl, arrow or parquet, not `{text}`"))
    }
}
