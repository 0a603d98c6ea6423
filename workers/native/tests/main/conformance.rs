//! The suite of the worker seam.

use bytes::Bytes;
use envmill_native::environment;
use envmill_workers::{
    Worker,
    conformance::{Subject, run_all},
};

use crate::support::parameters;

struct Native {
    name: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    action: &'static str,
    refused: &'static str,
    slow: bool,
    steps_to_end: Option<u32>,
}

impl Subject for Native {
    fn worker(&self) -> Box<dyn Worker> {
        let environment = environment(self.name, &parameters(self.parameters)).expect("known");
        Box::new(environment.worker())
    }

    fn action(&self) -> Bytes {
        Bytes::from_static(self.action.as_bytes())
    }

    fn refused_action(&self) -> Bytes {
        Bytes::from_static(self.refused.as_bytes())
    }

    fn slow_action(&self) -> Option<Bytes> {
        self.slow.then(|| self.action())
    }

    fn steps_to_end(&self) -> Option<u32> {
        self.steps_to_end
    }

    fn tool_request(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#))
    }
}

#[test]
fn echo_conforms() {
    run_all(&Native {
        name: "echo",
        parameters: &[],
        action: r#"{"message":"hello"}"#,
        refused: r#"{"message":5}"#,
        slow: false,
        steps_to_end: None,
    });
}

#[test]
fn cartpole_conforms() {
    run_all(&Native {
        name: "cartpole",
        parameters: &[],
        action: r#"{"action":1}"#,
        refused: r#"{"action":2}"#,
        slow: false,
        steps_to_end: Some(60),
    });
}

#[test]
fn frozenlake_conforms() {
    run_all(&Native {
        name: "frozenlake",
        parameters: &[("map", "8x8"), ("slippery", "false")],
        action: r#"{"action":1}"#,
        refused: r#"{"action":4}"#,
        slow: false,
        steps_to_end: Some(200),
    });
}

#[test]
fn wordguess_conforms() {
    run_all(&Native {
        name: "wordguess",
        parameters: &[],
        action: r#"{"guess":"crane"}"#,
        refused: r#"{"guess":"cranes"}"#,
        slow: false,
        steps_to_end: Some(6),
    });
}

#[test]
fn a_slow_synthetic_conforms() {
    run_all(&Native {
        name: "synthetic",
        parameters: &[("step_ms", "60"), ("episode_steps", "4")],
        action: "{}",
        refused: r#"{"value":-1}"#,
        slow: true,
        steps_to_end: Some(7),
    });
}
