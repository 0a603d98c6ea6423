//! Everything between messages and token ids, for episodes of many turns that are exact to the token.
//!
//! A [`Model`] is a folder's tokenizer, end-of-turn ids and chat template. A [`Chat`] is a model with
//! tools and settings, shared by all episodes of a job; [`Chat::begin`] renders and tokenises a first
//! prompt, and from there on a [`Conversation`] only appends ids: [`Conversation::sampled`] what the
//! model said, [`Conversation::observe`] what the environment said. What was seen or sampled is never
//! tokenised again. Where the template would write the past differently than it was seen, the
//! conversation [forks](Continuation::Forked), and says so.
//!
//! [`Actions`] turns generated text into what an environment takes, [`Observe`] an observation into a
//! message.
//!
//! Deliberately absent: sockets, threads, clocks other than the one that templates ask for the date,
//! and files other than the model's folder.

mod actions;
mod branch;
mod cache;
mod chat;
mod conversation;
mod delta;
mod ending;
mod folder;
mod json;
mod message;
mod model;
mod observe;
mod probe;
mod template;
mod window;

pub use actions::{
    ActionOptions, Actions, ActionsError, FieldType, Parsed, Parser, Reasoning, RegexFields,
    ToolFormat,
};
pub use branch::{Branch, Span};
pub use chat::{Chat, ChatError, ChatOptions, Continuity, Rewrites};
pub use conversation::{Continuation, Conversation, Drift, Why};
pub use json::Json;
pub use message::{Message, MessageError, ToolCall};
pub use model::{LoadError, Model, TokenError};
pub use observe::{Observe, ObserveError, ObserveOptions};
pub use template::{Template, TemplateError};
