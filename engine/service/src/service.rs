//! The service of gRPC itself.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use envmill_wire::{self as wire, rollouts_server};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{
    hub::{Address, StreamId, Word},
    outflow::{self, Outflow},
    step_batch::{self, Batches},
};

/// So many requests of one stream may wait for the hub; then the stream is not read.
const REQUESTS_MAX: usize = 256;

/// Answers calls by asking the hub.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    hub: Address,
    next_stream: Arc<AtomicU64>,
}

impl Rollouts {
    pub(crate) fn new(hub: Address) -> Self {
        Self { hub, next_stream: Arc::default() }
    }
}

#[async_trait]
impl rollouts_server::Rollouts for Rollouts {
    type DriveStream = Outflow;
    type StepBatchStream = Batches;

    async fn drive(
        &self,
        request: Request<Streaming<wire::DriveRequest>>,
    ) -> Result<Response<Outflow>, Status> {
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let (outbox, outflow) = outflow::outflow(self.hub.clone(), stream);
        let is_local =
            request.remote_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        self.hub.tell(Word::Opened { stream, outbox, is_local });
        tokio::spawn(listen(self.hub.clone(), stream, request.into_inner()));
        Ok(Response::new(outflow))
    }

    async fn step_batch(
        &self,
        request: Request<Streaming<wire::StepBatchRequest>>,
    ) -> Result<Response<Batches>, Status> {
        step_batch::open(&self.hub, request.into_inner()).await.map(Response::new)
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        self.hub.ask(Word::Status).await.map(Response::new)
    }

    async fn tasks(
        &self,
        request: Request<wire::TasksRequest>,
    ) -> Result<Response<wire::TasksResponse>, Status> {
        let request = request.into_inner();
        let answer = self.hub.ask(|answer| Word::Tasks(request, answer)).await?;
        answer.map(Response::new).map_err(Status::from)
    }

    async fn list_environments(
        &self,
        _: Request<wire::ListEnvironmentsRequest>,
    ) -> Result<Response<wire::ListEnvironmentsResponse>, Status> {
        self.hub.ask(Word::Environments).await.map(Response::new)
    }

    async fn drain(
        &self,
        _: Request<wire::DrainRequest>,
    ) -> Result<Response<wire::DrainResponse>, Status> {
        self.hub.ask(Word::Drain).await.map(Response::new)
    }

    async fn schema(
        &self,
        request: Request<wire::SchemaRequest>,
    ) -> Result<Response<wire::SchemaResponse>, Status> {
        let name = request.into_inner().environment;
        let known = self.hub.ask(Word::Environments).await?;
        match known.environments.into_iter().find(|it| it.name == name) {
            Some(found) => Ok(Response::new(wire::SchemaResponse { action: found.action_schema })),
            None => Err(Status::not_found(format!("there is no environment `{name}`"))),
        }
    }
}

/// Passes on what a trainer says, until it has nothing more to say.
fn listen(
    hub: Address,
    stream: StreamId,
    mut said: Streaming<wire::DriveRequest>,
) -> impl Future<Output = ()> {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    async move {
        while let Ok(permit) = Arc::clone(&places).acquire_owned().await {
            match said.message().await {
                Ok(Some(request)) => hub.tell(Word::Said(stream, Box::new(request), permit)),
                // It may go on to listen.
                Ok(None) => return,
                Err(status) => return hub.tell(Word::Broken(stream, status)),
            }
        }
    }
}
