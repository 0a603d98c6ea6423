//! An inference server that samples nothing: for `verifiers-rollouts`, so that what it uses is not counted.
//!
//! `mock-model FOLDER LATENCY_MS TOKEN,…`: answers vLLM's endpoint for token ids with always the same
//! tokens, after always the same time, and names FOLDER as its model's. Prints its port. Ends when standard
//! input does.

#![expect(clippy::print_stdout, reason = "the port is what it is started for")]

use std::{io::Read as _, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    http::header,
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, latency, tokens] = &arguments[..] else {
        anyhow::bail!("mock-model FOLDER LATENCY_MS TOKEN,…");
    };
    let latency = Duration::from_millis(latency.parse().context("the latency")?);
    let tokens: Vec<u32> =
        tokens.split(',').map(str::parse).collect::<Result<_, _>>().context("the tokens")?;
    let answer = Bytes::from(answer(&tokens));
    let models = json!({"object": "list", "data": [
        {"id": "mock", "object": "model", "root": folder, "max_model_len": 32768},
    ]});
    let models = Bytes::from(models.to_string());
    let app = Router::new()
        .route("/health", get(|| async {}))
        .route("/metrics", get(|| async { "" }))
        .route("/v1/models", get(move || async { json_of(models) }))
        .route(
            "/inference/v1/generate",
            post(move |_asked: Bytes| async move {
                tokio::time::sleep(latency).await;
                json_of(answer)
            }),
        );
    std::thread::spawn(|| {
        // Whatever is read, or fails to be: it is the end that is waited for.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?.port());
        axum::serve(listener, app).await?;
        Ok(())
    })
}

fn json_of(body: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// As vLLM answers.
fn answer(tokens: &[u32]) -> String {
    let logprobs: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "token": format!("token_id:{token}"), "logprob": -1.25, "bytes": null,
                "top_logprobs": [],
            })
        })
        .collect();
    let choice = json!({
        "index": 0, "logprobs": {"content": logprobs}, "finish_reason": "stop",
        "token_ids": tokens,
    });
    json!({"request_id": "generate-tokens-mock", "choices": [choice]}).to_string()
}
