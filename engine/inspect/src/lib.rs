//! Looks into recorded trajectories.
//!
//! Start at [`Summary`], which takes records one by one and tells what they come to; [`Filter`] says
//! which of them count, [`Show`] tells one episode for people, and [`list_line`] one episode a line.
//! [`Comparison`] tells where two plays of an episode part, and [`likely_cause`] what that may come from;
//! [`read_episode_record`] takes what `openenv collect` writes, and [`read_training_trace`] what harnesses do. Whatever came from outside and is printed
//! goes through [`escaped`] or [`json_line`].
//!
//! Deliberately absent: files, their forms, terminals and servers, which are the engine's.

mod cause;
mod compare;
mod episode_record;
mod filter;
mod groups;
mod interval;
mod list;
mod pointer;
mod sample;
mod show;
mod summary;
mod tally;
#[cfg(test)]
mod testing;
mod text;
mod training_trace;

pub use cause::{Cause, likely_cause};
pub use compare::{Comparison, Difference};
pub use episode_record::{is_episode_record, read_episode_record};
pub use filter::{Episodes, Filter, FilterError, RewardFilter, Version, episode_number};
pub use groups::Groups;
pub use interval::{Interval, IntervalError};
pub use list::{list_json, list_line};
pub use pointer::pointer_between;
pub use sample::Sample;
pub use show::{Show, TokenText};
pub use summary::{About, FileAbout, GroupLines, JobAbout, Summary};
pub use tally::Tally;
pub use text::{Paint, escaped, folded, json_line};
pub use training_trace::{TraceError, is_training_trace, read_training_trace};
