//! What a run tells about itself, at its end.
//!
//! [`Summary`] is what `--json` prints and what the text at the end of a run is made from.

mod groups;
mod model;
mod scores;
mod summary;
mod text;

pub use groups::{Groups, TaskFigures, TaskSummary};
pub use scores::{ComponentMean, Scores};
pub use summary::{
    Children, Episodes, LatencyMs, Percentiles, ServerSummary, Summary, rss_peak_bytes,
};
