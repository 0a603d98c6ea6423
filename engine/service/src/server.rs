//! Starting and ending.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use envmill_core::{Scoring, Tasks};
use envmill_store::{Medium, Store};
use envmill_wire::{DESCRIPTORS, rollouts_server::RolloutsServer};
use tokio::net::TcpListener;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{
    Ear, Environment, Tokens,
    hub::{self, Address, Means, Rings, Word},
    metrics::{self, Metrics},
    options::{ServiceOptions, StartError},
    rings::{Door, Lobby},
    service::Rollouts,
};

/// How long streams may take to end when the service does.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether anything is in flight.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Silent connections are asked whether they are there after so long, and dropped after as long again.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A service that has its store and no environments yet.
#[derive(Debug)]
pub struct Opened {
    options: ServiceOptions,
    store: Store,
    address: Address,
    words: Receiver<Word>,
}

/// A service that runs: trainers' jobs are played, and gone on with, from now on.
#[derive(Debug)]
pub struct Running {
    options: ServiceOptions,
    address: Address,
    metrics: Metrics,
    hub: thread::JoinHandle<()>,
    door: Option<Door>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The chain.
    pub chain: Vec<u8>,
    /// The key. Secret.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Opened {
    /// Opens the store, which no other process may have, and takes the next incarnation.
    ///
    /// # Errors
    ///
    /// The store cannot be used.
    pub fn open(options: ServiceOptions) -> Result<Self, StartError> {
        let store = Store::open(Medium::File(options.store.clone())).map_err(options.unusable())?;
        let (sender, words) = mpsc::channel();
        Ok(Self { options, store, address: Address::new(sender), words })
    }

    /// Where the player of the environment with this place in the configuration tells what it has to
    /// tell.
    #[must_use]
    pub fn ear(&self, environment: usize) -> Ear {
        Ear::new(self.address.clone(), environment)
    }

    /// Goes on with what the store holds, and takes new jobs. These may name task sets and scorers; of a
    /// scorer it is known here what the core does with episodes that it scores.
    ///
    /// # Errors
    ///
    /// The store makes no sense, or the system has no thread left.
    pub fn start(
        self,
        environments: Vec<Environment>,
        task_sets: BTreeMap<String, Tasks>,
        scorers: BTreeMap<String, Scoring>,
    ) -> Result<Running, StartError> {
        let Self { options, store, address, words } = self;
        let metrics = Metrics::default();
        let (door, rings) = open_door(&options, address.clone());
        let its_metrics = metrics.clone();
        let means = Means { store, address: address.clone(), rings, metrics: its_metrics };
        let offer = hub::Offer { environments, task_sets, scorers };
        let hub = hub::start(hub::make(options.clone(), offer, means)?, words)?;
        Ok(Running { options, address, metrics, hub, door })
    }
}

/// The socket where memory is handed out, beside the journal, whose lock keeps other engines away. One
/// that cannot be made costs speed and nothing else.
fn open_door(options: &ServiceOptions, hub: Address) -> (Option<Door>, Rings) {
    let lobby = Lobby::default();
    let door = (options.shared_bytes_max > 0).then(|| {
        let path = std::path::absolute(options.socket())?;
        Door::open(path, lobby.clone(), hub)
    });
    let door = door.and_then(|door| {
        let warn = |error| tracing::warn!(%error, "no memory can be shared with trainers");
        door.map_err(warn).ok()
    });
    let path = door.as_ref().map(|door| door.path().to_owned());
    (door, Rings::new(lobby, path, options.shared_bytes_max))
}

/// Drains a service from elsewhere. A clone does the same.
#[derive(Clone, Debug)]
pub struct Drain(Address);

impl Drain {
    /// Has nothing new begun, and waits until what is in flight is over, but for what pauses, or until
    /// this long has passed.
    pub async fn within(&self, limit: Duration) {
        let over = async {
            while matches!(self.0.ask(Word::Drain).await, Ok(left) if left.in_flight > 0) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(limit, over).await;
    }
}

impl Running {
    /// A handle that drains it.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain(self.address.clone())
    }

    /// Answers `GET /metrics` on `listener`, for as long as the future is polled.
    pub fn metrics(
        &self,
        listener: TcpListener,
    ) -> impl Future<Output = io::Result<()>> + use<> + Send + 'static {
        metrics::serve(listener, self.metrics.clone(), self.address.clone())
    }

    /// Serves calls on `listener` until `until` is done; then everything is written down, streams are
    /// told to come back, and the service ends. Whoever has no token of `tokens` is not let in, if there
    /// are any.
    ///
    /// # Errors
    ///
    /// The certificate cannot be used, or the socket fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tokens: Tokens,
        certificate: Option<Certificate>,
        until: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let Self { options, address, metrics: _, hub, door } = self;
        let rollouts = RolloutsServer::new(Rollouts::new(address.clone()))
            .max_decoding_message_size(options.message_bytes_max)
            .max_encoding_message_size(usize::MAX);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<RolloutsServer<Rollouts>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| StartError::Damaged(error.to_string()))?;
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE));
        if let Some(Certificate { chain, key }) = certificate {
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(chain, key));
            server = server.tls_config(tls).map_err(|error| StartError::Tls(error.to_string()))?;
        }
        let router = server
            .add_service(health_service)
            .add_service(InterceptedService::new(reflection, tokens.clone()))
            .add_service(InterceptedService::new(rollouts, tokens));
        let (ending, ended) = tokio::sync::oneshot::channel::<()>();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = router.serve_with_incoming_shutdown(incoming, async {
            let _ = ended.await;
        });
        tokio::pin!(serving);
        let early = tokio::select! {
            result = &mut serving => Some(result),
            () = until => None,
        };
        health.set_not_serving::<RolloutsServer<Rollouts>>().await;
        address.tell(Word::Stop);
        drop(door);
        let written = tokio::task::spawn_blocking(move || hub.join()).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!("the hub has panicked; its journal has what was on disk");
        }
        let _ = ending.send(());
        let result = match early {
            Some(result) => result,
            None => tokio::time::timeout(FAREWELL, serving).await.unwrap_or(Ok(())),
        };
        result.map_err(|error| StartError::Io(std::io::Error::other(error)))
    }
}
