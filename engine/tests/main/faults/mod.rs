//! What goes wrong around a run, on purpose and against real processes: every episode is accounted
//! for, none twice, the run ends, and its exit status and summary say what happened.

mod addresses;
mod bad_input;
mod frames;
mod full_disk;
mod interrupts;
mod replicas;
mod servers;
mod upgrades;
mod vanished;
