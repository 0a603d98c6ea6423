//! How many sessions a server holds.

use std::time::Instant;

use crate::{
    play::Player,
    subject::Subject,
    wire::{Reply, Socket, Trouble},
};

/// What came of opening sessions until no more could be.
#[derive(Clone, Debug)]
pub(crate) enum Limit {
    /// As many as were asked for; there may be more.
    Reached,
    /// The next one was refused in good order.
    Refused(String),
    /// The next one was dropped without a word.
    Dropped(String),
    /// The next one was never answered.
    Silent(String),
    /// There was no more time.
    Late,
    /// Something else went wrong.
    Failed(String),
}

/// How many sessions a server held at once, and why not one more.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    pub(crate) sessions: usize,
    pub(crate) limit: Limit,
}

impl Capacity {
    /// Whether the number is what the server holds, and not only what was asked for.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self.limit, Limit::Refused(_) | Limit::Dropped(_) | Limit::Silent(_))
    }
}

/// Opens sessions and begins an episode on each, until one is refused or there are `most`.
pub(crate) fn fill(subject: &Subject<'_>, most: usize, until: Instant) -> (Vec<Socket>, Limit) {
    let mut open = Vec::new();
    while open.len() < most {
        if Instant::now() >= until {
            return (open, Limit::Late);
        }
        let seed = subject.options.seed.wrapping_add(open.len() as u64);
        let request = Player::reset_request(subject, seed);
        let asked = Socket::open(&subject.peer).and_then(|mut socket| {
            let reply = socket.ask(&request)?;
            Ok((socket, reply))
        });
        let limit =
            match asked {
                Ok((socket, Reply::Observation(_))) => {
                    open.push(socket);
                    continue;
                }
                Ok((mut socket, Reply::Error { code, message })) if code == "CAPACITY_REACHED" => {
                    let told = format!("error {code}: {message}");
                    match socket.receive(subject.peer.timeout()) {
                        Ok(crate::wire::Told::Close(..)) => Limit::Refused(told),
                        Err(Trouble::Silent(_)) => {
                            Limit::Silent(format!("{told}, after which the connection stays open"))
                        }
                        _ => Limit::Refused(format!(
                            "{told}, then the connection without a closing frame"
                        )),
                    }
                }
                Ok((_, reply)) => {
                    Limit::Failed(format!("the reset was answered with {}", reply.told()))
                }
                Err(Trouble::Upgrade { status }) if !open.is_empty() => {
                    Limit::Refused(format!("HTTP {status} instead of an upgrade"))
                }
                Err(
                    trouble @ (Trouble::Lost(_) | Trouble::Closed { .. } | Trouble::Connect(_)),
                ) if !open.is_empty() => Limit::Dropped(trouble.to_string()),
                Err(trouble @ Trouble::Silent(_)) if !open.is_empty() => {
                    Limit::Silent(trouble.to_string())
                }
                Err(trouble) => Limit::Failed(trouble.to_string()),
            };
        return (open, limit);
    }
    (open, Limit::Reached)
}

/// The same with all sessions ended in good order.
pub(crate) fn measure(subject: &Subject<'_>, most: usize, until: Instant) -> Capacity {
    let (open, limit) = fill(subject, most, until);
    let sessions = open.len();
    Socket::close_all(open);
    Capacity { sessions, limit }
}
