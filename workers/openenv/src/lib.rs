//! Steps environments on remote OpenEnv servers over WebSocket: any number of sessions, one thread.
//!
//! Start at [`OpenEnvWorker`], an `envmill_workers::Worker`; [`Options`] says what it is told.
//! [`describe`] asks a server for its schemas beforehand, and [`tools`] for its tools. Inside,
//! a slot's way leads from `sessions` (which slot has which connection) through `opening` (addresses,
//! TLS, upgrade) to `session` (one request, one answer: on a WebSocket in `socket`, by HTTP requests in
//! `mcp_http`) and, closed, to `lingering`; `link` is a socket that never waits and makes no system
//! call whose answer is known; `websocket` is the framing; `gathering` lets answers come in company
//! where many are outstanding.
//!
//! What a step costs: one write, one read and a share of one look at the event queue; one copy of
//! the answer, into an allocation of exactly its size. What an idle session costs: about 300 bytes,
//! since all sockets are read into one buffer.
//!
//! Deliberately absent: deadlines, retries, pacing and limits on how many sessions a server is
//! asked for, which are the scheduler's; compression; redirects; proxies; pipelining, which OpenEnv
//! servers do not survive. A server that never answers is waited for until its slot is closed.

mod address;
mod connect;
mod connections;
mod describe;
mod desk;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gathering;
mod http_answer;
mod limits;
mod lingering;
mod link;
mod mcp_http;
mod metrics;
mod opening;
mod options;
mod resolve;
mod session;
mod sessions;
mod socket;
mod source;
mod tasks;
mod tls;
mod tools;
mod websocket;
mod worker;

pub use address::AddressError;
pub use describe::{DescribeError, Description, describe, metadata, ready};
pub use limits::raise_descriptor_limit;
pub use metrics::Metrics;
pub use options::{Options, OptionsError, Server, Transport};
pub use tasks::{ask_tasks, environments, num_tasks, task_range};
pub use tls::tls_config;
pub use tools::{Tool, ToolsError, list_tools, tools};
pub use worker::OpenEnvWorker;
