//! The trait.

use super::{Answer, Control, Error, ErrorKind, Generation, Request, RequestId, Sampling};

/// A channel to one inference engine, or to several that are used as one.
///
/// # Contract
///
/// * Every generation ends: with a chunk that has [`finished`](crate::Chunk::finished) set, or with an
///   error. Nothing follows either. What came before is what was sampled, in order, none of it twice.
/// * Dropping a [`Generation`] aborts it: the inference engine stops sampling as soon as it is told, and
///   its place is free for others.
/// * A request is never sent to the engine twice by one call of [`generate`](Self::generate), except by a
///   [`Pool`](crate::Pool), which says how.
/// * Nothing that an engine sends makes a channel panic, and nothing makes it hold more than it was asked
///   to generate and one message.
/// * A request asks for one sample of one prompt; a group is so many requests.
pub trait Inference: Send + Sync {
    /// What this channel can do.
    fn capabilities(&self) -> Capabilities;

    /// Begins a generation. Never blocks; what goes wrong is the generation's error.
    fn generate(&self, request: Request) -> Generation;

    /// Ends these generations: what was sampled so far comes with
    /// [`Finish::Aborted`](crate::Finish::Aborted). Unknown ones are ignored.
    fn abort(&self, requests: &[RequestId]);

    /// Changes the state of the engine: pauses it, loads weights. An error of [`Control::LoadWeights`] or
    /// [`Control::SetVersion`] means that nobody knows what the engine samples from: it is lost until it is
    /// restarted.
    fn control(&self, control: Control) -> Answer<'_, ()>;

    /// Asks the engine how busy it is. `None`: it does not say.
    fn load(&self) -> Answer<'_, Option<Load>>;
}

/// What a channel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Tokens are token ids, in and out. False for endpoints that only speak text: their records say that
    /// tokens are unknown.
    pub token_ids: bool,
    /// Chunks come as they are sampled. False: one chunk, at the end.
    pub streaming: bool,
    /// The engine itself says which weights sampled which tokens. False: tokens get the version that was
    /// in force when their chunk arrived, or, where all come in one, when they were asked for. Then it is
    /// right if generations are aborted before the weights change.
    pub version_spans: bool,
    /// The engine knows strings that end a generation. False: [`Sampling::stop`](crate::Sampling::stop)
    /// has to be empty.
    pub stop_strings: bool,
    /// [`Control`] is answered. False: the engine cannot be paused or given weights over this channel.
    pub control: bool,
    /// It gives the log-probabilities of so many most likely tokens at each place. 0: of the sampled one only,
    /// and [`Sampling::top_logprobs`] has to be 0.
    pub top_logprobs: u32,
    /// It holds what is sampled to a constraint. False: [`Sampling::constraint`] has to be `None`.
    pub constraints: bool,
}

impl Capabilities {
    /// Whether all that is wanted besides the sampled tokens can be had.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: it says what cannot.
    pub fn allow(self, sampling: &Sampling) -> Result<(), Error> {
        let unsupported = |what: String| Err(Error::new(ErrorKind::Unsupported, what));
        if sampling.top_logprobs > self.top_logprobs {
            let (wanted, most) = (sampling.top_logprobs, self.top_logprobs);
            return unsupported(format!(
                "log-probabilities of {wanted} most likely tokens, and it gives those of {most}"
            ));
        }
        if sampling.constraint.is_some() && !self.constraints {
            return unsupported("what is sampled cannot be held to JSON or a schema".to_owned());
        }
        Ok(())
    }
}

/// How busy an inference engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests being sampled for.
    pub running: u64,
    /// Requests that wait for room.
    pub waiting: u64,
    /// The share of its key-value cache that is in use, 0 to 1.
    pub kv_cache: f64,
    /// Prompt tokens looked up in its prefix cache since it was started.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// When its process was started: seconds since 1970 (UTC). Another number is another process.
    pub started: Option<u64>,
}
