//! From names to addresses, away from the worker's thread.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use mio::Waker;

/// How many lookups run at once. The system's resolver blocks, for many seconds if a name server is
/// away, and cannot be interrupted.
const THREADS_MAX: usize = 4;

/// How long an answer is used again: long enough for a burst of connections, short enough to follow
/// a name that moves.
const KEPT: Duration = Duration::from_secs(5);

/// Addresses of a name, or why there are none.
pub(crate) type Answer = Result<Arc<[IpAddr]>, String>;

/// Looks names up in a few threads, each name once at a time. Bounded by the number of distinct
/// names that the worker's servers have had, and of sessions that are being opened.
#[derive(Debug)]
pub(crate) struct Resolver<T> {
    kept: HashMap<String, (Instant, Arc<[IpAddr]>)>,
    waiting: HashMap<String, Vec<T>>,
    questions: Sender<String>,
    queue: Arc<Mutex<Receiver<String>>>,
    answers: Receiver<(String, Answer)>,
    answer: Sender<(String, Answer)>,
    threads: usize,
    waker: Arc<Waker>,
}

impl<T: Copy + PartialEq> Resolver<T> {
    /// A resolver that wakes `waker` when an answer is there.
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        let (questions, queue) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        Self {
            kept: HashMap::new(),
            waiting: HashMap::new(),
            questions,
            queue: Arc::new(Mutex::new(queue)),
            answers,
            answer,
            threads: 0,
            waker,
        }
    }

    /// The addresses of `host` if they are known; otherwise they are looked up, and `who` is among
    /// the [`answers`](Self::answers) later.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(crate) fn ask(&mut self, host: &str, who: T) -> io::Result<Option<Arc<[IpAddr]>>> {
        if let Some((at, addresses)) = self.kept.get(host) {
            if at.elapsed() < KEPT {
                return Ok(Some(Arc::clone(addresses)));
            }
            self.kept.remove(host);
        }
        if let Some(waiting) = self.waiting.get_mut(host) {
            waiting.push(who);
            return Ok(None);
        }
        if self.threads < THREADS_MAX && self.threads <= self.waiting.len() {
            self.start_thread()?;
        }
        // The receiving end is in `queue`, so this cannot fail.
        let _ = self.questions.send(host.to_owned());
        self.waiting.insert(host.to_owned(), vec![who]);
        Ok(None)
    }

    /// Somebody does not want to know any more.
    pub(crate) fn forget(&mut self, host: &str, who: T) {
        if let Some(waiting) = self.waiting.get_mut(host) {
            waiting.retain(|other| *other != who);
        }
    }

    /// What has been answered since the last look.
    pub(crate) fn answers(&mut self) -> Vec<(Vec<T>, Answer)> {
        let mut all = Vec::new();
        if self.waiting.is_empty() {
            return all;
        }
        while let Ok((host, answer)) = self.answers.try_recv() {
            let waiting = self.waiting.remove(&host).unwrap_or_default();
            if let Ok(addresses) = &answer {
                self.kept.insert(host, (Instant::now(), Arc::clone(addresses)));
            }
            all.push((waiting, answer));
        }
        all
    }

    /// The thread ends once the resolver is gone and its lookup, if one is under way, has returned.
    fn start_thread(&mut self) -> io::Result<()> {
        let queue = Arc::clone(&self.queue);
        let answer = self.answer.clone();
        let waker = Arc::clone(&self.waker);
        let name = format!("envmill-resolve-{}", self.threads);
        thread::Builder::new().name(name).stack_size(256 * 1024).spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(host) = next else { return };
                let found = look_up(&host);
                if answer.send((host, found)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        self.threads += 1;
        Ok(())
    }
}

fn look_up(host: &str) -> Answer {
    let addresses: Vec<_> =
        (host, 0).to_socket_addrs().map_err(|error| error.to_string())?.map(|a| a.ip()).collect();
    if addresses.is_empty() { Err("it has no address".into()) } else { Ok(addresses.into()) }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn a_name_is_looked_up_once_and_then_known() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut resolver = Resolver::new(waker);
        assert!(resolver.ask("localhost", 1).unwrap().is_none());
        assert!(resolver.ask("localhost", 2).unwrap().is_none());
        assert_eq!(resolver.threads, 1);
        let answers = loop {
            poll.poll(&mut Events::with_capacity(1), Some(Duration::from_secs(60))).unwrap();
            let answers = resolver.answers();
            if !answers.is_empty() {
                break answers;
            }
        };
        assert_eq!(answers[0].0, [1, 2]);
        assert!(answers[0].1.as_ref().unwrap().iter().all(IpAddr::is_loopback));
        assert!(resolver.ask("localhost", 3).unwrap().is_some());
    }

    #[test]
    fn the_last_reference_to_the_queue_ends_its_threads() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut resolver = Resolver::new(waker);
        let _ = resolver.ask("localhost", ()).unwrap();
        let queue = Arc::downgrade(&resolver.queue);
        drop(resolver);
        while queue.upgrade().is_some() {
            thread::yield_now();
        }
    }
}
