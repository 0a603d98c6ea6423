//! A connection.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use envmill_wire::{self as wire, rollouts_client::RolloutsClient};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{Error, Rollouts, RolloutsOptions, Turns};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that is silent is asked whether it is there after so long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How to reach a service.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub url: String,
    /// The bearer token, if the service asks for one. Secret.
    pub token: Option<String>,
    /// Certificates to trust (PEM) instead of the public ones.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A connection to a service, made when it is needed and again when it breaks. A clone is the same one.
#[derive(Clone)]
pub struct Client {
    stub: Stub,
    /// The service is reached over loopback.
    is_local: bool,
}

/// The generated client, with a token.
pub(crate) type Stub = RolloutsClient<InterceptedService<Channel, Bearer>>;

/// Puts a token into every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Client {
    /// A client of a service, which need not be there yet. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The URL, the token or the certificates cannot be used.
    pub fn new(options: &ConnectOptions) -> Result<Self, Error> {
        let url = &options.url;
        let wrong = |problem: &dyn fmt::Display| Error::Options(format!("{url}: {problem}"));
        let mut endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| wrong(&error))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20);
        let is_local = endpoint.uri().host().is_some_and(is_loopback);
        if url.starts_with("https://") {
            let mut tls = ClientTlsConfig::new();
            tls = match &options.ca {
                Some(path) => {
                    let text = std::fs::read(path)
                        .map_err(|error| Error::Options(format!("{}: {error}", path.display())))?;
                    tls.ca_certificate(Certificate::from_pem(text))
                }
                None => tls.with_webpki_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
        } else if !url.starts_with("http://") {
            return Err(wrong(&"it must begin with http:// or https://"));
        }
        let token = options.token.as_ref().map(|token| {
            let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
            value.map_err(|_| Error::Options("the token holds what no header may".into()))
        });
        let channel = endpoint.connect_lazy();
        let stub = RolloutsClient::with_interceptor(channel, Bearer(token.transpose()?))
            .max_decoding_message_size(usize::MAX);
        Ok(Self { stub, is_local })
    }

    /// Submits a job and takes its records. One with a name may be submitted again when one does not
    /// know whether it was: it is accepted once.
    ///
    /// # Errors
    ///
    /// The service refuses, or is not there.
    pub async fn submit(
        &self,
        job: wire::SubmitJob,
        options: RolloutsOptions,
    ) -> Result<Rollouts, Error> {
        Rollouts::submit(self.stub.clone(), self.is_local, job, options).await
    }

    /// Comes (back) for a job's records as one of its ranks, 0 where there is one. What has a number up
    /// to `cursor` is not sent again.
    ///
    /// # Errors
    ///
    /// The service refuses, or is not there.
    pub async fn attach(
        &self,
        job_id: &str,
        rank: u32,
        cursor: u64,
        options: RolloutsOptions,
    ) -> Result<Rollouts, Error> {
        let (stub, is_local) = (self.stub.clone(), self.is_local);
        Rollouts::attach(stub, is_local, job_id, rank, cursor, options).await
    }

    /// Answers a job's turns. A broken connection is made again for `reconnect_for`.
    ///
    /// # Errors
    ///
    /// The service refuses, or is not there for so long.
    pub async fn step_batch(
        &self,
        open: wire::OpenStepBatch,
        reconnect_for: Duration,
    ) -> Result<Turns, Error> {
        Turns::open(self.stub.clone(), open, reconnect_for).await
    }

    /// What the engine is doing.
    ///
    /// # Errors
    ///
    /// The service is not there.
    pub async fn status(&self) -> Result<wire::StatusResponse, Error> {
        let answer = self.stub.clone().status(wire::StatusRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::of(&status))
    }

    /// What came of a job's tasks, from this place in its set on: of at most 1,024 of them, which is also
    /// what a count of 0 means.
    ///
    /// # Errors
    ///
    /// There is no such job, it does not sample its tasks, or the service is not there.
    pub async fn tasks(
        &self,
        job_id: &str,
        from: u64,
        count: u32,
    ) -> Result<wire::TasksResponse, Error> {
        let request = wire::TasksRequest { job_id: job_id.into(), from, count };
        let answer = self.stub.clone().tasks(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::of(&status))
    }

    /// The environments of the engine's configuration.
    ///
    /// # Errors
    ///
    /// The service is not there.
    pub async fn list_environments(&self) -> Result<Vec<wire::Environment>, Error> {
        let answer = self.stub.clone().list_environments(wire::ListEnvironmentsRequest {}).await;
        let answer = answer.map_err(|status| Error::of(&status))?;
        Ok(answer.into_inner().environments)
    }

    /// Has the engine begin nothing new; how many episodes are in flight.
    ///
    /// # Errors
    ///
    /// The service is not there.
    pub async fn drain(&self) -> Result<u64, Error> {
        let answer = self.stub.clone().drain(wire::DrainRequest {}).await;
        let answer = answer.map_err(|status| Error::of(&status))?;
        Ok(answer.into_inner().in_flight)
    }
}
