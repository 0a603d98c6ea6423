//! Where a benchmark runs.

use std::{fs, thread};

use crate::report::Machine;

/// What the system says of this machine; what it does not say is empty or 0.
#[must_use]
pub fn machine() -> Machine {
    let field = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let memory = memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let system = rustix::system::uname();
    Machine {
        processor: field("/proc/cpuinfo", "model name")
            .unwrap_or_else(|| system.machine().to_string_lossy().into_owned()),
        threads: thread::available_parallelism()
            .map_or(1, |threads| u32::try_from(threads.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory.unwrap_or_default().saturating_mul(1024),
        system: format!(
            "{} {}",
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy()
        ),
        load_before: load
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let machine = machine();
        assert!(machine.threads >= 1 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(
            machine.system.starts_with("Linux ") && !machine.processor.is_empty(),
            "{machine:?}"
        );
    }
}
