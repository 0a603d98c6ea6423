//! The conformance suite over every channel.

use std::sync::Arc;

use envmill_inference::{
    HttpTarget, Inference, Pool, PoolOptions, Route, VllmGrpc, VllmHttp, VllmHttpOptions,
    VllmMemory, VllmMemoryOptions,
    conformance::{self, Facts},
};

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

#[test]
fn shared_memory() {
    let server = rig::python();
    let options = VllmMemoryOptions::new(&server.socket);
    conforms(Arc::new(VllmMemory::new(options, RUNTIME.handle().clone()).unwrap()));
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
