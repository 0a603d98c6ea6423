//! A thread that looks at a target's processes while it is measured, so that the thread that measures does not.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    processes::{self, Snapshot},
    report::{Tick, Usage},
};

/// How often CPU time and memory are read.
const EVERY: Duration = Duration::from_millis(100);

/// CPU time and memory at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    cpu_s: f64,
    rss_bytes: u64,
}

/// Watches processes from [`start`](Self::start) to its end.
#[derive(Debug)]
pub struct Watch {
    marks: Sender<()>,
    thread: Option<JoinHandle<Watched>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    marks: Vec<Snapshot>,
    samples: Vec<Sample>,
}

impl Watch {
    /// Watches these processes and their descendants; `None` if there are none, or no thread for it.
    #[must_use]
    pub fn start(roots: &[u32]) -> Option<Self> {
        if processes::tree(roots).is_empty() {
            return None;
        }
        let (marks, marked) = mpsc::channel();
        let roots = roots.to_vec();
        let thread =
            thread::Builder::new().name("watch".into()).spawn(move || watch(&roots, &marked));
        Some(Self { marks, thread: Some(thread.ok()?) })
    }

    /// Has everything looked at now. What costs are between the first mark and the last is what counts.
    pub(crate) fn mark(&self) {
        // A thread that is gone has seen what it has.
        let _ = self.marks.send(());
    }

    pub(crate) fn finish(self) -> Watched {
        let Self { marks, thread } = self;
        drop(marks);
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

fn watch(roots: &[u32], marked: &Receiver<()>) -> Watched {
    let mut watched = Watched::default();
    let mut known = processes::tree(roots);
    loop {
        match marked.recv_timeout(EVERY) {
            Ok(()) => {
                // Processes come and go; who is there is looked at when it counts.
                known = processes::tree(roots);
                watched.marks.push(Snapshot::of(&known));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return watched,
        }
        let at = Instant::now();
        let (cpu_s, rss_bytes) = processes::cpu_and_memory(&known);
        watched.samples.push(Sample { at, cpu_s, rss_bytes });
    }
}

impl Watched {
    /// What the processes cost between the first mark and the last, with `steps` taken meanwhile; `None` if they
    /// were gone.
    pub(crate) fn usage(&self, steps: u64) -> Option<Usage> {
        let (begin, end) = (self.marks.first()?, self.marks.last()?);
        if end.processes() == 0 {
            return None;
        }
        let passed = end.at.saturating_duration_since(begin.at).as_secs_f64();
        if passed <= 0.0 {
            return None;
        }
        // Where one of them has ended, what it had cost may be nowhere any more.
        let cpu_s = (end.cpu_s - begin.cpu_s).max(0.0);
        let (busiest_thread, busiest_process) = end.busiest_since(begin);
        Some(Usage {
            cpu_s,
            cpu_us_per_step: if steps == 0 { 0.0 } else { cpu_s * 1e6 / steps as f64 },
            cores: cpu_s / passed,
            rss_bytes: end.rss_bytes,
            processes: u32::try_from(end.processes()).unwrap_or(u32::MAX),
            threads: end.threads,
            descriptors: end.descriptors,
            busiest_thread,
            busiest_process,
        })
    }

    /// Puts into each tick what was seen in it; `first` is when the first began.
    pub(crate) fn fill(&self, ticks: &mut [Tick], first: Instant) {
        for tick in ticks {
            let begin = tick.at_s;
            let end = tick.at_s + tick.width_s;
            let (Some(before), Some(after)) = (self.at(first, begin), self.at(first, end)) else {
                continue;
            };
            if tick.width_s > 0.0 {
                tick.server_cores = Some(((after.0 - before.0) / tick.width_s).max(0.0));
            }
            tick.server_rss_bytes = Some(after.1);
        }
    }

    /// CPU time at `seconds` after `first`, between the samples around it, and memory.
    fn at(&self, first: Instant, seconds: f64) -> Option<(f64, u64)> {
        let place = |sample: &Sample| {
            let after = sample.at.saturating_duration_since(first).as_secs_f64();
            after - first.saturating_duration_since(sample.at).as_secs_f64()
        };
        let next = self.samples.partition_point(|sample| place(sample) < seconds);
        let (Some(before), Some(after)) = (
            self.samples.get(next.saturating_sub(1)),
            self.samples.get(next).or_else(|| self.samples.last()),
        ) else {
            return None;
        };
        let (from, to) = (place(before), place(after));
        let share = if to > from { ((seconds - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 };
        Some((before.cpu_s + (after.cpu_s - before.cpu_s) * share, after.rss_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_get_what_was_seen_around_them() {
        let first = Instant::now();
        let at = |ms, cpu_s, rss_bytes| Sample {
            at: first + Duration::from_millis(ms),
            cpu_s,
            rss_bytes,
        };
        let samples = vec![at(0, 1.0, 10), at(100, 1.1, 20), at(200, 1.1, 30)];
        let watched = Watched { marks: Vec::new(), samples };
        let tick = |at_s| Tick { at_s, width_s: 0.1, ..Tick::default() };
        let mut ticks = [tick(0.0), tick(0.05), tick(0.1)];
        watched.fill(&mut ticks, first);
        let cores: Vec<f64> = ticks.iter().map(|tick| tick.server_cores.unwrap()).collect();
        for (seen, expected) in cores.iter().zip([1.0, 0.5, 0.0]) {
            assert!((seen - expected).abs() < 1e-6, "{cores:?}");
        }
        assert_eq!(ticks[2].server_rss_bytes, Some(30));
    }

    #[test]
    fn this_process_is_watched() {
        let watch = Watch::start(&[std::process::id()]).unwrap();
        watch.mark();
        let began = Instant::now();
        while began.elapsed().as_millis() < 150 {
            std::hint::black_box(0);
        }
        watch.mark();
        let watched = watch.finish();
        let usage = watched.usage(10).unwrap();
        assert!(usage.cpu_s > 0.0 && usage.processes == 1 && usage.threads >= 2, "{usage:?}");
        assert!(Watch::start(&[u32::MAX]).is_none());
    }
}
