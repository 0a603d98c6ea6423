//! The server's processes, where they are on this machine: what they hold.

use std::{collections::BTreeSet, fs, path::Path};

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 1 << 16;

/// Processes and all that they have started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processes(Vec<u32>);

impl Processes {
    /// The tree below a process that there is.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Path::new(&format!("/proc/{pid}")).exists().then(|| Self(vec![pid]))
    }

    /// The processes that listen on a port of this machine.
    pub(crate) fn on_port(port: u16) -> Option<Self> {
        let inodes: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .flat_map(|table| listening(&table, port))
            .collect();
        if inodes.is_empty() {
            return None;
        }
        let entries = fs::read_dir("/proc").ok()?;
        let pids: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .take(PROCESSES_MAX)
            .filter(|pid| holds_any(*pid, &inodes))
            .collect();
        (!pids.is_empty()).then_some(Self(pids))
    }

    /// All of them now, those that they have started included.
    fn all(&self) -> Vec<u32> {
        let mut found = self.0.clone();
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            next += 1;
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                for child in text.split_whitespace().filter_map(|child| child.parse().ok()) {
                    if !found.contains(&child) && found.len() < PROCESSES_MAX {
                        found.push(child);
                    }
                }
            }
        }
        found
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

/// The inodes of the sockets that listen on a port, of a table of the kernel's.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (local, state) = (fields.nth(1)?, fields.nth(1)?);
            let inode = fields.nth(5)?;
            (local.ends_with(&end) && state == LISTEN).then(|| inode.to_owned())
        })
        .collect()
}

fn holds_any(pid: u32, inodes: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|link| {
            let link = link.to_string_lossy();
            link.strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.contains(inode))
        })
    })
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
