//! Language models by token ids: what the engine asks of an inference engine, and the channels to one.
//!
//! Start at [`Inference`]. A [`Request`] goes in as token ids; a [`Generation`] comes back, whose
//! [`Chunk`]s are token ids, log-probabilities and the policy versions that sampled them. Dropping a
//! generation aborts it. Behind the seam stand [`VllmHttp`], [`VllmGrpc`], [`VllmMemory`] and
//! [`EngineCore`], [`VllmNearest`], which chooses among them, for evaluation any chat endpoint
//! ([`OpenAiChat`]), and a [`Pool`] of replicas, which decides where a request goes, waits where there is no
//! room, and continues a generation elsewhere when its replica is lost.
//!
//! Deliberately absent: text. Templates, tokenisers and what an action looks like are `envmill-chat`'s;
//! here a prompt is token ids and stays so.

#[cfg(feature = "conformance")]
pub mod conformance;
mod engine_core;
mod grpc;
mod http;
mod memory;
mod nearest;
mod pool;
mod seam;

pub use engine_core::{EngineCore, EngineCoreOptions, ModelFacts};
pub use grpc::VllmGrpc;
pub use http::{HttpTarget, OpenAiChat, Route, Served, VllmHttp, VllmHttpOptions};
pub use memory::{VllmMemory, VllmMemoryOptions};
pub use nearest::{VllmNearest, Way};
pub use pool::{Pool, PoolOptions, PoolStatus, ReplicaStatus, Standing};
pub use seam::{
    Answer, Capabilities, Chunk, Constraint, Control, Deliver, Error, ErrorKind, Feed, Finish,
    Finished, Generation, Inference, JsonSchema, Load, Outcome, PauseMode, Request, RequestId,
    Sampling, TOP_LOGPROBS_MAX, TopLogprobs,
};
