//! Ctrl-C and its kin.

use std::sync::Arc;

use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};

use crate::{driver::Control, progress::say, serve::Stop};

/// The exit status of what is not let end in good order.
const CUT: i32 = 130;

/// Passes interrupts on to a run for as long as this process lives.
pub(super) fn pass_on(control: Control) -> std::io::Result<()> {
    on_each(move || {
        control.interrupt();
        tell_interrupt(control.interrupts());
    })
}

/// The same for a benchmark, which says something else of it.
pub(super) fn pass_on_to_bench(control: Control) -> std::io::Result<()> {
    on_each(move || {
        control.interrupt();
        say(match control.interrupts() {
            1 => {
                "ending: the report tells of what was measured until now; once more to end at once"
            }
            _ => "ending now",
        });
    })
}

/// Passes the first interrupt on to whoever reads or writes files meanwhile; the second ends this process at
/// once.
pub(super) fn cut(control: Control) -> std::io::Result<()> {
    on_each(move || {
        if control.interrupts() > 0 {
            std::process::exit(CUT);
        }
        control.interrupt();
    })
}

/// Has what serves end in good order with the first interrupt, of which `told` says what becomes of the
/// unfinished, and at once with the second.
pub(super) fn stop(stop: Stop, told: &'static str) -> std::io::Result<()> {
    on_each(move || {
        if stop.is_asked() {
            std::process::exit(CUT);
        }
        say(told);
        stop.ask();
    })
}

/// Has a check end with what it has found with the first interrupt, and at once with the second.
pub(super) fn stop_check(stop: envmill_check::Stop) -> std::io::Result<()> {
    on_each(move || {
        if stop.is_asked() {
            std::process::exit(CUT);
        }
        say("ending: what was found until now is told");
        stop.ask();
    })
}

/// Calls this with each interrupt, on a thread of its own.
fn on_each(mut interrupted: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    // A file that may not grow any further is an error of its write, like a full disk, where the
    // signal's default would end the process in the middle of a line.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            interrupted();
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
