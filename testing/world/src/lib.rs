//! The simulated world: servers, the way to them, clocks and policies in virtual time, around the
//! core that ships.
//!
//! Start at [`World`]: it is made from a [`Plan`], moves on with [`World::step`] and
//! [`World::run`], and ends with [`World::check`]. While it plays, a ledger follows every command,
//! turn and record and knows which event the core must take and which it must not; what the core
//! gets wrong is a violation, named with its moment. [`play`] does all of it for one seed,
//! and [`play_resumed`] with a kill in between; [`play_whole_groups`] has scorers that see whole groups.
//!
//! Everything is drawn from the plan's seed, so a world that fails can be played again:
//! `cargo xtask seeds --seed SEED`.
//!
//! Deliberately absent: a core of its own, threads and real time.

mod accounts;
mod clock;
mod external;
mod grouped;
mod ledger;
mod lies;
mod memory;
mod plan;
mod random;
mod recorded;
mod resumed;
mod scorer;
mod seeds;
mod server;
mod shape;
mod versions;
mod world;

pub use plan::{ClockPlan, ExternalPlan, Plan, ServerPlan, Spell};
pub use random::Random;
pub use resumed::{play_resumed, play_resumed_whole_groups};
pub use seeds::{Failed, Played, each, plan_of, play, play_whole_groups, whole_groups_of};
pub use shape::Shape;
pub use world::World;
