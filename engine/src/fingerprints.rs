//! Whether servers still serve what they served at the start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use envmill_core::{Input, Note};
use envmill_openenv::{Options, Server, describe};
use envmill_protocol::{FailureKind, ServerId};

use crate::driver::Control;

/// The shortest time between two looks at one server, so that one that loses sessions all the time
/// is not asked all the time.
const PERIOD: Duration = Duration::from_secs(1);

/// Asks servers anew what they serve once there is reason to: they were away, or a connection to
/// them broke, so that what answers now may be another deployment behind the same name. Each look is
/// two HTTP requests on a thread of its own, of which a server has one at a time.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    options: Options,
    control: Control,
    servers: Vec<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// Set where there is reason to look, also by a look that failed.
    wanted: Arc<AtomicBool>,
    under_way: Arc<AtomicBool>,
    asked_at: Option<Instant>,
}

impl Fingerprints {
    /// For the servers of `options`; what they say goes to `control`.
    pub(crate) fn new(options: Options, control: Control) -> Self {
        let servers = options.servers.iter().map(|_| Watched::default()).collect();
        Self { options, control, servers }
    }

    /// A server is somewhere else now.
    pub(crate) fn set_server(&mut self, id: ServerId, server: Server) {
        if let Some(place) = self.options.servers.get_mut(id.0 as usize) {
            *place = server;
        }
    }

    /// Takes news of the core.
    pub(crate) fn note(&self, note: &Note) {
        let server = match note {
            Note::ServerRecovered(server) => *server,
            Note::AttemptFailed { server, failure }
                if matches!(
                    failure.kind,
                    FailureKind::Disconnected | FailureKind::Closed { .. } | FailureKind::Protocol
                ) =>
            {
                *server
            }
            _ => return,
        };
        if let Some(watched) = self.servers.get(server.0 as usize) {
            watched.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Begins the looks that are wanted and due. Cheap where there are none.
    pub(crate) fn look(&mut self) {
        for (index, watched) in self.servers.iter_mut().enumerate() {
            let is_due = watched.wanted.load(Ordering::Relaxed)
                && !watched.under_way.load(Ordering::Acquire)
                && watched.asked_at.is_none_or(|at| at.elapsed() >= PERIOD);
            let Some(server) = self.options.servers.get(index).filter(|_| is_due) else { continue };
            watched.asked_at = Some(Instant::now());
            watched.wanted.store(false, Ordering::Relaxed);
            watched.under_way.store(true, Ordering::Relaxed);
            let id = ServerId(u32::try_from(index).unwrap_or(u32::MAX));
            let (server, options) = (server.clone(), self.options.clone());
            let control = self.control.clone();
            let (wanted, under_way) = (Arc::clone(&watched.wanted), Arc::clone(&watched.under_way));
            let asked = std::thread::Builder::new().name("describe".into()).spawn(move || {
                match describe(&server, &options) {
                    Ok(description) => {
                        let fingerprint = description.fingerprint;
                        control.send(Input::Fingerprint { server: id, fingerprint });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a server does not say what it serves now");
                        wanted.store(true, Ordering::Relaxed);
                    }
                }
                under_way.store(false, Ordering::Release);
            });
            if let Err(error) = asked {
                tracing::warn!(%error, "no thread to ask a server what it serves now");
                watched.wanted.store(true, Ordering::Relaxed);
                watched.under_way.store(false, Ordering::Relaxed);
            }
        }
    }
}
