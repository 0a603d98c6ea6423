//! A front on a thread of its own.

use std::{
    net::SocketAddr,
    sync::Mutex,
    thread::{self, JoinHandle},
};

use envmill_front::{Description, Front, Options, listen, runtime};
use envmill_native::{Parameters, environment};
use envmill_workers::Worker;
use tokio::sync::oneshot;

/// A front that serves. Dropping it ends it.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start(options: Options, worker: impl Worker + 'static) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let shutdown = async move {
                let _ = stopped.await;
            };
            let front = Front::new(options, Box::new(worker));
            runtime().unwrap().block_on(front.serve(listener, shutdown)).unwrap();
        });
        Self { address, stop: Mutex::new(Some(stop)), thread: Some(thread) }
    }

    /// A native environment, served with its defaults.
    pub(crate) fn native(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        let environment = environment(name, &Parameters::new()).unwrap();
        let schemas = environment.schemas().clone();
        let mut options = Options::new(Description {
            name: environment.about().name.into(),
            description: environment.about().description.into(),
            version: "1.2.3".into(),
            action_schema: schemas.action,
            observation_schema: schemas.observation,
            state_schema: schemas.state,
            ..Description::default()
        });
        change(&mut options);
        Self::start(options, environment.worker())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells the front to end, and does not wait.
    pub(crate) fn stop(&self) {
        if let Some(stop) = self.stop.lock().unwrap().take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the front panicked");
        }
    }
}
