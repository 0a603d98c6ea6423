//! What Prometheus is told.

use std::{collections::BTreeSet, fs};

use envmill_testing::Watchdog;

use super::rig::{Service, account};
use crate::rig::BOUND;

#[test]
fn the_figures_are_those_of_the_documentation() {
    let _watchdog = Watchdog::start("figures", BOUND);
    let service = Service::start("[environments.cartpole]\nenv = \"native:cartpole\"\n");
    let more = ["--max-steps", "5", "--samples", "2"];
    account(&service.trainer("cartpole", 20, &more).run().unwrap());
    // One that is refused is counted, too.
    service.trainer("nothing", 20, &[]).run().unwrap();
    let figures = service.figures();
    let line = |name: &str| {
        let found = figures.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("no {name} in\n{figures}")).to_owned()
    };
    assert!(
        line("envmill_episodes_total{environment=\"cartpole\",end=\"truncated\"}").ends_with(" 20")
    );
    assert!(line("envmill_groups_total").ends_with(" 10"));
    assert!(line("envmill_records_delivered_total").ends_with(" 31"));
    let told: BTreeSet<&str> = figures
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/service.md");
    let page = fs::read_to_string(page).unwrap();
    // No server has refused a session here.
    let told: BTreeSet<&str> = told.into_iter().chain(["envmill_server_learned_limit"]).collect();
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `envmill_"))
        .filter_map(|line| line.split('`').next())
        .map(|name| name.trim_end_matches("_total"))
        .collect();
    let told: BTreeSet<&str> =
        told.iter().filter_map(|name| name.strip_prefix("envmill_")).collect();
    assert_eq!(told, documented);
}
