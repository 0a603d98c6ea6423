//! Memory for one and a half groups, and trainers that take next to nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use envmill_client::{Client, ConnectOptions, Event, RolloutsOptions, wire};
use envmill_testing::Watchdog;

use super::rig::{Service, with_runtime};
use crate::rig::BOUND;

/// Episodes of 1 MiB in groups of four, and memory for six.
const CONFIGURATION: &str =
    "steps-mib-max = 6\n[environments.cartpole]\nenv = \"native:cartpole\"\n";
const ALL: u64 = 6 << 20;

fn job(name: &str, groups: u64) -> wire::SubmitJob {
    wire::SubmitJob {
        name: name.into(),
        environment: "cartpole".into(),
        groups,
        group_rules: Some(wire::GroupRules { samples: 4, ..wire::GroupRules::default() }),
        limits: Some(wire::Limits { episode_bytes_max: 1 << 20, ..wire::Limits::default() }),
        ..wire::SubmitJob::default()
    }
}

/// How things stand with a job. No more is ever reserved than there is.
async fn standing(client: &Client, name: &str) -> wire::JobStatus {
    let status = client.status().await.unwrap();
    assert_eq!(status.steps_bytes_max, ALL);
    assert!(status.reserved_bytes <= ALL, "{status:?}");
    status.jobs.into_iter().find(|job| job.name == name).unwrap()
}

async fn until(client: &Client, name: &str, is_so: impl Fn(&wire::JobStatus) -> bool) {
    while !is_so(&standing(client, name).await) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Plays a job to its end, and gives back how many records came.
async fn play(client: &Client, job: wire::SubmitJob) -> u64 {
    let name = job.name.clone();
    let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
    let mut records = 0;
    while let Some(event) = rollouts.next().await {
        let Event::Delivered(delivered) = event.unwrap() else { continue };
        rollouts.taken(delivered.bytes);
        standing(client, &name).await;
        match delivered.record {
            wire::Record::End(end) => {
                assert_eq!(end.completed + end.truncated, end.requested, "{end:?}");
                break;
            }
            _ => records += 1,
        }
    }
    records
}

/// A way to the service for one connection, on which a byte comes back each second once that is asked for.
fn byte_a_second(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let is_slow = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_slow);
    thread::spawn(move || {
        let (trainer, _) = listener.accept().unwrap();
        let service = TcpStream::connect(to).unwrap();
        let (mut from_trainer, mut to_service) =
            (trainer.try_clone().unwrap(), service.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from_trainer, &mut to_service);
            let _ = to_service.shutdown(Shutdown::Both);
        });
        let (mut from_service, mut to_trainer) = (service, trainer);
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from_service.read(&mut buffer) {
            for byte in &buffer[..read] {
                if told.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_secs(1));
                }
                if to_trainer.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        }
    });
    (address, is_slow)
}

#[test]
fn every_group_ends_with_a_trainer_that_reads_a_byte_a_second() {
    let _watchdog = Watchdog::start("a byte a second", BOUND);
    let service = Service::start(CONFIGURATION);
    let (address, is_slow) = byte_a_second(service.listen);
    with_runtime(async {
        let client = service.client();
        let url = format!("http://{address}");
        let slow = Client::new(&ConnectOptions { url, ..ConnectOptions::default() }).unwrap();
        let _rollouts = slow.submit(job("slow", 8), RolloutsOptions::default()).await.unwrap();
        is_slow.store(true, Ordering::Relaxed);
        // Another trainer's job goes on beside it.
        assert_eq!(play(&client, job("other", 8)).await, 8 * 4 + 8);
        until(&client, "slow", |job| job.ended).await;
        let status = standing(&client, "slow").await;
        let progress = status.progress.unwrap();
        assert_eq!((progress.recorded, progress.reserved_bytes), (8 * 4 + 8, 0), "{progress:?}");
    });
}

#[test]
fn a_job_whose_trainer_takes_nothing_keeps_no_memory_from_another() {
    let _watchdog = Watchdog::start("takes nothing", BOUND);
    let service = Service::start(CONFIGURATION);
    with_runtime(async {
        let client = service.client();
        let delivery = wire::DeliveryTerms { waiting_max: 4, ..wire::DeliveryTerms::default() };
        let stuck = wire::SubmitJob { delivery: Some(delivery), ..job("stuck", 1000) };
        let options = RolloutsOptions { window_records: 1, ..RolloutsOptions::default() };
        let _rollouts = client.submit(stuck, options).await.unwrap();
        // What it has begun it ends, and then it begins nothing.
        let has_stopped = |job: &wire::JobStatus| {
            let progress = job.progress.as_ref().unwrap();
            // Of a job that has only come the player has not told anything yet.
            let is_known = progress.unstarted > 0;
            is_known && progress.paused && progress.in_flight == 0 && progress.reserved_bytes == 0
        };
        until(&client, "stuck", has_stopped).await;
        let before = standing(&client, "stuck").await.progress.unwrap();
        assert_eq!(play(&client, job("other", 8)).await, 8 * 4 + 8);
        let progress = standing(&client, "stuck").await.progress.unwrap();
        assert_eq!((progress.recorded, progress.unstarted), (before.recorded, before.unstarted));
        assert_eq!(progress.unstarted % 4, 0, "{progress:?}");
    });
}

/// One environment has begun all that its memory is for, and none of it ends; the other has its own.
#[test]
fn environments_take_no_memory_from_one_another() {
    let _watchdog = Watchdog::start("shares of memory", BOUND);
    let service = Service::start(
        "steps-mib-max = 16\n[environments.slow]\nenv = \"native:synthetic?step_ms=3600000\"\n\
         [environments.cartpole]\nenv = \"native:cartpole\"\nepisodes-mib-max = 4\n",
    );
    with_runtime(async {
        let client = service.client();
        let slow = wire::SubmitJob { environment: "slow".into(), ..job("slow", 8) };
        let _rollouts = client.submit(slow, RolloutsOptions::default()).await.unwrap();
        let reserved = "envmill_reserved_bytes{environment=\"slow\"} 12582912";
        while !service.figures().contains(reserved) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let other = job("other", 8);
        let mut rollouts = client.submit(other, RolloutsOptions::default()).await.unwrap();
        let mut records = 0;
        loop {
            let Event::Delivered(it) = rollouts.next().await.unwrap().unwrap() else { continue };
            rollouts.taken(it.bytes);
            match it.record {
                wire::Record::End(_) => break,
                _ => records += 1,
            }
        }
        assert_eq!(records, 8 * 4 + 8);
        let mut large = job("large", 1);
        large.group_rules.as_mut().unwrap().samples = 5;
        let refused = client.submit(large, RolloutsOptions::default()).await.unwrap_err();
        let told = refused.to_string();
        for part in
            ["of 5 episodes", "4194304 bytes", "`episodes-mib-max` of `environments.cartpole`"]
        {
            assert!(told.contains(part), "{told}");
        }
        let environments = client.list_environments().await.unwrap();
        let of = |name: &str| environments.iter().find(|it| it.name == name).unwrap();
        assert_eq!((of("slow").steps_bytes_max, of("slow").reserved_bytes), (12 << 20, 12 << 20));
        assert_eq!((of("cartpole").steps_bytes_max, of("cartpole").reserved_bytes), (4 << 20, 0));
    });
    let figures = service.figures();
    for line in [
        "envmill_steps_bytes_max{environment=\"slow\"} 12582912",
        "envmill_steps_bytes_max{environment=\"cartpole\"} 4194304",
        "envmill_jobs_waiting_for_memory{environment=\"slow\"} 1",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
}

#[test]
fn a_job_that_never_fits_is_refused_and_one_that_says_nothing_is_told() {
    let _watchdog = Watchdog::start("never fits", BOUND);
    let service = Service::start(CONFIGURATION);
    with_runtime(async {
        let client = service.client();
        let mut large = job("large", 1);
        large.limits.as_mut().unwrap().episode_bytes_max = 2 << 20;
        let refused = client.submit(large, RolloutsOptions::default()).await.unwrap_err();
        let told = refused.to_string();
        for part in ["limits.episode_bytes_max", "2097152", "6291456", "`steps-mib-max`"] {
            assert!(told.contains(part), "{told}");
        }
        let silent = wire::SubmitJob { limits: None, ..job("silent", 1) };
        let rollouts = client.submit(silent, RolloutsOptions::default()).await.unwrap();
        // An environment has 64 sessions, which is more than there is memory for.
        let limits = rollouts.accepted().job.clone().unwrap().limits.unwrap();
        assert_eq!(limits.episode_bytes_max, 1 << 20);
    });
}
