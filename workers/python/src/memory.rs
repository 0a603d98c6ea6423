//! How much memory there is.

use std::fs::read_to_string;

/// The machine's memory in bytes, or what the container that this process is in may take of it, if
/// either can be told.
#[must_use]
pub fn machine_memory() -> Option<u64> {
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    // Of version 2; inside a container its own group is the root of what can be seen.
    let group = read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| limit(&text));
    machine.into_iter().chain(group).min()
}

fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The number of bytes; nothing where it says `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{limit, machine_memory, total};

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(total("MemTotal:       24612345 kB\nMemFree: 1 kB\n"), Some(24_612_345 * 1024));
        assert_eq!((total("MemFree: 1 kB\n"), total("MemTotal: many kB")), (None, None));
        assert_eq!((limit("1073741824\n"), limit("max\n")), (Some(1 << 30), None));
        assert!(machine_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
