//! A trainer in Python that knows the documents and nothing else.

use std::process::Command;

use envmill_service::Played;
use serde_json::{Value, json};

use crate::{
    memory::with_tokens,
    rig::{Rig, episodes},
};

#[tokio::test(flavor = "multi_thread")]
async fn python_sums_arrays_in_place() {
    let rig = Rig::new().await;
    let trainer = rig.submit(episodes(200)).await;
    let (id, job) = (trainer.id(), rig.puppet.job().await);
    drop(trainer);
    rig.puppet.tell(Played::Records((0..200).map(|it| with_tokens(&job, it, 300)).collect()));
    let address = rig.address.clone();
    let run = move |ring_bytes: &str| {
        let mut command = Command::new(envmill_testing::python().unwrap());
        command.arg("-B").arg(envmill_testing::script("ring_trainer.py"));
        let output = command.args([&address, &id, "200", ring_bytes]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (through, without) =
        tokio::task::spawn_blocking(move || (run("32768"), run("0"))).await.unwrap();
    assert_eq!((&through["in_memory"], &without["in_memory"]), (&json!(200), &json!(0)));
    assert_eq!(through["writable"], json!(0), "views of read-only memory");
    assert_eq!(through["numbers"], json!((1..=200).collect::<Vec<_>>()));
    assert_eq!(through["numbers"], without["numbers"]);
    assert_eq!(through["sums"], without["sums"]);
}
