//! The server's processes, where they are on this machine: what they hold.

use std::fs;

use envmill_bench::processes;

/// Processes and all that they have started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    /// The tree below a process that there is.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        processes::exists(pid).then(|| Self(vec![pid]))
    }

    /// The processes that listen on a port of this machine.
    pub(crate) fn on_port(port: u16) -> Option<Self> {
        let pids = processes::listening_on(port);
        (!pids.is_empty()).then_some(Self(pids))
    }

    /// All of them now, those that they have started included.
    fn all(&self) -> Vec<u32> {
        processes::tree(&self.0)
    }

    /// Memory that they hold now (resident set), in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        self.all().into_iter().filter_map(|pid| status(pid, "VmRSS:")).sum::<u64>() * 1024
    }

    /// How many descriptors they have open.
    pub(crate) fn descriptors(&self) -> usize {
        let count = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.all().into_iter().map(count).sum()
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let pids: Vec<String> = self.0.iter().map(u32::to_string).collect();
        format!("process {}", pids.join(", "))
    }
}

fn status(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn who_listens_on_a_port_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = Processes::on_port(port).unwrap();
        assert_eq!(Some(&found), Processes::of(std::process::id()).as_ref());
        assert!(found.rss_bytes() > 1 << 16 && found.descriptors() > 2);
        drop(listener);
        assert_eq!(Processes::of(u32::MAX), None);
    }
}
