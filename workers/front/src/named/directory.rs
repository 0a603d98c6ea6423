//! Which named sessions there are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use envmill_protocol::{Failure, FailureKind, Outcome, Request};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Member, id,
    keeper::{self, Message},
    member::Role,
};
use crate::{
    hub::{Full, Hold, Hub},
    options::CALLS_MAX,
};

/// Places in a session's queue beside those of calls over HTTP: for its WebSocket, for the one that is
/// attached, and for its end.
const RESERVED: usize = 3;

/// The named sessions: no more than there are slots for counted ones.
#[derive(Debug)]
pub(crate) struct Directory {
    hub: Arc<Hub>,
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
enum Entry {
    /// Its environment is being made.
    Initializing,
    Ready(Ready),
}

#[derive(Clone, Debug)]
struct Ready {
    messages: mpsc::Sender<Message>,
    /// Places for calls over HTTP.
    places: Arc<Semaphore>,
    attached: Arc<AtomicBool>,
    /// Whether the session is to end when the WebSocket leaves that is attached to it.
    closing: bool,
    ending: Arc<OnceLock<Failure>>,
}

/// Why a session was not made.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// There is no slot.
    Full(Full),
    /// The worker could not, and what was taken then, this session too.
    Failed(Failure, Full),
    /// The front is closing.
    Closing,
}

/// Why nothing can be asked of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is none of that name.
    Unknown,
    /// Its environment is still being made.
    Initializing,
    /// As many calls wait as may.
    Busy,
    /// A WebSocket is attached already.
    Attached,
}

/// How a session ends that was asked to.
#[derive(Debug)]
pub(crate) enum Closing {
    /// After what waits for it; told when its slot is free.
    Now(oneshot::Receiver<()>),
    /// When the WebSocket leaves that is attached.
    Later,
}

impl Directory {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Nothing that can panic runs under the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a session, which counts like a WebSocket's, and waits for its environment.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the session: nobody has its name yet.
    pub(crate) async fn create(self: &Arc<Self>) -> Result<String, NotMade> {
        let id = id::new().map_err(|error| {
            NotMade::Failed(
                Failure::lost(FailureKind::Limit, format!("no name: {error}")),
                self.hub.full(),
            )
        })?;
        let hold = self.hub.open().map_err(NotMade::Full)?;
        self.entries().insert(id.clone(), Entry::Initializing);
        let reserved = Reserved { directory: self, id: &id };
        match hold.answer().await {
            Some(Outcome::Failed(failure)) => {
                return Err(NotMade::Failed(failure, self.hub.full()));
            }
            Some(_) => {}
            None => return Err(NotMade::Closing),
        }
        reserved.keep();
        self.keep(id.clone(), hold);
        Ok(id)
    }

    /// Gives the session of a WebSocket a name. No request may be under way.
    pub(crate) fn adopt(self: &Arc<Self>, hold: Hold) -> Result<Member, (Hold, getrandom::Error)> {
        let id = match id::new() {
            Ok(id) => id,
            Err(error) => return Err((hold, error)),
        };
        let Ready { messages, ending, .. } = self.keep(id.clone(), hold);
        Ok(Member::new(Arc::clone(self), id, Role::Owner, messages, ending))
    }

    fn keep(self: &Arc<Self>, id: String, hold: Hold) -> Ready {
        let (messages, inbox) = mpsc::channel(CALLS_MAX + RESERVED);
        let attached = Arc::new(AtomicBool::new(false));
        hold.not_idle_while(Arc::clone(&attached));
        let places = Arc::new(Semaphore::new(CALLS_MAX));
        let ready = Ready { messages, places, attached, closing: false, ending: Arc::default() };
        let ending = Arc::clone(&ready.ending);
        self.entries().insert(id.clone(), Entry::Ready(ready.clone()));
        tokio::spawn(keeper::keep(Arc::clone(self), id, hold, inbox, ending));
        ready
    }

    /// Asks the session after all that waits already. The answer is dropped if the session ends
    /// before it.
    pub(crate) fn call(
        &self,
        id: &str,
        request: Request,
    ) -> Result<oneshot::Receiver<Outcome>, Refused> {
        let mut entries = self.entries();
        let ready = ready(&mut entries, id)?;
        let place = Arc::clone(&ready.places).try_acquire_owned().map_err(|_| Refused::Busy)?;
        let (answer, answered) = oneshot::channel();
        // With a place there is room: that it fails means that the session has just ended.
        match ready.messages.try_send(Message::Call { request, answer, place: Some(place) }) {
            Ok(()) => Ok(answered),
            Err(_) => Err(Refused::Unknown),
        }
    }

    /// Whether there is such a session, ready to be asked.
    pub(crate) fn find(&self, id: &str) -> Result<(), Refused> {
        ready(&mut self.entries(), id).map(drop)
    }

    /// Ends the session, or has it end when the WebSocket leaves that is attached to it.
    pub(crate) fn close(&self, id: &str) -> Result<Closing, Refused> {
        let mut entries = self.entries();
        let ready = ready(&mut entries, id)?;
        if ready.attached.load(Ordering::Relaxed) {
            ready.closing = true;
            return Ok(Closing::Later);
        }
        let (ended, told) = oneshot::channel();
        let messages = ready.messages.clone();
        entries.remove(id);
        drop(entries);
        // If the session has ended meanwhile, its end is told at once.
        let _ = messages.try_send(Message::Close { ended });
        Ok(Closing::Now(told))
    }

    /// Attaches a WebSocket.
    pub(crate) fn attach(self: &Arc<Self>, id: &str) -> Result<Member, Refused> {
        let mut entries = self.entries();
        let Ready { messages, attached, ending, .. } = ready(&mut entries, id)?;
        if attached.swap(true, Ordering::Relaxed) {
            return Err(Refused::Attached);
        }
        let (messages, ending) = (messages.clone(), Arc::clone(ending));
        Ok(Member::new(Arc::clone(self), id.to_owned(), Role::Attached, messages, ending))
    }

    pub(super) fn detach(&self, id: &str) {
        let mut entries = self.entries();
        let Ok(ready) = ready(&mut entries, id) else { return };
        ready.attached.store(false, Ordering::Relaxed);
        if ready.closing {
            drop(entries);
            self.end(id);
        }
    }

    /// Ends the session, if there is one of that name.
    pub(super) fn end(&self, id: &str) {
        let Some(Entry::Ready(ready)) = self.entries().remove(id) else { return };
        let (ended, _) = oneshot::channel();
        let _ = ready.messages.try_send(Message::Close { ended });
    }

    /// Drops what is known of a session that has ended.
    pub(super) fn forget(&self, id: &str) {
        self.entries().remove(id);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.hub.is_closing()
    }
}

fn ready<'a>(entries: &'a mut HashMap<String, Entry>, id: &str) -> Result<&'a mut Ready, Refused> {
    match entries.get_mut(id) {
        Some(Entry::Ready(ready)) => Ok(ready),
        Some(Entry::Initializing) => Err(Refused::Initializing),
        None => Err(Refused::Unknown),
    }
}

/// A name whose session is being made; dropping it gives the name up.
struct Reserved<'a> {
    directory: &'a Directory,
    id: &'a str,
}

impl Reserved<'_> {
    /// The session is there, and goes by the name.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.directory.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// No client can see this, since a name is told only when the session is ready; but nobody who
    /// had guessed it would find the session half made.
    #[test]
    fn a_session_that_is_being_made_is_not_to_be_asked() {
        let hub = Arc::new(Hub::new(1, None));
        let directory = Arc::new(Directory::new(Arc::clone(&hub)));
        {
            let mut creating = pin!(directory.create());
            let mut context = Context::from_waker(Waker::noop());
            assert!(creating.as_mut().poll(&mut context).is_pending());
            let id = directory.entries().keys().next().unwrap().clone();
            assert_eq!(directory.find(&id), Err(Refused::Initializing));
            assert_eq!(directory.attach(&id).err(), Some(Refused::Initializing));
            assert!(matches!(directory.close(&id), Err(Refused::Initializing)));
            let called = directory.call(&id, Request::State);
            assert!(matches!(called, Err(Refused::Initializing)));
            assert_eq!(hub.full().active, 1);
        }
        // Whoever wanted it has gone, and its name with them.
        assert!(directory.entries().is_empty());
        let mut creating = pin!(directory.create());
        let refused = creating.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(refused, Poll::Ready(Err(NotMade::Full(_)))), "until it is closed");
    }
}
