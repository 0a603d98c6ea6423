//! The trait.

use envmill_core::ToScore;
use envmill_protocol::Trajectory;

/// Something that says what episodes were worth.
///
/// # Contract
///
/// * Every episode that was submitted is answered by one
///   [`Input::Scored`](envmill_core::Input::Scored) with its ticket, over the driver's
///   [`Control`](crate::driver::Control), in any order and as late as it takes; one that is recorded
///   meanwhile (its job was cancelled, its group is complete without it) need not be.
/// * No call blocks.
/// * Nothing in an episode makes a scorer panic: it answers with an error, with which the episode fails.
pub trait Scorer: Send {
    /// Takes all episodes, leaving the list empty.
    fn submit(&mut self, episodes: &mut Vec<ToScore>);

    /// Says that these episodes are over, scored ones and others: those that wait for a score no longer
    /// do, and who keeps the members of a group knows which ones will not come.
    fn recorded(&mut self, records: &[Trajectory]);
}
