//! Checks what an OpenEnv environment promises: its protocol, schemas, determinism, isolation, rewards.
//!
//! Start at [`run`], which takes a [`Subject`] (a server and how thoroughly it is looked at) through
//! [`CHECKS`] and gives a [`Report`] of [`Finding`]s. Each check is a module of `checks`, whose first words
//! say what it proves and why what is sound passes it. They play by a small client of their own, `wire`,
//! which can do what a proper one must not, and `play` makes episodes of it.
//!
//! Deliberately absent: starting servers and drawing actions, which the program around it does
//! ([`Surroundings`]); load, which is another command's.

mod capacity;
mod checks;
mod diff;
mod finding;
mod options;
mod play;
mod processes;
mod report;
mod run;
mod sample;
mod statistics;
mod subject;
mod wire;

use self::wire::excerpt as wire_excerpt;
pub use self::{
    checks::{CHECKS, Check},
    finding::{Finding, Severity},
    options::{Options, quote},
    report::{Report, Totals},
    run::{RunError, run},
    subject::{Baseline, Draw, Script, Started, Subject, Surroundings},
    wire::{Peer, PeerError, PeerOptions, Stop},
};
