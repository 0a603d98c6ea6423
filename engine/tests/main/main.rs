//! The command and its parts, end to end.

mod faults;
mod real_servers;
mod rig;
