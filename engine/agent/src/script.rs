//! The seam of agents in code.

use std::pin::Pin;

use bytes::Bytes;
use envmill_chat::Message;
use envmill_inference::Finish;

/// An agent in code: it is asked what the model is to be told, and what comes of its words, where
/// configuration cannot say that. What is sampled, recorded and counted stays the engine's.
///
/// # Contract
///
/// * A conversation is one attempt at an episode. Its questions come one after another: first
///   [`Seen`](Question::Seen) with what the reset showed; after each [`Answer::Tell`] a
///   [`Said`](Question::Said); after each [`Answer::Act`] a `Seen` with what the step showed, unless the
///   episode has ended. Questions of different conversations come at the same time.
/// * After its last question, [`ended`](Self::ended) is called once, whatever ended it.
/// * An error fails the attempt, with its text as the reason.
pub trait Script: Send + Sync {
    /// Answers a question. What is dropped before it is answered is not wanted any more.
    fn ask(&self, ask: Ask) -> Answering<'_>;

    /// A conversation asks nothing more.
    fn ended(&self, conversation: u64) {
        let _ = conversation;
    }
}

/// The answer to a question, once it is there.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// A question to an agent in code.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Names the conversation; unique in this process.
    pub conversation: u64,
    /// The episode's number in its job.
    pub episode: u64,
    /// The seed of the episode's reset, as far as it has one.
    pub seed: u64,
    /// Steps taken so far.
    pub step: u32,
    /// What is asked.
    pub question: Question,
}

/// What an agent in code is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// The environment has shown something: what now?
    Seen {
        /// The observation: the text of one JSON value.
        observation: Bytes,
        /// The reward of the step before; `None`: it gave none.
        reward: Option<f64>,
    },
    /// The model has said something: what now?
    Said {
        /// Its words, reasoning included.
        text: String,
        /// What stands behind its reasoning; `None` where that does not end.
        answer: Option<String>,
        /// Why it ended.
        finish: Finish,
    },
}

/// What an agent in code answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// These messages are told to the model, which then says something.
    Tell {
        /// The messages: at least one.
        messages: Vec<Message>,
        /// The most tokens that it may sample, if fewer than `limits.turn_tokens`.
        max_tokens: Option<u32>,
    },
    /// The environment takes this action: the text of one JSON object.
    Act(Bytes),
    /// The episode is truncated (`malformed`), and why; what was played counts.
    Truncate(String),
    /// The attempt fails, and why.
    Fail(String),
}
