//! The channel.

use std::sync::{Arc, Weak, atomic::Ordering};

use envmill_protocol::PolicyVersion;
use tokio::runtime::Handle;

use crate::{
    Answer, Capabilities, Control, Error, Generation, Inference, Load, Request, RequestId,
    TOP_LOGPROBS_MAX,
};

use super::{VllmMemoryOptions, desk::Desk, link, meeting::layouts};

/// vLLM over shared memory: its API server runs Envmill's plug-in (`VLLM_PLUGINS=envmill`), on this host
/// and as this user.
///
/// Requests that wait are one batch of rows in shared memory, and so is what was sampled since the last
/// look; a doorbell rings once for each. Nothing is connected before it is first used. When vLLM ends, all
/// that is under way is [lost](crate::ErrorKind::Lost), and the next request connects anew.
#[derive(Clone, Debug)]
pub struct VllmMemory {
    pub(super) handle: Arc<Handles>,
}

/// What all clones share.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) desk: Arc<Desk>,
    runtime: Handle,
}

impl VllmMemory {
    /// A channel whose work is done on `runtime`.
    ///
    /// # Errors
    ///
    /// Batches of these sizes cannot be had.
    pub fn new(options: VllmMemoryOptions, runtime: Handle) -> Result<Self, Error> {
        layouts(&options)?;
        let desk = Arc::new(Desk::new(options));
        Ok(Self { handle: Arc::new(Handles { desk, runtime }) })
    }

    /// It was told over another channel what it samples from.
    pub(crate) fn is_at(&self, version: PolicyVersion) {
        self.handle.desk.version.store(version.0, Ordering::Release);
    }
}

impl Handles {
    /// Starts the task that connects and works.
    pub(super) fn start(&self) {
        self.runtime.spawn(link::drive(Arc::clone(&self.desk)));
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Inference for VllmMemory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: true,
            stop_strings: true,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        if let Err(error) = self.capabilities().allow(&request.sampling) {
            return Generation::failed(error);
        }
        match self.handle.desk.generate(request) {
            Err(error) => Generation::failed(error),
            Ok((number, generation, start)) => {
                if start {
                    self.handle.start();
                }
                let desk: Weak<Desk> = Arc::downgrade(&self.handle.desk);
                generation.on_drop(move || {
                    if let Some(desk) = desk.upgrade() {
                        desk.forget(number);
                    }
                })
            }
        }
    }

    fn abort(&self, requests: &[RequestId]) {
        self.handle.desk.abort(requests);
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(self.handle.control(control))
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(self.handle.load())
    }
}
