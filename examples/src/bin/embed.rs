//! The rollout service inside another program: a trainer with the engine in its own process.
//!
//! Serves a native CartPole on a free port of this machine, plays 200 episodes of it in groups of 4, and
//! prints what each group was worth. The journal is in a directory that goes with the program; one that
//! stays would have the job go on where it was.

use std::{fs, io::Write, thread};

use anyhow::{Context, Result};
use envmill::serve::{Overrides, ServeOptions, Stop, serve};
use envmill_client::{Client, ConnectOptions, Event, RolloutsOptions, wire};

const CONFIGURATION: &str = r#"
[service]
listen = "127.0.0.1:0"

[environments.cartpole]
env = "native:cartpole"
"#;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("service.toml");
    fs::write(&file, CONFIGURATION)?;
    let options = ServeOptions::read(&file, Overrides::default(), |_| None)?;
    let (stop, (sender, address)) = (Stop::new(), std::sync::mpsc::channel());
    let engine = {
        let stop = stop.clone();
        thread::spawn(move || {
            serve(&options, &stop, |bound| sender.send(bound.listen).unwrap_or_default())
        })
    };
    let url = format!("http://{}", address.recv().context("the engine has not begun")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let groups = runtime.block_on(train(&url))?;
    stop.ask();
    engine.join().ok().context("the engine has panicked")??;
    writeln!(std::io::stdout(), "{groups} groups")?;
    Ok(())
}

/// Takes the groups of a job, and acknowledges each when it has been looked at.
async fn train(url: &str) -> Result<u64> {
    let client = Client::new(&ConnectOptions { url: url.to_owned(), ..ConnectOptions::default() })?;
    let job = wire::SubmitJob {
        environment: "cartpole".into(),
        groups: 50,
        group_rules: Some(wire::GroupRules { samples: 4, ..wire::GroupRules::default() }),
        delivery: Some(wire::DeliveryTerms {
            order: wire::Order::ByGroup.into(),
            ..wire::DeliveryTerms::default()
        }),
        ..wire::SubmitJob::default()
    };
    let mut rollouts = client.submit(job, RolloutsOptions::default()).await?;
    let (wishes, mut groups, mut rewards) = (rollouts.wishes(), 0, Vec::new());
    while let Some(event) = rollouts.next().await {
        let Event::Delivered(delivered) = event? else { continue };
        rollouts.taken(delivered.bytes);
        match delivered.record {
            wire::Record::Trajectory(trajectory) => rewards.extend(trajectory.reward),
            wire::Record::Group(group) => {
                groups += 1;
                writeln!(std::io::stdout(), "group {}: {rewards:?}", group.group_id)?;
                rewards.clear();
                wishes.acknowledge(&[1..=delivered.number], "").await?;
            }
            wire::Record::Stale(_) => {}
            wire::Record::End(_) => break,
        }
    }
    Ok(groups)
}
