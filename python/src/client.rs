//! A connection to the rollout service.

use std::{path::PathBuf, time::Duration};

use envmill_client::{Client, ConnectOptions, RolloutsOptions, wire};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyList};

use crate::{
    errors::client_error,
    messages,
    pending::Pending,
    rollouts::Stream,
    runtime::{Owned, Words, runtime},
    turns::Seat,
};

const WORDS: Words =
    Words { name: "client", instead: "make another one here, with envmill.Client()" };

/// A connection, made when it is needed.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Connection(Owned<Client>);

#[pymethods]
impl Connection {
    #[new]
    fn new(url: String, token: Option<String>, ca: Option<PathBuf>) -> PyResult<Self> {
        let runtime = runtime()?;
        let _entered = runtime.enter();
        let client = Client::new(&ConnectOptions { url, token, ca }).map_err(client_error)?;
        Ok(Self(Owned::new(client, &WORDS)))
    }

    /// Whether it belongs to this process; an error if not.
    fn check(&self) -> PyResult<()> {
        self.0.get().map(|_| ())
    }

    fn submit(
        &self,
        job: &Bound<'_, PyAny>,
        window_records: u64,
        window_bytes: u64,
        reconnect_s: f64,
        shared_memory: Option<u64>,
    ) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        let job: wire::SubmitJob = messages::read("SubmitJob", "job", job)?;
        let options = options(window_records, window_bytes, reconnect_s, shared_memory)?;
        let work = async move { client.submit(job, options).await.map(Stream::start) };
        Pending::new(work, |py, stream| Ok(Py::new(py, stream)?.into_any()))
    }

    #[expect(clippy::too_many_arguments, reason = "what Python's method takes, one by one")]
    fn attach(
        &self,
        job_id: String,
        rank: u32,
        cursor: u64,
        window_records: u64,
        window_bytes: u64,
        reconnect_s: f64,
        shared_memory: Option<u64>,
    ) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        let options = options(window_records, window_bytes, reconnect_s, shared_memory)?;
        let work =
            async move { client.attach(&job_id, rank, cursor, options).await.map(Stream::start) };
        Pending::new(work, |py, stream| Ok(Py::new(py, stream)?.into_any()))
    }

    fn policy(
        &self,
        job_id: String,
        min_batch: u32,
        max_batch: u32,
        max_wait_us: u64,
        reconnect_s: f64,
    ) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        let open = wire::OpenStepBatch { job_id, min_batch, max_batch, max_wait_us };
        let reconnect_for = seconds(reconnect_s)?;
        let work = async move { client.step_batch(open, reconnect_for).await.map(Seat::start) };
        Pending::new(work, |py, seat| Ok(Py::new(py, seat)?.into_any()))
    }

    fn status(&self) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        Pending::new(async move { client.status().await }, |py, status| {
            messages::plain(py, &messages::dynamic("StatusResponse", &status)?)
        })
    }

    fn tasks(&self, job_id: String, start: u64, count: u32) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        let work = async move { client.tasks(&job_id, start, count).await };
        Pending::new(work, |py, found| {
            messages::plain(py, &messages::dynamic("TasksResponse", &found)?)
        })
    }

    fn environments(&self) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        Pending::new(async move { client.list_environments().await }, |py, found| {
            let plain =
                found.iter().map(|it| messages::plain(py, &messages::dynamic("Environment", it)?));
            Ok(PyList::new(py, plain.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind())
        })
    }

    fn drain(&self) -> PyResult<Pending> {
        let client = self.0.get()?.clone();
        Pending::new(async move { client.drain().await }, |py, in_flight| {
            let response = wire::DrainResponse { in_flight };
            messages::plain(py, &messages::dynamic("DrainResponse", &response)?)
        })
    }
}

fn options(
    window_records: u64,
    window_bytes: u64,
    reconnect_s: f64,
    shared_memory: Option<u64>,
) -> PyResult<RolloutsOptions> {
    let reconnect_for = seconds(reconnect_s)?;
    let in_place = shared_memory.is_some();
    Ok(RolloutsOptions { window_records, window_bytes, reconnect_for, shared_memory, in_place })
}

fn seconds(reconnect_s: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(reconnect_s)
        .map_err(|error| PyValueError::new_err(format!("reconnect_s: {error}")))
}
