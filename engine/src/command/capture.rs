//! `envmill capture`.

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use envmill_capture::CaptureOptions;

use super::signals;
use crate::{
    model::{Bearer, CaptureSetup, ModelSpec},
    secret::Places,
    serve::Stop,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The inference engine: vllm:URL, vllm-http:URL, vllm-grpc:URL, vllm-core:PORT or vllm-memory:SOCKET,
    /// further replicas behind commas.
    #[arg(long, value_name = "vllm:URL")]
    policy: ModelSpec,

    /// The folder of the model. [default: the one that the inference engine serves]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Where harnesses find it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7470")]
    listen: SocketAddr,

    /// The environment variable of a secret that whoever opens and closes episodes must give as a bearer token.
    /// Needed where other machines can reach it.
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,

    /// The file of such a secret, and nothing else, in place of a variable.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Where traces.jsonl goes.
    #[arg(long, value_name = "DIR", default_value = "captured")]
    out: PathBuf,

    /// Episodes that nobody closes are over after so long.
    #[arg(long, value_name = "S", default_value_t = 3600)]
    expires_after_s: u64,

    /// How the model writes calls of tools: hermes, llama, mistral or xml.
    #[arg(long, value_name = "FORMAT", default_value = "hermes")]
    tool_format: String,
}

pub(super) fn run(arguments: Arguments) -> Result<u8, String> {
    let Arguments {
        policy,
        model,
        listen,
        token_env,
        token_file,
        out,
        expires_after_s,
        tool_format,
    } = arguments;
    let token = Places::token(token_env.as_deref(), token_file.as_deref());
    let token = token.read(|name| std::env::var(name).ok());
    let token = token.map_err(|(setting, problem)| format!("--{setting}: {problem}"))?;
    let tool_format = serde_json::from_value(tool_format.clone().into()).map_err(|_| {
        format!("--tool-format: `{tool_format}` is none of hermes, llama, mistral and xml")
    })?;
    let setup = CaptureSetup {
        spec: policy,
        model,
        listen,
        token: token.map(|token| Bearer::of(token.text())),
        out,
        expires_after: Duration::from_secs(expires_after_s),
        options: CaptureOptions { tool_format, ..CaptureOptions::default() },
    };
    let stop = Stop::new();
    let told = "ending: episodes that are open are kept as they are";
    signals::stop(stop.clone(), told).map_err(|error| error.to_string())?;
    let ready = |url: &str| {
        // A reader that has gone away has seen enough.
        let _ = writeln!(std::io::stdout(), "{url}");
        let _ = std::io::stdout().flush();
    };
    setup.serve(&stop, ready).map_err(|error| error.to_string())?;
    Ok(0)
}
