//! The suite that every worker passes.

use bytes::Bytes;
use envmill_python_worker::{Options, PythonWorker};
use envmill_workers::{Worker, conformance};

use crate::rig::options;

struct Bench(Options);

impl conformance::Subject for Bench {
    fn worker(&self) -> Box<dyn Worker> {
        let (worker, _) = PythonWorker::start(self.0.clone()).expect("the worker starts");
        Box::new(worker)
    }

    fn action(&self) -> Bytes {
        Bytes::from_static(b"{}")
    }

    fn refused_action(&self) -> Bytes {
        Bytes::from_static(br#"{"sleep_s":"long"}"#)
    }

    fn slow_action(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"sleep_s":0.2}"#))
    }

    /// All of them go to server 0.
    fn sessions(&self) -> u32 {
        256
    }
}

#[test]
fn plain_environments_conform() {
    conformance::run_all(&Bench(options("bench_env:BenchEnv")));
}

#[test]
fn environments_with_coroutines_conform() {
    conformance::run_all(&Bench(options("bench_env:AsyncBenchEnv")));
}
