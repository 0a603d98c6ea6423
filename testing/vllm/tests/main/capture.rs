//! A harness with the `openai` package, captured in front of a real vLLM.

use std::{path::Path, process::Command, sync::Arc};

use envmill_capture::{Begun, Capture, CaptureOptions, Captured};
use envmill_chat::Model;
use envmill_inference::{
    Deliver, Finish, HttpTarget, Inference, Request, RequestId, Route, Sampling, VllmGrpc,
    VllmHttp, VllmHttpOptions,
};
use envmill_protocol::record::{Conversation, whole_prompt};

use crate::{
    channels::memory,
    rig::{self, RUNTIME},
};

fn http(server: &rig::Server, route: Option<Route>) -> Arc<VllmHttp> {
    let target = HttpTarget { url: server.url(), api_key: None };
    let options = VllmHttpOptions { target, model: None, route };
    Arc::new(VllmHttp::new(options, RUNTIME.handle().clone()).unwrap())
}

/// Plays a scenario of `testing/python/openai_client.py`.
fn played(engine: Arc<dyn Inference>, scenario: &str) -> Captured {
    let model = Arc::new(Model::load(rig::folder().join("tiny-qwen2")).unwrap());
    let options = CaptureOptions { context_tokens: 4096, ..CaptureOptions::default() };
    let capture = Capture::new(model, engine, options).unwrap();
    let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = capture.clone();
    RUNTIME.spawn(async move { serving.serve(listener, std::future::pending()).await });
    let key = capture.open(None).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/openai_client.py");
    let status = Command::new(envmill_testing::python().unwrap())
        .arg(script)
        .args([scenario, &format!("http://{address}/v1"), key.as_str()])
        .status()
        .unwrap();
    assert!(status.success());
    capture.close(&key).unwrap()
}

fn captures(route: Route) {
    let server = rig::python();
    let engine = http(&server, Some(route));
    let captured = played(engine.clone(), "turns");
    let begun: Vec<_> = captured.calls.iter().map(|it| it.begun).collect();
    assert_eq!(begun, [Begun::Anew, Begun::Continued, Begun::Continued, Begun::Continued]);
    assert_eq!((captured.branches, captured.generations.len()), (1, 4));
    let whole = Conversation::of(&captured.generations, &[]);
    assert_eq!(whole.turns.len(), 8);
    // vLLM, asked by the recorded ids themselves, says the same: it had got those and sampled these.
    for (index, generated) in captured.generations.iter().enumerate() {
        let prompt = whole_prompt(&captured.generations, index);
        let request = Request {
            id: RequestId(1 << 60),
            prompt: prompt.as_slice().into(),
            messages: None,
            sampling: Arc::new(Sampling { temperature: 0.0, ..Sampling::default() }),
            max_tokens: 24,
            seed: None,
            affinity: None,
            deliver: Deliver::Whole,
        };
        let outcome = RUNTIME.block_on(engine.generate(request).whole()).unwrap();
        assert_eq!(outcome.token_ids, generated.token_ids);
        let finished = outcome.finished.unwrap();
        assert!(matches!(finished.finish, Finish::Length | Finish::EndOfTurn));
        if let Some(seen) = finished.prompt {
            assert_eq!(seen, prompt);
        }
        let pairs = outcome.logprobs.iter().zip(&generated.logprobs);
        assert!(pairs.clone().count() == generated.token_ids.len());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3));
    }
}

#[test]
fn captured_calls_are_what_vllm_has_seen() {
    captures(Route::Generate);
}

#[test]
fn captured_calls_are_what_vllm_has_seen_as_completions() {
    captures(Route::Completions);
}

/// Several choices, the most likely tokens, completions, formats and calls that had to be made.
fn answers_all_of_it(engine: Arc<dyn Inference>) {
    let captured = played(engine, "api");
    let parents: Vec<_> = captured.calls.iter().map(|it| it.parent).collect();
    let (last, before) = (&parents[7], &parents[..7]);
    assert!(before.iter().all(Option::is_none), "{parents:?}");
    assert_eq!((*last, captured.calls[7].begun), (Some(6), Begun::Continued));
    // What was held to something says so.
    for call in &captured.calls[8..] {
        let sampling: serde_json::Value = serde_json::from_slice(&call.sampling).unwrap();
        assert!(sampling["structured_outputs"]["json"].is_object(), "{sampling}");
    }
    assert!(captured.calls.len() >= 11);
}

#[test]
fn vllm_answers_all_that_is_asked() {
    let server = rig::python();
    answers_all_of_it(http(&server, None));
}

#[test]
fn vllm_answers_all_that_is_asked_as_completions() {
    let server = rig::python();
    answers_all_of_it(http(&server, Some(Route::Completions)));
}

#[test]
fn vllm_answers_all_that_is_asked_over_shared_memory() {
    let server = rig::python();
    answers_all_of_it(Arc::new(memory(&server)));
}

#[test]
fn vllm_answers_all_that_is_asked_over_grpc() {
    let server = rig::rust();
    let url = format!("http://127.0.0.1:{}", server.grpc_port);
    let engine =
        VllmGrpc::new(&url, Some((*http(&server, None)).clone()), RUNTIME.handle().clone());
    answers_all_of_it(Arc::new(engine.unwrap()));
}
