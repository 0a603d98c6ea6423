//! A harness with the `openai` package, captured in front of a real vLLM.

use std::{path::Path, process::Command, sync::Arc};

use envmill_capture::{Begun, Capture, CaptureOptions};
use envmill_chat::Model;
use envmill_inference::{
    Deliver, Finish, HttpTarget, Inference, Request, RequestId, Route, Sampling, VllmHttp,
    VllmHttpOptions,
};
use envmill_protocol::record::{Conversation, whole_prompt};

use crate::rig::{self, RUNTIME};

fn captures(route: Route) {
    let server = rig::python();
    let target = HttpTarget { url: server.url(), api_key: None };
    let options = VllmHttpOptions { target, model: None, route: Some(route) };
    let engine = Arc::new(VllmHttp::new(options, RUNTIME.handle().clone()).unwrap());
    let model = Arc::new(Model::load(rig::folder().join("tiny-qwen2")).unwrap());
    let options = CaptureOptions { context_tokens: 4096, ..CaptureOptions::default() };
    let capture = Capture::new(model, engine.clone(), options).unwrap();
    let listener = RUNTIME.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = capture.clone();
    RUNTIME.spawn(async move { serving.serve(listener, std::future::pending()).await });
    let key = capture.open(None).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/openai_client.py");
    let status = Command::new(envmill_testing::python().unwrap())
        .arg(script)
        .args(["turns", &format!("http://{address}/v1"), key.as_str()])
        .status()
        .unwrap();
    assert!(status.success());
    let captured = capture.close(&key).unwrap();
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
