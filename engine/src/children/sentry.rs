//! A process that outlives a killed engine just long enough to end its servers.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::process::Pid;

/// Notes process groups, and kills those that are left when its input ends, which is when the engine
/// ends in whatever way. It minds no signal meant for the engine or its terminal.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
groups=
while read -r sign group; do
    case $sign in
    +) groups="$groups $group" ;;
    -)
        kept=
        for each in $groups; do [ "$each" = "$group" ] || kept="$kept $each"; done
        groups=$kept
        ;;
    esac
done
for each in $groups; do kill -s KILL -- "-$each"; done
"#;

/// Keeps the promise that nothing of a run is left behind, for a run that is killed: what a server
/// has started itself (a shell's command, worker processes) hears nothing of the death of its
/// parent, and its process group has to be killed by somebody who is still there.
#[derive(Debug)]
pub(crate) struct Sentry(Option<(Child, ChildStdin)>);

impl Sentry {
    /// Posts a sentry. Where that fails, servers die with the engine by the kernel's help alone,
    /// which reaches those that it started itself.
    pub(crate) fn post() -> Self {
        let started = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match started {
            Ok(mut child) => Self(child.stdin.take().map(|stdin| (child, stdin))),
            Err(error) => {
                tracing::warn!(%error, "no shell to watch over the servers that are started");
                Self(None)
            }
        }
    }

    /// A group that must not outlive the engine.
    pub(crate) fn watch(&self, group: Pid) {
        self.tell('+', group);
    }

    /// A group that is about to be reaped: its id may soon be another's.
    pub(crate) fn dismiss(&self, group: Pid) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: Pid) {
        let Some((_, stdin)) = &self.0 else { return };
        let mut stdin = stdin;
        let line = format!("{sign} {}\n", group.as_raw_nonzero());
        // A sentry that is gone cannot be helped, and is missed only by a run that is killed.
        let _ = stdin.write_all(line.as_bytes());
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.0.take() {
            drop(stdin);
            // It ends with its input.
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_are_left_are_killed() {
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("600").process_group(0).spawn().unwrap()
        };
        let pid = |child: &Child| Pid::from_child(child);
        let (mut left, mut dismissed) = (sleep(), sleep());
        let sentry = Sentry::post();
        sentry.watch(pid(&left));
        sentry.watch(pid(&dismissed));
        sentry.dismiss(pid(&dismissed));
        drop(sentry);
        // By a signal: it has no exit status.
        assert_eq!(left.wait().unwrap().code(), None);
        assert_eq!(dismissed.try_wait().unwrap(), None);
        dismissed.kill().unwrap();
        dismissed.wait().unwrap();
    }
}
