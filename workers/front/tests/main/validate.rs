//! `openenv validate` against a running front, with every check it has for one.

use std::process::{Command, Stdio};

use envmill_front::Mode;
use envmill_testing::{Watchdog, python, script};
use serde_json::Value;

use crate::{served::Served, twin::WATCHDOG};

#[test]
fn openenv_validates_the_front() {
    let _watchdog = Watchdog::start("openenv validate", WATCHDOG);
    for (mode, name) in [(Mode::Simulation, "simulation"), (Mode::Production, "production")] {
        let served = Served::native("echo", |options| options.mode = mode);
        let output = Command::new(python().unwrap())
            .arg(script("openenv_cli.py"))
            .args(["validate", "--json", "--timeout", "60", "--url", &served.url()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("{error}:\n{stdout}\n{stderr}"));
        assert!(output.status.success() && report["passed"] == true, "{report:#}");
        assert_eq!(report["mode"], name);
        assert_eq!(report["standard_profile"], "openenv-http/1.x");
        let criteria = report["criteria"].as_array().unwrap();
        assert!(criteria.len() >= 6 && criteria.iter().all(|each| each["passed"] == true));
    }
}
