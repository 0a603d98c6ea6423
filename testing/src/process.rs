//! A process with all its descendants: signals for it, and what it has used.

use std::{fs, io, os::unix::process::CommandExt, process::Child, process::Command};

use rustix::process::{Pid, Signal};

/// A started process, the leader of a process group of its own. Dropping it kills the group.
#[derive(Debug)]
pub struct Processes {
    leader: Child,
    reaped: bool,
}

impl Processes {
    /// Starts `command` in a new process group.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        Ok(Self { leader: command.process_group(0).spawn()?, reaped: false })
    }

    /// The process id of the leader, which is also that of the group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.leader.id()
    }

    /// The leader, for its standard streams.
    pub(crate) const fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Kills every process of the group at once, and waits for the leader.
    pub fn kill(&mut self) {
        self.signal_group(Signal::KILL);
        // Without an answer here the leader is gone already, which is what was asked for.
        let _ = self.leader.wait();
        self.reaped = true;
    }

    /// Stops every process of the group in its tracks (`SIGSTOP`).
    pub fn stop(&self) {
        self.signal_group(Signal::STOP);
    }

    /// Lets a stopped group go on (`SIGCONT`).
    pub fn cont(&self) {
        self.signal_group(Signal::CONT);
    }

    /// Asks the leader, and only the leader, to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.signal_leader(Signal::TERM);
    }

    /// What Ctrl-C in a terminal does to the leader (`SIGINT`).
    pub fn interrupt(&self) {
        self.signal_leader(Signal::INT);
    }

    /// Whether the leader still runs. What a leader that has ended left behind in its group is killed
    /// here.
    pub fn is_running(&mut self) -> bool {
        if !self.reaped && !matches!(self.leader.try_wait(), Ok(None)) {
            // Right now, while the group's id cannot yet belong to anybody else.
            self.signal_group(Signal::KILL);
            self.reaped = true;
        }
        !self.reaped
    }

    /// The CPU time that the living processes of the tree have used so far, and the children they
    /// have waited for, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let ticks: u64 = tree(self.id()).into_iter().filter_map(cpu_ticks).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// The memory that the living processes of the tree hold now (resident set), in bytes. Pages that
    /// they share are counted once for each.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        tree(self.id()).into_iter().filter_map(|pid| status_kib(pid, "VmRSS:")).sum::<u64>() * 1024
    }

    fn signal_group(&self, signal: Signal) {
        if !self.reaped {
            // The group may be gone already: then there is nobody to tell.
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.leader), signal);
        }
    }

    fn signal_leader(&self, signal: Signal) {
        if !self.reaped {
            let _ = rustix::process::kill_process(Pid::from_child(&self.leader), signal);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `pid` and all its descendants, those of other threads included.
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// User and system time of a process and of the children it has waited for, in clock ticks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold spaces; what follows is numbered from
    // the third field on, and the times are fields 14 to 17.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().skip(11).take(4).filter_map(|f| f.parse::<u64>().ok()).sum())
}

fn status_kib(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Watchdog, wait_until};

    #[test]
    fn a_group_is_measured_and_killed_as_a_whole() {
        let _watchdog = Watchdog::start("process group", Duration::from_secs(120));
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done & while :; do :; done"]);
        let mut group = Processes::spawn(&mut command).unwrap();
        wait_until("both processes run", Duration::from_secs(60), || tree(group.id()).len() == 2);
        wait_until("CPU is used", Duration::from_secs(60), || group.cpu_seconds() > 0.02);
        assert!(group.rss_bytes() > 0);
        let members = tree(group.id());
        group.kill();
        assert!(!group.is_running());
        wait_until("nobody is left", Duration::from_secs(60), || {
            members.iter().all(|pid| {
                // A killed orphan may wait for its reaper for a moment, as a zombie.
                fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
                    stat.rsplit_once(')').is_none_or(|(_, s)| s.starts_with(" Z"))
                })
            })
        });
    }

    #[test]
    fn a_stopped_group_uses_nothing_until_it_goes_on() {
        let _watchdog = Watchdog::start("stopped group", Duration::from_secs(120));
        let mut group =
            Processes::spawn(Command::new("sh").args(["-c", "while :; do :; done"])).unwrap();
        wait_until("CPU is used", Duration::from_secs(60), || group.cpu_seconds() > 0.0);
        group.stop();
        let stopped = format!("/proc/{}/stat", group.id());
        wait_until("it is stopped", Duration::from_secs(60), || {
            fs::read_to_string(&stopped).unwrap().contains(") T ")
        });
        let used = group.cpu_seconds();
        group.cont();
        wait_until("it goes on", Duration::from_secs(60), || group.cpu_seconds() > used);
        assert!(group.is_running());
    }
}
