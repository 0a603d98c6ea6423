//! An endpoint over the mock engine, on a port.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use envmill_capture::{Capture, CaptureOptions, Key};
use envmill_chat::Model;
use tokio::runtime::Runtime;

use crate::mock::Mock;

pub(crate) struct Rig {
    pub(crate) capture: Capture,
    pub(crate) mock: Arc<Mock>,
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

pub(crate) fn options() -> CaptureOptions {
    let fixtures = fixtures();
    let template = std::fs::read_to_string(fixtures.join("templates/chatml.jinja")).unwrap();
    CaptureOptions { template_source: Some(template), ..CaptureOptions::default() }
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../chat/tests/fixtures")
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(options(), Duration::ZERO)
    }

    pub(crate) fn with(options: CaptureOptions, latency: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let model = Arc::new(Model::load(fixtures().join("bytes")).unwrap());
        let handle = runtime.handle().clone();
        let mock = Arc::new(Mock::new(Arc::clone(&model), latency, handle));
        let capture = Capture::new(model, mock.clone(), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = capture.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            serving.serve(listener, std::future::pending()).await
        });
        Self { capture, mock, address, _runtime: runtime }
    }

    pub(crate) fn open(&self) -> Key {
        self.capture.open(None).unwrap()
    }

    /// Plays a scenario of `testing/python/openai_client.py`.
    pub(crate) fn python(&self, scenario: &str, key: &Key) {
        let output = Command::new(envmill_testing::python().unwrap())
            .arg(envmill_testing::script("openai_client.py"))
            .args([scenario, &format!("http://{}/v1", self.address), key.as_str()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{scenario}: {text}");
    }
}
