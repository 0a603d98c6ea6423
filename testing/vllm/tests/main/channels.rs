//! The conformance suite over every channel.

use std::sync::Arc;

use envmill_inference::{
    Constraint, Control, Deliver, ErrorKind, Finish, HttpTarget, Inference, JsonSchema, OpenAiChat,
    PauseMode, Pool, PoolOptions, Request, Route, Sampling, VllmGrpc, VllmHttp, VllmHttpOptions,
    VllmMemory, VllmMemoryOptions, VllmNearest, Way,
    conformance::{self, Facts},
};
use envmill_protocol::PolicyVersion;

use crate::rig::{self, RUNTIME};

const FACTS: Facts = Facts { vocabulary: 4096, context: 4096 };

fn http(url: String, route: Option<Route>) -> VllmHttp {
    let target = HttpTarget { url, api_key: None };
    let options = VllmHttpOptions { target, model: None, route };
    VllmHttp::new(options, RUNTIME.handle().clone()).unwrap()
}

fn conforms(engine: Arc<dyn Inference>) {
    RUNTIME.block_on(conformance::all(&engine, FACTS));
}

#[test]
fn http_with_token_ids() {
    let server = rig::python();
    conforms(Arc::new(http(server.url(), None)));
}

#[test]
fn http_with_completions() {
    let server = rig::python();
    conforms(Arc::new(http(server.url(), Some(Route::Completions))));
}

#[test]
fn grpc_of_another_vllm() {
    let server = rig::rust();
    let http = http(server.url(), None);
    let url = format!("http://127.0.0.1:{}", server.grpc_port);
    conforms(Arc::new(VllmGrpc::new(&url, Some(http), RUNTIME.handle().clone()).unwrap()));
}

pub(crate) fn memory(server: &rig::Server) -> VllmMemory {
    let options = VllmMemoryOptions::new(&server.socket);
    VllmMemory::new(options, RUNTIME.handle().clone()).unwrap()
}

#[test]
fn shared_memory() {
    let server = rig::python();
    conforms(Arc::new(memory(&server)));
}

#[test]
fn the_most_likely_tokens_are_the_same_over_shared_memory_and_http() {
    let server = rig::python();
    let sampling =
        Sampling { top_logprobs: 5, ..Sampling::clone(&conformance::greedy(0, 1).sampling) };
    let sampling = Arc::new(sampling);
    for deliver in [Deliver::Whole, Deliver::Streamed] {
        let asked =
            || Request { sampling: Arc::clone(&sampling), deliver, ..conformance::greedy(3, 40) };
        let ours = RUNTIME.block_on(conformance::whole(&memory(&server), asked()));
        let theirs = RUNTIME.block_on(conformance::whole(&http(server.url(), None), asked()));
        assert_eq!(ours.token_ids, theirs.token_ids);
        assert_eq!((ours.top_logprobs.places(), theirs.top_logprobs.places()), (40, 40));
        for place in 0..40 {
            let pairs: Vec<_> =
                ours.top_logprobs.at(place).zip(theirs.top_logprobs.at(place)).collect();
            assert_eq!(pairs.len(), 5);
            for (ours, theirs) in pairs {
                assert!(
                    ours.0 == theirs.0 && (ours.1 - theirs.1).abs() < 1e-4,
                    "{ours:?} {theirs:?}"
                );
            }
        }
    }
}

#[test]
fn shared_memory_refuses_schemas_that_no_grammar_can_be_made_of() {
    let server = rig::python();
    let engine = memory(&server);
    let schema = JsonSchema::new(r##"{"$ref": "#/nowhere"}"##).unwrap();
    let constraint = Some(Constraint::JsonSchema(schema));
    let sampling = Arc::new(Sampling { constraint, ..Sampling::default() });
    let held = Request { sampling, ..conformance::greedy(12, 100) };
    let error = RUNTIME.block_on(engine.generate(held).whole()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    RUNTIME.block_on(conformance::what_is_held_to_a_constraint_follows_it(&engine));
}

fn nearest(server: &rig::Server) -> (VllmNearest, Way) {
    let engine = VllmNearest::new(http(server.url(), None), RUNTIME.handle().clone());
    let way = RUNTIME.block_on(engine.choose());
    (engine, way)
}

#[test]
fn the_nearest_is_shared_memory_where_that_is_offered() {
    let server = rig::python();
    let (engine, way) = nearest(&server);
    assert_eq!(way, Way::Memory { socket: server.socket.clone() });
    conforms(Arc::new(engine));
}

#[test]
fn the_nearest_to_another_vllm_is_http_where_nothing_is_offered() {
    let server = rig::rust();
    let (engine, way) = nearest(&server);
    assert_eq!(way, Way::Http { instead: None });
    let outcome = RUNTIME.block_on(conformance::whole(&engine, conformance::greedy(1, 4)));
    assert_eq!(outcome.token_ids.len(), 4);
}

/// What so many requests at once say of their time in vLLM's queue.
fn waited(engine: &dyn Inference, requests: u32) -> Vec<Option<u64>> {
    let asked: Vec<_> =
        (0..requests).map(|it| engine.generate(conformance::greedy(it, 32))).collect();
    RUNTIME.block_on(async {
        let mut told = Vec::new();
        for it in asked {
            told.push(it.whole().await.unwrap().finished.unwrap().queue_us);
        }
        told
    })
}

#[test]
fn the_time_in_its_queue_is_known_where_it_is_told() {
    let server = rig::python();
    // More than it runs at once, so that some wait.
    let told = waited(&memory(&server), 400);
    assert!(told.iter().all(Option::is_some), "{told:?}");
    assert!(told.iter().flatten().any(|it| *it > 0), "{told:?}");
    let told = waited(&http(server.url(), Some(Route::Completions)), 8);
    assert!(told.iter().all(Option::is_some), "{told:?}");
    // The endpoint for token ids does not say.
    assert_eq!(waited(&http(server.url(), Some(Route::Generate)), 2), [None; 2]);
}

#[test]
fn shared_memory_loads_weights_and_stops_at_texts() {
    let server = rig::python();
    let engine = memory(&server);
    RUNTIME.block_on(async {
        let before = conformance::whole(&engine, conformance::greedy(1, 8)).await;
        engine.control(Control::Pause(PauseMode::Keep)).await.unwrap();
        let folder = rig::folder().join("tiny-qwen2");
        engine.control(Control::LoadWeights { folder }).await.unwrap();
        engine.control(Control::SetVersion(PolicyVersion(11))).await.unwrap();
        engine.control(Control::Resume).await.unwrap();
        let after = conformance::whole(&engine, conformance::greedy(1, 8)).await;
        assert_eq!(before.token_ids, after.token_ids);
        assert_eq!(after.versions[0].version, PolicyVersion(11));
        let mut request = conformance::greedy(1, 200);
        let stop = ["e", "a", "t", "s", "i", "n"].map(String::from).to_vec();
        // Greedily, this model says the same token for ever.
        request.sampling = Arc::new(Sampling { stop, ignore_eos: true, ..Sampling::default() });
        let stopped = conformance::whole(&engine, request).await;
        let finish = stopped.finish();
        assert!(matches!(finish, Some(Finish::StopText(it)) if it.len() == 1), "{finish:?}");
        assert_eq!(stopped.logprobs.len(), stopped.token_ids.len());
    });
}

#[test]
fn a_pool_of_one() {
    let server = rig::python();
    let pool = Pool::new(
        PoolOptions { vocabulary: Some(4096), ..PoolOptions::default() },
        RUNTIME.handle().clone(),
    );
    pool.add("one", Arc::new(http(server.url(), None)));
    conforms(Arc::new(pool));
}

/// A chat endpoint speaks text: that is all that comes.
#[test]
fn a_chat_endpoint_gives_text() {
    let server = rig::python();
    let target = HttpTarget { url: format!("{}/v1", server.url()), api_key: None };
    let engine = OpenAiChat::new(target, "tiny".to_owned(), RUNTIME.handle().clone()).unwrap();
    let mut request = conformance::greedy(1, 8);
    request.messages = Some(r#"[{"role":"user","content":"Say something."}]"#.into());
    let outcome = RUNTIME.block_on(engine.generate(request).whole()).unwrap();
    assert!(outcome.token_ids.is_empty());
    let finished = outcome.finished.unwrap();
    assert!(!finished.text.unwrap().is_empty());
    let bare = RUNTIME.block_on(engine.generate(conformance::greedy(1, 8)).whole());
    assert_eq!(bare.unwrap_err().kind, ErrorKind::Unsupported);
}
