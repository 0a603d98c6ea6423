//! The socket where trainers come for their rings.

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use envmill_ring::{Channel, Doorbell, Limits, Listener, LogWriter, Message, Received, wait};
use envmill_wire::meeting::{RELEASES, Welcome, token};

use super::{
    Expected, Lobby,
    guest::{Guest, watch},
};
use crate::hub::Address;

/// So many strangers may be in the doorway at a time; more are sent away.
const STRANGERS_MAX: usize = 16;
/// How long a stranger may take to say who it is and to pass its segment.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody is let in when the process has no descriptors or threads left.
const PAUSE: Duration = Duration::from_millis(200);

/// The door. Dropping it shuts it, and its file goes; who has a ring keeps it.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    shut: Arc<Doorbell>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Door {
    /// Opens a door at `path` for whoever is expected in the lobby. What becomes of rings is told to the
    /// hub.
    pub(crate) fn open(path: PathBuf, lobby: Lobby, hub: Address) -> io::Result<Self> {
        let listener = Listener::bind(&path)?;
        let shut = Arc::new(Doorbell::new()?);
        let its_shut = Arc::clone(&shut);
        let thread = thread::Builder::new()
            .name("rings".into())
            .spawn(move || let_in(&listener, &its_shut, &lobby, &hub))?;
        Ok(Self { path, shut, thread: Some(thread) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let rung = self.shut.ring();
        if let (Ok(()), Some(thread)) = (rung, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Lets strangers in until the door is shut. Each has a thread of its own: there are few trainers on a
/// host, and one that says nothing keeps nobody else waiting.
fn let_in(listener: &Listener, shut: &Doorbell, lobby: &Lobby, hub: &Address) {
    let strangers = Arc::<AtomicUsize>::default();
    let mut ready = Vec::new();
    loop {
        let waited = wait(&[listener.as_fd(), shut.as_fd()], None, &mut ready);
        if ready.contains(&1) {
            return;
        }
        let accepted = waited.and_then(|()| listener.accept());
        let let_in = accepted.and_then(|channel| match channel {
            // Dropping the channel sends it away.
            Some(_) if strangers.load(Ordering::Relaxed) >= STRANGERS_MAX => Ok(()),
            Some(channel) => {
                let place = Place::take(&strangers);
                let (lobby, hub) = (lobby.clone(), hub.clone());
                let named = thread::Builder::new().name("ring".into());
                named.spawn(move || receive(channel, &lobby, &hub, place)).map(drop)
            }
            None => Ok(()),
        });
        if let Err(error) = let_in {
            tracing::warn!(%error, "nobody can be let in for a ring");
            let _ = wait(&[shut.as_fd()], Some(PAUSE), &mut ready);
        }
    }
}

/// A stranger's place in the doorway.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(strangers: &Arc<AtomicUsize>) -> Self {
        strangers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(strangers))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn receive(channel: Channel, lobby: &Lobby, hub: &Address, place: Place) {
    let met = meet(channel, lobby);
    drop(place);
    match met {
        Ok(guest) => watch(guest, hub),
        Err(problem) => tracing::info!(problem, "somebody gets no ring"),
    }
}

/// Hears who has come, and gives it a ring. Memory is taken only for who was expected.
fn meet(channel: Channel, lobby: &Lobby) -> Result<Guest, String> {
    let wrong = |error: &dyn Error| error.to_string();
    if !channel.is_of_same_user().map_err(|error| wrong(&error))? {
        return Err("it is another user's".into());
    }
    let until = Instant::now() + PATIENCE;
    let mut message = Message::new();
    hear(&channel, &mut message, until)?;
    let found = token(message.bytes()).and_then(|token| lobby.take(token));
    let Some(Expected { consumer, ring, layout }) = found else {
        return Err("it does not know the token".into());
    };
    let mut writer = LogWriter::create(layout).map_err(|error| wrong(&error))?;
    let bell = Doorbell::new().map_err(|error| wrong(&error))?;
    let start = writer.start();
    let welcome = Welcome { position: start.position, sequence: start.sequence };
    say(&channel, &welcome.encode(), &[writer.as_fd(), bell.as_fd()])?;
    hear(&channel, &mut message, until)?;
    let (true, Some(releases)) = (message.bytes() == RELEASES, message.descriptors().pop()) else {
        return Err("it passes something else than its segment".into());
    };
    writer.connect(releases.as_fd(), &Limits::default()).map_err(|error| wrong(&error))?;
    Ok(Guest { consumer, ring, writer, channel, bell })
}

fn say(channel: &Channel, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), String> {
    match channel.send(bytes, descriptors) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it does not listen".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The next message.
fn hear(channel: &Channel, message: &mut Message, until: Instant) -> Result<(), String> {
    match channel.receive_until(message, until).map_err(|error| error.to_string())? {
        Received::Message => Ok(()),
        Received::Closed => Err("it has gone again".into()),
        Received::Nothing => Err("it does not say what it has to".into()),
    }
}
