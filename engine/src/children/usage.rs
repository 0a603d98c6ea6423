//! What processes cost, as the kernel counts it.

use std::{fs, time::Duration};

/// The most processes of one tree that are looked at.
const PROCESSES_MAX: usize = 4096;

/// CPU time and memory of a process with all its descendants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time, ended descendants included.
    pub(crate) cpu: Duration,
    /// The sum of the most memory that each held (resident set), in bytes.
    pub(crate) rss_peak_bytes: u64,
}

impl Usage {
    /// What `/proc` tells; nothing for what is gone.
    pub(crate) fn of_tree(pid: i32) -> Self {
        let mut total = Self::default();
        let mut found = vec![pid];
        let mut next = 0;
        while let Some(&pid) = found.get(next) {
            next += 1;
            total.cpu += cpu(pid).unwrap_or_default();
            total.rss_peak_bytes += rss_peak_bytes(pid).unwrap_or_default();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let room = PROCESSES_MAX.saturating_sub(found.len());
            let children = children.unwrap_or_default();
            found.extend(
                children.split_whitespace().filter_map(|id| id.parse::<i32>().ok()).take(room),
            );
        }
        total
    }
}

/// Time of the process and of the children it has waited for.
fn cpu(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    // `utime`, `stime`, `cutime` and `cstime` are fields 14 to 17; the first of `rest` is field 3.
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn rss_peak_bytes(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_cost_something() {
        let usage = Usage::of_tree(i32::try_from(std::process::id()).unwrap());
        assert!(usage.rss_peak_bytes > 1 << 16, "{usage:?}");
        assert_eq!(Usage::of_tree(i32::MAX), Usage::default());
    }
}
