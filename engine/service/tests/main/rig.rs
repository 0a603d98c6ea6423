//! A service, a trainer, and a player that the test moves.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use envmill_client::{Client, ConnectOptions, Delivered, Event, Rollouts, RolloutsOptions};
use envmill_core::{InFlight, JobOptions, Round, Scoring, Tasks, recorded_member};
use envmill_delivery::JobKey;
use envmill_protocol::{
    Observation, Observed, PolicyVersion, Trajectory,
    record::{End, FirstObservations, GroupOutcome, GroupRecord, MemberRecord, Timing},
};
use envmill_service::{
    Certificate, Ear, Environment, JobPolicy, Opened, Order, Played, Player, ServiceOptions,
    Snapshot, Tokens as Bearers,
};
use envmill_wire as wire;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

/// How long anything may take before it counts as hanging.
const BOUND: Duration = Duration::from_secs(60);

/// A job that a player was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) key: JobKey,
    pub(crate) options: JobOptions,
    pub(crate) policy: JobPolicy,
    pub(crate) scorer: Option<String>,
    pub(crate) orders: Vec<Order>,
    pub(crate) version: PolicyVersion,
}

/// A player that plays nothing by itself.
#[derive(Clone, Debug)]
pub(crate) struct Puppet(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ear: Ear,
    given: BTreeMap<JobKey, Given>,
    /// What was ordered for jobs that it had not been given.
    early: Vec<Order>,
}

impl Player for Puppet {
    fn submit(&self, key: JobKey, options: JobOptions, policy: JobPolicy, scorer: Option<String>) {
        let version = PolicyVersion(0);
        let given = Given { key, options, policy, scorer, orders: Vec::new(), version };
        self.0.lock().unwrap().given.insert(key, given);
    }

    fn order(&self, job: JobKey, order: Order) {
        let mut state = self.0.lock().unwrap();
        let State { given, early, .. } = &mut *state;
        let Some(given) = given.get_mut(&job) else { return early.push(order) };
        if let Order::Version(version, InFlight::Keep) = order {
            given.version = version;
        }
        given.orders.push(order);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

impl Puppet {
    /// The one job that it was given.
    pub(crate) async fn job(&self) -> Given {
        self.jobs(1).await.pop().unwrap()
    }

    pub(crate) async fn jobs(&self, count: usize) -> Vec<Given> {
        let look = || self.0.lock().unwrap().given.values().cloned().collect::<Vec<_>>();
        wait_for(|| Some(look()).filter(|given| given.len() >= count)).await
    }

    /// What was ordered for jobs before it was given them.
    pub(crate) fn early(&self) -> Vec<Order> {
        self.0.lock().unwrap().early.clone()
    }

    /// Waits until it was told something.
    pub(crate) async fn told(&self, order: Order) {
        let look = || {
            let state = self.0.lock().unwrap();
            state.given.values().any(|given| given.orders.contains(&order))
        };
        wait_for(|| look().then_some(())).await;
    }

    pub(crate) fn tell(&self, played: Played) {
        let ear = self.0.lock().unwrap().ear.clone();
        ear.tell(played);
    }

    /// Episodes of a job end.
    pub(crate) fn finish(&self, job: &Given, episodes: impl IntoIterator<Item = u64>) {
        let version = self.0.lock().unwrap().given[&job.key].version;
        let records = episodes.into_iter().map(|index| trajectory(job, index, version)).collect();
        self.tell(Played::Records(records));
    }

    /// A group of a job ends, with all its members.
    pub(crate) fn finish_group(&self, job: &Given, group: u64) {
        let members = job.options.group.unwrap().members().into();
        self.finish(job, (0..members).map(|sample| group * members + sample));
        self.tell(Played::Groups(vec![group_record(job, group)]));
    }

    /// A group of a job ends, with members that were worth this.
    pub(crate) fn finish_group_with(&self, job: &Given, group: u64, rewards: [f64; 2]) {
        self.finish(job, (0..2).map(|sample| group * 2 + sample));
        let members = rewards.iter().enumerate().map(|(sample, reward)| {
            let trajectory = trajectory(job, group * 2 + sample as u64, PolicyVersion(0));
            MemberRecord { reward: Some(*reward), ..recorded_member(&trajectory) }
        });
        let record = GroupRecord { members: members.collect(), ..group_record(job, group) };
        self.tell(Played::Groups(vec![record]));
    }

    /// Waits for the round that begins with this group.
    pub(crate) async fn next_round(&self, job: &Given, start: u64) -> Round {
        let look = || {
            let state = self.0.lock().unwrap();
            state.given[&job.key].orders.iter().find_map(|order| match order {
                Order::Round(round) if round.start == start => Some(round.clone()),
                _ => None,
            })
        };
        wait_for(look).await
    }

    pub(crate) fn end(&self, job: &Given) {
        self.tell(Played::Ended(job.key));
    }
}

pub(crate) fn trajectory(job: &Given, index: u64, version: PolicyVersion) -> Trajectory {
    let members = job.options.group.map_or(1, |group| group.members().into());
    let observation = Bytes::from(format!("{{\"number\":{index}}}"));
    let reset = Observed { observation: Observation::from(observation), ..Observed::default() };
    let id = format!("{}-{index:08}", job.options.name);
    Trajectory {
        job_id: job.options.name.clone(),
        group_id: index / members,
        sample_index: (index % members) as u32,
        environment: "puppet".into(),
        seed: Some(index),
        reset: Some(reset),
        reward: Some(index as f64),
        timing: Timing {
            policy_version_started: version,
            policy_version_ended: version,
            ..Timing::default()
        },
        ..Trajectory::bare(id, End::Completed { mapped: true })
    }
}

pub(crate) fn group_record(job: &Given, group: u64) -> GroupRecord {
    let options = job.options.group.unwrap();
    GroupRecord {
        job_id: job.options.name.clone(),
        group_id: group,
        task_id: String::new(),
        environment: "puppet".into(),
        seed: None,
        asked: options.samples,
        oversampled: options.oversample,
        complete_at: options.samples,
        used: options.samples,
        outcome: GroupOutcome::Complete,
        filter: String::new(),
        refill_of: None,
        first_observations: FirstObservations::Unknown,
        duplicates: 0,
        steps_used: 0,
        steps_wasted: 0,
        tokens_used: 0,
        tokens_wasted: 0,
        started_us: 0,
        ended_us: 0,
        members: Vec::<MemberRecord>::new(),
    }
}

/// A service with its store's directory.
pub(crate) struct Rig {
    pub(crate) directory: TempDir,
    pub(crate) puppet: Puppet,
    pub(crate) address: String,
    pub(crate) tokens: Bearers,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl Fn(&mut ServiceOptions)) -> Self {
        let directory = TempDir::new().unwrap();
        Self::start(directory, change, Bearers::default(), None, "127.0.0.1:0").await
    }

    pub(crate) async fn start(
        directory: TempDir,
        change: impl Fn(&mut ServiceOptions),
        tokens: Bearers,
        certificate: Option<Certificate>,
        listen: &str,
    ) -> Self {
        Self::start_with(directory, change, |_| {}, tokens, certificate, listen).await
    }

    async fn start_with(
        directory: TempDir,
        change: impl Fn(&mut ServiceOptions),
        change_sets: impl FnOnce(&mut BTreeMap<String, Tasks>),
        tokens: Bearers,
        certificate: Option<Certificate>,
        listen: &str,
    ) -> Self {
        let mut options = ServiceOptions::new(store(&directory));
        // Tests of full rings say what their trainer does, however slow the machine is.
        options.ring_patience = Duration::MAX;
        change(&mut options);
        let opened = Opened::open(options).unwrap();
        let state = State { ear: opened.ear(0), given: BTreeMap::new(), early: Vec::new() };
        let puppet = Puppet(Arc::new(Mutex::new(state)));
        let environment = Environment {
            name: "puppet".into(),
            sessions_max: 16,
            steps_bytes_max: 1 << 30,
            defaults: JobOptions::default(),
            action_schema: Bytes::from_static(b"{\"type\":\"object\"}"),
            is_harness: false,
            player: Box::new(puppet.clone()),
        };
        let task = |name: &str| envmill_core::Task { id: name.into(), ..Default::default() };
        let two = Tasks::new(vec![task("a"), task("b")]);
        let mut sets = BTreeMap::from([("two".to_owned(), two)]);
        change_sets(&mut sets);
        let running = opened.start(vec![environment], sets, scorers()).unwrap();
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let its_tokens = tokens.clone();
        let serving = tokio::spawn(async move {
            let until = async {
                let _ = stopped.await;
            };
            running.serve(listener, its_tokens, certificate, until).await.unwrap();
        });
        Self { directory, puppet, address, tokens, stop: Some(stop), serving }
    }

    /// Ends it in good order, and starts it again where it was.
    pub(crate) async fn again(self) -> Self {
        self.again_with(|_| {}).await
    }

    /// Ends it in good order, and starts it again with other task sets.
    pub(crate) async fn again_with(
        self,
        change_sets: impl FnOnce(&mut BTreeMap<String, Tasks>),
    ) -> Self {
        let Self { directory, address, tokens, stop, serving, .. } = self;
        drop(stop);
        timeout(BOUND, serving).await.unwrap().unwrap();
        Self::start_with(directory, |_| {}, change_sets, tokens, None, &address).await
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(None)
    }

    pub(crate) fn client_with(&self, token: Option<&str>) -> Client {
        let url = format!("http://{}", self.address);
        let token = token.map(str::to_owned);
        Client::new(&ConnectOptions { url, token, ca: None }).unwrap()
    }

    pub(crate) async fn submit(&self, job: wire::SubmitJob) -> Trainer {
        self.submit_with(job, RolloutsOptions::default()).await
    }

    pub(crate) async fn submit_with(
        &self,
        job: wire::SubmitJob,
        options: RolloutsOptions,
    ) -> Trainer {
        let rollouts = timeout(BOUND, self.client().submit(job, options)).await.unwrap();
        Trainer::new(rollouts.unwrap())
    }

    pub(crate) async fn attach(&self, job_id: &str, rank: u32, cursor: u64) -> Trainer {
        self.attach_with(job_id, rank, cursor, RolloutsOptions::default()).await
    }

    pub(crate) async fn attach_with(
        &self,
        job_id: &str,
        rank: u32,
        cursor: u64,
        options: RolloutsOptions,
    ) -> Trainer {
        let client = self.client();
        let attached = client.attach(job_id, rank, cursor, options);
        Trainer::new(timeout(BOUND, attached).await.unwrap().unwrap())
    }
}

pub(crate) fn store(directory: &TempDir) -> PathBuf {
    directory.path().join("store.redb")
}

/// A trainer at one job.
pub(crate) struct Trainer {
    pub(crate) rollouts: Rollouts,
    /// What came beside records.
    pub(crate) news: VecDeque<Event>,
}

impl Trainer {
    pub(crate) fn new(rollouts: Rollouts) -> Self {
        Self { rollouts, news: VecDeque::new() }
    }

    pub(crate) fn id(&self) -> String {
        self.rollouts.job_id().to_owned()
    }

    /// The next record.
    pub(crate) async fn next(&mut self) -> Delivered {
        loop {
            match self.event().await {
                Event::Delivered(delivered) => {
                    self.rollouts.taken(delivered.bytes);
                    return *delivered;
                }
                other => self.news.push_back(other),
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        let next = timeout(BOUND, self.rollouts.next()).await.expect("nothing comes");
        next.expect("the stream is open").unwrap()
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<Delivered> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.next().await);
        }
        taken
    }

    pub(crate) async fn take_numbers(&mut self, count: usize) -> Vec<u64> {
        self.take(count).await.iter().map(|it| it.number).collect()
    }

    /// Waits for news of a kind.
    pub(crate) async fn wait_for<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.news.iter().find_map(&wanted) {
                return found;
            }
            self.news.clear();
            let event = self.event().await;
            self.news.push_back(event);
        }
    }

    pub(crate) async fn acknowledge(&self, first: u64, last: u64) {
        let wishes = self.rollouts.wishes();
        let range = [first..=last];
        let done = wishes.acknowledge(&range, "");
        timeout(BOUND, done).await.unwrap().unwrap();
    }
}

pub(crate) fn id_of(delivered: &Delivered) -> &str {
    match &delivered.record {
        wire::Record::Trajectory(it) => &it.trajectory_id,
        wire::Record::Stale(it) => &it.trajectory_id,
        wire::Record::Group(_) => "group",
        wire::Record::End(_) => "end",
    }
}

/// The scorers that jobs may name.
fn scorers() -> BTreeMap<String, Scoring> {
    let of = |whole_groups| Scoring::External { deadline: None, most: 5, whole_groups };
    [("each".to_owned(), of(false)), ("whole".to_owned(), of(true))].into()
}

/// A job of so many episodes.
pub(crate) fn episodes(episodes: u64) -> wire::SubmitJob {
    wire::SubmitJob {
        name: "test".into(),
        environment: "puppet".into(),
        episodes,
        ..wire::SubmitJob::default()
    }
}

/// A job of groups of two.
pub(crate) fn groups(groups: u64, order: wire::Order) -> wire::SubmitJob {
    wire::SubmitJob {
        name: "test".into(),
        environment: "puppet".into(),
        groups,
        group_rules: Some(wire::GroupRules { samples: 2, ..wire::GroupRules::default() }),
        delivery: Some(wire::DeliveryTerms {
            order: order.into(),
            ..wire::DeliveryTerms::default()
        }),
        ..wire::SubmitJob::default()
    }
}

/// Looks until there is something.
pub(crate) async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = timeout(BOUND, async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    found.await.expect("what is waited for does not come")
}
