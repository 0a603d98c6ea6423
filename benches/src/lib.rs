//! What the benchmarks share: CPU time, statistics over interleaved runs, and the clients compared.
//!
//! `README.md` here names the question that each benchmark answers and the command that runs it.

mod clients;
mod drive;
pub mod groups;
mod package;
mod statistics;
mod vllm;

pub use clients::{
    BENCH_ACTION, Figures, bare_loop, engine, front, python_client, python_client_of,
};
pub use drive::{
    Cost, Drive, cpu_seconds_of, descendants, discrete_actions, drive, tree_cpu_seconds,
};
pub use package::python_package;
pub use statistics::{Costs, Interval, median, ratio_interval};
pub use vllm::{Frontend, Vllm, vllm_folder};

/// User and system CPU seconds of this process so far.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Memory of this process that is resident now, in bytes; 0 where the system does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}
