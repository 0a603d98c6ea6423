//! The one thing about child processes that the standard library cannot do safely.
#![allow(unsafe_code)]

use std::{os::unix::process::CommandExt, process::Command};

/// Has the kernel kill the process when the thread that starts it ends, so that a killed engine
/// leaves no servers behind. To be called on a thread that lives as long as the child should.
///
/// This reaches the process itself, not those that it starts: they are killed with their process
/// group, by the engine as it ends or by its [`Sentry`](super::sentry::Sentry) if it is killed.
pub(crate) fn die_with_this_thread(command: &mut Command) {
    let hook = || {
        let signal = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(signal)?;
        Ok(())
    };
    // SAFETY: the hook runs between fork and exec, where only async-signal-safe calls are allowed.
    // It makes one system call (`prctl`) and touches no memory that another thread could have left
    // locked or half written.
    unsafe {
        command.pre_exec(hook);
    }
}
