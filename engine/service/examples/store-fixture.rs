//! Makes the store that later versions are tested on: `engine/tests/main/service/stores/schema-N.redb.zst`.
//!
//! `cargo run -p envmill-service --example store-fixture -- FILE` writes one as a service of this version
//! leaves it behind, with the records of schema version
//! [`SCHEMA_VERSION`](envmill_protocol::record::SCHEMA_VERSION). It is to be made before that is raised, and
//! kept as it is from then on; what is in it is told by `engine/tests/main/service/earlier_stores.rs`.

use std::{
    collections::BTreeMap,
    env, fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use envmill_client::{Client, ConnectOptions, Event, Rollouts, RolloutsOptions};
use envmill_core::JobOptions;
use envmill_delivery::JobKey;
use envmill_protocol::{
    Ended, Failure, FailureKind, Generated, GeneratedKind, Observation, Observed, PolicyVersion,
    Reward, SessionFate, Trajectory, VersionSpan,
    record::{
        Attempt, Blob, ContentHash, End, FirstObservations, GroupOutcome, GroupRecord,
        MemberRecord, Provenance, Step, Timing, Tokens, Truncation, TurnSpan, content_hash,
    },
};
use envmill_service::{
    Ear, Environment, JobPolicy, Opened, Order, Played, Player, ServiceOptions, Snapshot,
    Tokens as Bearers,
};
use envmill_wire as wire;
use tokio::{net::TcpListener, sync::oneshot};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The environment that jobs name. `envmill serve` has it without a server.
const ENVIRONMENT: &str = "cartpole";
const PROMPT: [u32; 3] = [11, 12, 13];
const BETWEEN: [u32; 2] = [31, 32];

#[tokio::main]
async fn main() -> Result<()> {
    let file = env::args().nth(1).ok_or("say which file to write")?;
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("store.redb");
    let opened = Opened::open(ServiceOptions::new(&store))?;
    let player = Writer { ear: opened.ear(0), given: Arc::default() };
    let environment = Environment {
        name: ENVIRONMENT.into(),
        sessions_max: 16,
        steps_bytes_max: 64 << 20,
        defaults: JobOptions::default(),
        action_schema: Bytes::from_static(b"{\"type\":\"object\"}"),
        is_harness: false,
        player: Box::new(player.clone()),
    };
    let running = opened.start(vec![environment], BTreeMap::new(), BTreeMap::new())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(running.serve(listener, Bearers::default(), None, async {
        let _ = stopped.await;
    }));
    let client = Client::new(&ConnectOptions { url, ..ConnectOptions::default() })?;
    fill(&client, &player).await?;
    drop(stop);
    serving.await??;
    fs::write(file, zstd::encode_all(fs::File::open(store)?, 19)?)?;
    Ok(())
}

/// The three jobs.
async fn fill(client: &Client, player: &Writer) -> Result<()> {
    // What has come and was not taken takes the place of what is next.
    let options = |window_records| RolloutsOptions { window_records, ..RolloutsOptions::default() };
    let job = |name: &str| wire::SubmitJob {
        name: name.into(),
        environment: ENVIRONMENT.into(),
        ..wire::SubmitJob::default()
    };

    // Four of six are recorded: one is acknowledged, two were sent, and one never was.
    let turns = wire::SubmitJob { episodes: 6, ..job("turns") };
    let mut turns = client.submit(turns, options(3)).await?;
    let options_of = player.job(turns.job_id()).await;
    player.ear.tell(Played::Records((0..4).map(|index| record(&options_of, index)).collect()));
    arrived(&mut turns, 3).await?;
    turns.wishes().acknowledge(&[1..=1], "").await?;

    // One of four is recorded, and the trainer has the others wait.
    let paused = wire::SubmitJob { episodes: 4, ..job("paused") };
    let mut paused = client.submit(paused, options(1)).await?;
    let options_of = player.job(paused.job_id()).await;
    paused.wishes().pause().await?;
    player.ear.tell(Played::Records(vec![record(&options_of, 0)]));
    arrived(&mut paused, 1).await?;

    // One group of two, and the job's end.
    let group_rules = Some(wire::GroupRules { samples: 2, ..wire::GroupRules::default() });
    let groups = wire::SubmitJob { groups: 1, group_rules, ..job("groups") };
    let mut groups = client.submit(groups, options(4)).await?;
    let options_of = player.job(groups.job_id()).await;
    player.ear.tell(Played::Records((0..2).map(|index| record(&options_of, index)).collect()));
    player.ear.tell(Played::Groups(vec![group_record(&options_of)]));
    player.ear.tell(Played::Ended(player.key(groups.job_id())));
    arrived(&mut groups, 4).await
}

/// Waits until so many records have come.
async fn arrived(rollouts: &mut Rollouts, count: usize) -> Result<()> {
    let mut come = 0;
    while come < count {
        let event = rollouts.next().await.ok_or("the stream has ended")??;
        come += usize::from(matches!(event, Event::Delivered(_)));
    }
    Ok(())
}

/// A player that hands out what it is told to.
#[derive(Clone)]
struct Writer {
    ear: Ear,
    given: Arc<Mutex<BTreeMap<String, (JobKey, JobOptions)>>>,
}

impl Player for Writer {
    fn submit(&self, key: JobKey, options: JobOptions, _: JobPolicy, _: Option<String>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.insert(options.name.clone(), (key, options));
    }

    fn order(&self, _: JobKey, _: Order) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

impl Writer {
    fn look(&self, id: &str) -> Option<(JobKey, JobOptions)> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn job(&self, id: &str) -> JobOptions {
        loop {
            if let Some((_, options)) = self.look(id) {
                return options;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn key(&self, id: &str) -> JobKey {
        self.look(id).map_or(JobKey(0), |(key, _)| key)
    }
}

/// An episode of two turns of a language model. The reward of every second one is missing; the fourth
/// failed at its second step, and the third was cut.
fn record(job: &JobOptions, index: u64) -> Trajectory {
    let number = u32::try_from(index).unwrap_or_default();
    let members: u64 = job.group.map_or(1, |group| group.members().into());
    let sampled = [vec![21, 22, 100 + number], vec![41, 100 + number]];
    let prompts = [PROMPT.to_vec(), [&PROMPT, &sampled[0][..], &BETWEEN].concat()];
    let spans = |tokens: usize| VersionSpan {
        version: PolicyVersion(0),
        tokens: u32::try_from(tokens).unwrap_or_default(),
    };
    let generation = |turn: usize| Generated {
        prompt_token_ids: prompts[turn].clone(),
        token_ids: sampled[turn].clone(),
        logprobs: sampled[turn].iter().map(|&token| -0.25 * token as f32).collect(),
        loss_mask: vec![1; sampled[turn].len()],
        policy_versions: vec![spans(sampled[turn].len())],
        parent: (turn == 1).then_some(0),
        kind: GeneratedKind::Agent,
        ..Generated::default()
    };
    let has_reward = index.is_multiple_of(2);
    let reward = if has_reward {
        Reward { value: Some(0.5), raw: Bytes::from_static(b"0.5") }
    } else {
        Reward { value: None, raw: Bytes::from_static(b"null") }
    };
    let observed = |text: String, reward, ended| Observed {
        observation: Observation::from(Bytes::from(text)),
        reward,
        metadata: Bytes::from_static(b"{\"seen\": 1}"),
        ended,
    };
    let step = |turn: u32, ended| Step {
        action: Bytes::from(format!("{{\"action\":{turn}}}")),
        observed: observed(
            format!("{{\"number\": {index}, \"turn\": {turn}}}"),
            reward.clone(),
            ended,
        ),
        environment_us: 1000 + turn,
        policy_us: 2000 + turn,
    };
    let end = match index {
        2 => End::Truncated(Truncation::MaxSteps),
        3 => End::Failed(Failure {
            kind: FailureKind::Environment,
            session: SessionFate::Lost,
            message: "the environment has raised an exception".into(),
            retry_after: None,
            details: Bytes::new(),
        }),
        _ => End::Completed { mapped: true },
    };
    let ended = matches!(end, End::Completed { .. }).then_some(Ended::Terminated);
    let all = [&prompts[1][..], &sampled[1]].concat();
    let is_sampled = |at: usize| (3..6).contains(&at) || at >= 8;
    let turn = |role: &str, start, end| TurnSpan {
        role: role.into(),
        start,
        end,
        tool: String::new(),
        finish_reason: if role == "assistant" { "stop".into() } else { String::new() },
        generation_us: 0,
        environment_us: 0,
        queue_us: 0,
    };
    let mut record = Trajectory {
        trajectory_id: format!("{}-{index:08}", job.name),
        job_id: job.name.clone(),
        group_id: index / members,
        sample_index: (index % members) as u32,
        task_id: format!("task-{index}"),
        environment: ENVIRONMENT.into(),
        branch_id: 0,
        parent_branch: None,
        agent_id: 0,
        seed: Some(index),
        reset_parameters: Bytes::from_static(b"{\"level\": 3}"),
        provenance: Provenance {
            server: "http://10.0.0.1:8000".into(),
            session_id: format!("session-{index}"),
            episode_in_session: 2,
            environment_fingerprint: "0123456789abcdef".into(),
        },
        attempts: vec![Attempt {
            server: "http://10.0.0.1:8000".into(),
            started_us: 10,
            ended_us: 5000,
            steps: 2,
            cause: end.cause(),
            message: String::new(),
        }],
        reset: Some(observed(format!("{{\"number\": {index}}}"), Reward::default(), None)),
        steps: vec![step(0, None), step(1, ended)],
        reward: has_reward.then_some(1.0),
        reward_components: if has_reward { vec![("format".into(), 0.25)] } else { Vec::new() },
        end,
        tokens: Tokens {
            prompt_len: 3,
            loss_mask: (0..all.len()).map(|at| u8::from(is_sampled(at))).collect(),
            logprobs: (0..all.len())
                .map(|at| if is_sampled(at) { -0.25 * all[at] as f32 } else { 0.0 })
                .collect(),
            policy_versions: vec![spans(all.len())],
            token_ids: all,
        },
        generations: vec![generation(0), generation(1)],
        turns: vec![
            turn("user", 0, 3),
            turn("assistant", 3, 6),
            turn("user", 6, 8),
            turn("assistant", 8, 10),
        ],
        messages: Bytes::from_static(b"[{\"role\": \"user\", \"content\": \"go\"}]"),
        sampling: Bytes::from_static(b"{\"temperature\": 0.7}"),
        blobs: vec![Blob {
            name: "routed_experts".into(),
            dtype: "int16".into(),
            shape: vec![10, 2],
            data: (0..40).collect::<Vec<u8>>().into(),
        }],
        metrics: vec![("turns".into(), 2.0)],
        timing: Timing {
            run_started_unix_us: 1_700_000_000_000_000,
            started_us: 10,
            reset_us: 20,
            ended_us: 5000,
            policy_version_started: PolicyVersion(0),
            policy_version_ended: PolicyVersion(0),
        },
        content_hash: ContentHash::default(),
    };
    record.content_hash = content_hash(&record);
    record
}

fn group_record(job: &JobOptions) -> GroupRecord {
    let members: Vec<MemberRecord> =
        (0..2).map(|index| envmill_core::recorded_member(&record(job, index))).collect();
    GroupRecord {
        job_id: job.name.clone(),
        group_id: 0,
        task_id: "task-0".into(),
        environment: ENVIRONMENT.into(),
        seed: Some(0),
        asked: 2,
        oversampled: 0,
        complete_at: 2,
        used: 2,
        outcome: GroupOutcome::Complete,
        filter: String::new(),
        refill_of: None,
        first_observations: FirstObservations::Differ,
        duplicates: 0,
        steps_used: 4,
        steps_wasted: 0,
        tokens_used: 10,
        tokens_wasted: 0,
        started_us: 10,
        ended_us: 5000,
        members,
    }
}
