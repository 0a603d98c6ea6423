//! Which inference engine, as the user writes it.

use std::{fmt, str::FromStr};

/// An inference engine as named on the command line and in a configuration file: `vllm:URL`, with further
/// replicas behind commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// How it is spoken with.
    pub channel: Channel,
    /// Where its replicas are, at least one: what follows the channel's name.
    pub replicas: Vec<String>,
}

/// How an inference engine is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// vLLM, over the fastest channel that its HTTP server offers on this host. Replicas are URLs.
    Vllm,
    /// vLLM over HTTP, whatever else it offers. Replicas are URLs.
    VllmHttp,
    /// vLLM's Rust frontend over gRPC. Replicas are `GRPC_URL` or `GRPC_URL+HTTP_URL`.
    VllmGrpc,
    /// The core of vLLM (`vllm serve --headless`) on this host, which dials in. Replicas are ports or
    /// `HOST:PORT` of a handshake.
    VllmCore,
    /// vLLM on this host, over shared memory (`VLLM_PLUGINS=envmill`). Replicas are paths of sockets.
    VllmMemory,
    /// A chat endpoint, text only. Replicas are `MODEL@URL`.
    OpenAi,
}

impl Channel {
    const ALL: [Self; 6] = [
        Self::Vllm,
        Self::VllmHttp,
        Self::VllmGrpc,
        Self::VllmCore,
        Self::VllmMemory,
        Self::OpenAi,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::VllmHttp => "vllm-http",
            Self::VllmGrpc => "vllm-grpc",
            Self::VllmCore => "vllm-core",
            Self::VllmMemory => "vllm-memory",
            Self::OpenAi => "openai",
        }
    }
}

/// The text names no inference engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no inference engine: use vllm:URL, vllm-http:URL, vllm-grpc:URL, vllm-core:PORT, \
     vllm-memory:SOCKET or openai:MODEL@URL, replicas with commas"
)]
pub struct ModelSpecError(pub String);

impl FromStr for ModelSpec {
    type Err = ModelSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ModelSpecError(text.to_owned());
        let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
        let channel = *Channel::ALL.iter().find(|it| it.name() == name).ok_or_else(wrong)?;
        let replicas: Vec<_> = rest.split(',').map(|it| it.trim().to_owned()).collect();
        if replicas.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { channel, replicas })
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel.name(), self.replicas.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_shown() {
        for text in [
            "vllm:http://a:8000",
            "vllm:http://a:1,http://b:2",
            "vllm-http:http://a:8000",
            "vllm-core:29550",
            "openai:m@https://x/v1",
        ] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["vllm", "vllm:", "vllm:http://a,", "sglang:http://a", "random"] {
            assert!(text.parse::<ModelSpec>().is_err(), "{text}");
        }
    }
}
