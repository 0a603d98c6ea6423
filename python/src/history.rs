//! Where, when and how often an episode was tried, and how its record came here.

use envmill_client::Delivered;
use envmill_protocol::record::{Attempt as Tried, Timing as Times};
use pyo3::prelude::*;

use crate::tokens::Version;

/// One try at an episode.
#[pyclass(frozen, get_all, module = "envmill._native")]
pub(crate) struct Attempt {
    server: String,
    started_us: u64,
    ended_us: u64,
    steps: u32,
    cause: String,
    message: String,
}

impl From<&Tried> for Attempt {
    fn from(attempt: &Tried) -> Self {
        let Tried { server, started_us, ended_us, steps, cause, message } = attempt.clone();
        Self { server, started_us, ended_us, steps, cause, message }
    }
}

#[pymethods]
impl Attempt {
    fn __repr__(&self) -> String {
        let Self { server, steps, cause, .. } = self;
        format!("Attempt(server={server:?}, steps={steps}, cause={cause:?})")
    }
}

/// When things happened.
#[pyclass(frozen, get_all, module = "envmill._native")]
pub(crate) struct Timing {
    run_started_unix_us: u64,
    started_us: u64,
    reset_us: u64,
    ended_us: u64,
    policy_version_started: Version,
    policy_version_ended: Version,
}

impl From<&Times> for Timing {
    fn from(timing: &Times) -> Self {
        let Times {
            run_started_unix_us,
            started_us,
            reset_us,
            ended_us,
            policy_version_started,
            policy_version_ended,
        } = *timing;
        Self {
            run_started_unix_us,
            started_us,
            reset_us,
            ended_us,
            policy_version_started: policy_version_started.into(),
            policy_version_ended: policy_version_ended.into(),
        }
    }
}

#[pymethods]
impl Timing {
    fn __repr__(&self) -> String {
        let Self { started_us, reset_us, ended_us, .. } = self;
        format!("Timing(started_us={started_us}, reset_us={reset_us}, ended_us={ended_us})")
    }
}

/// How something came from the rollout service.
#[pyclass(frozen, get_all, eq, from_py_object, module = "envmill._native")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    number: u64,
    redelivered: bool,
    group_id: u64,
    index: u64,
    version: Version,
    judged_at: Version,
}

impl From<&Delivered> for Delivery {
    fn from(delivered: &Delivered) -> Self {
        let Delivered {
            number,
            redelivered,
            group_id,
            version,
            judged_at,
            index,
            bytes: _,
            record: _,
            in_place: _,
        } = *delivered;
        Self {
            number,
            redelivered,
            group_id,
            index,
            version: version.into(),
            judged_at: judged_at.into(),
        }
    }
}

#[pymethods]
impl Delivery {
    #[new]
    const fn new(
        number: u64,
        redelivered: bool,
        group_id: u64,
        index: u64,
        version: Version,
        judged_at: Version,
    ) -> Self {
        Self { number, redelivered, group_id, index, version, judged_at }
    }

    const fn __getnewargs__(&self) -> (u64, bool, u64, u64, Version, Version) {
        let Self { number, redelivered, group_id, index, version, judged_at } = *self;
        (number, redelivered, group_id, index, version, judged_at)
    }

    fn __repr__(&self) -> String {
        let Self { number, redelivered, .. } = self;
        let redelivered = if *redelivered { "True" } else { "False" };
        format!("Delivery(number={number}, redelivered={redelivered})")
    }
}
