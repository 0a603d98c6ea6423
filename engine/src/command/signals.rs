//! Ctrl-C and its kin.

use std::sync::Arc;

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};

use crate::{driver::Control, progress::say};

/// Passes interrupts on to a run for as long as this process lives.
pub(super) fn pass_on(control: Control) -> std::io::Result<()> {
    // A file that may not grow any further is an error of its write, like a full disk, where the
    // signal's default would end the process in the middle of a line.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            control.interrupt();
            tell_interrupt(control.interrupts());
        }
    })?;
    Ok(())
}

/// Says on standard error what an interrupt leads to, the first or a later one.
pub fn tell_interrupt(interrupts: u8) {
    say(match interrupts {
        1 => "ending: no more episodes are started; once more to cut those that run",
        _ => "ending now",
    });
}
