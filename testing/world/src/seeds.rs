//! A whole hostile world from one number.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use envmill_core::{
    Deadlines, Driver, FingerprintChange, GroupFilter, GroupOptions, GroupPlacement, InFlight,
    Input, JobOptions, OnEnvironmentError, Options, RetryBudget, Scoring, SessionReuse,
};
use envmill_protocol::{JobId, PolicyVersion, ServerId};

use crate::{ClockPlan, ExternalPlan, Plan, Random, ServerPlan, Shape, Spell, World};

/// A world that was played to its end, and nothing was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// The seed.
    pub seed: u64,
    /// The hash over all records.
    pub hash: String,
    /// Inputs that the core was given.
    pub inputs: u64,
    /// Records.
    pub records: usize,
}

/// A world in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// What, a line each.
    pub violations: Vec<String>,
}

/// More steps than any world of a seed takes.
pub(crate) const STEPS_MAX: u64 = 1_000_000;

/// Plays the world of a seed and checks everything.
///
/// # Errors
///
/// What was wrong; a panic of the core is among it.
pub fn play(seed: u64) -> Result<Played, Failed> {
    play_plan(plan_of(seed))
}

/// Plays the world of a seed with scorers that see whole groups, and checks everything.
///
/// # Errors
///
/// As [`play`].
pub fn play_whole_groups(seed: u64) -> Result<Played, Failed> {
    play_plan(whole_groups_of(seed))
}

fn play_plan(plan: Plan) -> Result<Played, Failed> {
    let seed = plan.seed;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan);
        let mut violations = Vec::new();
        violations.extend(world.run_within(STEPS_MAX).err());
        violations.extend(world.all_violations());
        (violations, world)
    }));
    match played {
        Ok((violations, world)) if violations.is_empty() => Ok(Played {
            seed,
            hash: world.hash(),
            inputs: world.inputs,
            records: world.records.len(),
        }),
        Ok((violations, _)) => Err(Failed { seed, violations }),
        Err(panic) => Err(failed_by_panic(seed, panic.as_ref())),
    }
}

pub(crate) fn failed_by_panic(seed: u64, panic: &(dyn Any + Send)) -> Failed {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    Failed { seed, violations: vec![format!("a panic: {text}")] }
}

/// Has `play` play many seeds on as many threads as the machine has processors, and tells of each
/// world as it ends, in any order. Stops early once `told` says false.
pub fn each<T>(
    seeds: &[u64],
    play: impl Fn(u64) -> Result<T, Failed> + Sync,
    told: impl FnMut(Result<T, Failed>) -> bool + Send,
) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let told = Mutex::new(told);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = play(seed);
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    if !told(outcome) {
                        next.store(seeds.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// The world of a seed. Everything that can go wrong goes wrong in some of them: each kind of
/// trouble is there or not by a draw of its own, so that the troubles meet in all combinations.
#[must_use]
pub fn plan_of(seed: u64) -> Plan {
    let random = &mut Random::new(seed ^ 0x0057_0941_D5EE_D000);
    let environments = 1 + random.below(2) as u32;
    let servers = environments + random.below(4) as u32;
    let servers: Vec<ServerPlan> =
        (0..servers).map(|index| server(index % environments, random)).collect();
    let jobs = 1 + random.below(3) as usize;
    let mut jobs: Vec<JobOptions> =
        (0..jobs).map(|index| job(index, environments, random)).collect();
    bound_staleness(seed, &mut jobs);
    let steps_bytes_max = bound_memory(seed, &mut jobs);
    let mut wishes = wishes(jobs.len(), servers.len(), random);
    wishes.extend(pauses(seed, jobs.len()));
    wishes.extend(versions(seed, jobs.len()));
    wishes.extend(slowed(seed, jobs.len()));
    let job = jobs.remove(0);
    let late = if rarely(random) { millis(random, 1, 50) } else { Duration::ZERO };
    let plan = Plan {
        seed,
        servers,
        job,
        more_jobs: jobs,
        options: Options { slots_max: 1_000, steps_bytes_max, ..Options::default() },
        twice: some(random, 100),
        lies: some(random, 200),
        late,
        clock: ClockPlan {
            jump_every: rarely(random).then(|| millis(random, 100, 5_000)),
            forwards_max: Duration::from_secs(random.below(600)),
            backwards_max: Duration::from_secs(random.below(60)),
        },
        think: millis(random, 0, 10),
        refuse: some(random, 20),
        mute: some(random, 20),
        ponder: some(random, 20),
        external: ExternalPlan {
            turns_max: random.between(1, 8),
            steps_max: random.between(1, 4),
            hang: some(random, 50),
            fail: some(random, 200),
        },
        score_values: random.between(1, 4),
        score_within: millis(random, 0, 50),
        score_fails: some(random, 50),
        score_mute: some(random, 50),
        score_timeout: Duration::ZERO,
        score_short: 0,
        score_missing: 0,
        wishes,
    };
    if seed % 16 == 9 { busy(plan) } else { plan }
}

/// The world of a seed, in which whole groups are scored: each job has groups, mostly, and a scorer that sees
/// them as one, and that fails as scorers do.
#[must_use]
pub fn whole_groups_of(seed: u64) -> Plan {
    let random = &mut Random::new(seed.rotate_left(24) ^ 0x0060_0FF5);
    let mut plan = plan_of(seed);
    for job in std::iter::once(&mut plan.job).chain(&mut plan.more_jobs) {
        if job.group.is_none() && random.chance(900) {
            let options = group(random);
            job.episodes = job.episodes.next_multiple_of(u64::from(options.samples));
            job.group = Some(options);
        }
        let most = random.between(1, 50) as u32;
        // Nobody waits for a scorer of groups in the core: the slowest member decides.
        job.scoring = Scoring::External { deadline: None, most, whole_groups: true };
    }
    if plan.options.steps_bytes_max < u64::MAX {
        let largest = plan.jobs().map(JobOptions::group_bytes_max).max().unwrap_or_default();
        plan.options.steps_bytes_max = plan.options.steps_bytes_max.max(largest);
    }
    (plan.score_fails, plan.score_mute) = (some(random, 150), some(random, 150));
    (plan.score_short, plan.score_missing) = (some(random, 150), some(random, 300));
    plan.score_timeout = millis(random, 50, 3_000);
    plan
}

/// The same world with servers that compute one answer after another and have too much to do, so that
/// steps are held back.
fn busy(mut plan: Plan) -> Plan {
    let random = &mut Random::new(plan.seed ^ 0x00B0_5E0A);
    for server in &mut plan.servers {
        server.processor = Duration::from_micros(random.between(1_000, 10_000));
        server.processor_construct = server.processor * random.between(2, 8) as u32;
        server.connect_turns = random.between(1, 6) as u32;
    }
    plan.options.admission.first_reply_target = millis(random, 1, 30);
    for job in std::iter::once(&mut plan.job).chain(&mut plan.more_jobs) {
        job.episodes *= 2;
        job.sessions_max += 40;
        if random.chance(500) {
            job.driver = Driver::Policy;
            job.session_reuse = SessionReuse::Never;
        }
    }
    plan
}

fn server(environment: u32, random: &mut Random) -> ServerPlan {
    let shape = match random.below(4) {
        0 => Shape::Spread,
        1 => Shape::Constant,
        2 => Shape::LogNormal { sigma: 1.0 + random.unit() },
        _ => Shape::Pareto { alpha: 1.1 + random.unit() },
    };
    let spells = (0..random.below(3)).map(|_| {
        let from = millis(random, 0, 2_000);
        let slower = if random.chance(500) { 0 } else { random.between(2, 100) as u32 };
        Spell { from, until: from + millis(random, 1, 5_000), slower }
    });
    let spells = spells.collect();
    ServerPlan {
        environment,
        capacity: if random.chance(500) { random.between(1, 40) as usize } else { usize::MAX },
        connect: Duration::from_micros(random.between(50, 5_000)),
        construct: millis(random, 1, 200),
        step: Duration::from_micros(random.between(100, 20_000)),
        shape,
        tail: random.between(1, 100) as u32,
        processor: Duration::from_micros(if rarely(random) { random.below(2_000) } else { 0 }),
        connect_turns: 0,
        processor_construct: if rarely(random) { millis(random, 1, 100) } else { Duration::ZERO },
        hang: some(random, 20),
        hang_connect: some(random, 100),
        hang_reset: some(random, 50),
        hang_close: some(random, 300),
        cut: some(random, 50),
        raise: some(random, 20),
        raise_reset: some(random, 100),
        refuse: some(random, 300),
        factory: some(random, 200),
        lose_idle: some(random, 50),
        stillborn: some(random, 50),
        truncate: some(random, 500),
        crash_every: rarely(random).then(|| millis(random, 100, 3_000)),
        away: millis(random, 0, 2_000),
        announces_return: random.chance(500),
        spells,
        episode_steps: random.between(1, 20),
    }
}

fn job(index: usize, environments: u32, random: &mut Random) -> JobOptions {
    let external = random.chance(150);
    let group = random.chance(500).then(|| group(random));
    let samples = group.map_or(1, |group| u64::from(group.samples));
    JobOptions {
        name: format!("job{index}"),
        environment: random.below(u64::from(environments)) as u32,
        episodes: random.between(1, 80).div_ceil(samples) * samples,
        group,
        sessions_max: random.between(1, 60) as u32,
        seed: random.draw() >> 1,
        max_steps: random.chance(300).then(|| random.between(1, 15) as u32),
        attempts_max: random.between(1, 4) as u32,
        session_reuse: match random.below(3) {
            0 => SessionReuse::Never,
            1 => SessionReuse::Episodes(random.between(0, 5) as u32),
            _ => SessionReuse::Unlimited,
        },
        driver: if external { Driver::External } else { Driver::Policy },
        on_fingerprint_change: if random.chance(500) {
            FingerprintChange::Mark
        } else {
            FingerprintChange::Stop
        },
        deadlines: Deadlines {
            connect: Some(millis(random, 100, 10_000)),
            first_reset: Some(millis(random, 500, 20_000)),
            reset: Some(millis(random, 300, 10_000)),
            step: Some(millis(random, 100, 10_000)),
            policy: Some(millis(random, 50, 20_000)),
            episode: random.chance(250).then(|| millis(random, 50, 5_000)),
            job: random.chance(100).then(|| millis(random, 500, 20_000)),
            no_server: millis(random, 2_000, 60_000),
        },
        on_environment_error: match random.below(3) {
            0 => OnEnvironmentError::Fail,
            1 => OnEnvironmentError::Retry,
            _ => OnEnvironmentError::Truncate,
        },
        production: random.chance(100),
        idempotent: random.chance(300),
        retry_budget: RetryBudget {
            percent: random.between(0, 100) as u32,
            floor: random.between(0, 30) as u32,
        },
        scoring: if random.chance(200) {
            Scoring::External {
                deadline: Some(millis(random, 20, 2_000)),
                most: random.between(1, 50) as u32,
                whole_groups: false,
            }
        } else {
            Scoring::Environment
        },
        weight: random.between(1, 4) as u32,
        priority: random.below(3) as i32 - 1,
        ..JobOptions::default()
    }
}

fn group(random: &mut Random) -> GroupOptions {
    let samples = random.between(1, 8) as u32;
    let oversample = if random.chance(500) { random.between(0, 4) as u32 } else { 0 };
    let complete_at =
        random.chance(400).then(|| random.between(1, u64::from(samples + oversample)) as u32);
    let is_filtered = complete_at.unwrap_or(samples) > 1 && random.chance(400);
    GroupOptions {
        samples,
        oversample,
        complete_at,
        filter: if is_filtered { GroupFilter::ZeroVariance } else { GroupFilter::None },
        refill_max: random.below(5) as u32,
        deadline: random.chance(200).then(|| millis(random, 50, 5_000)),
        duplicate_stragglers: random.chance(300),
        placement: match random.below(3) {
            0 => GroupPlacement::Any,
            1 => GroupPlacement::Spread,
            _ => GroupPlacement::Together,
        },
    }
}

fn wishes(jobs: usize, servers: usize, random: &mut Random) -> Vec<(Duration, Input)> {
    let mut wishes = Vec::new();
    for version in 0..random.below(4) {
        let when = millis(random, 0, 3_000);
        let job = JobId((version % jobs as u64) as u32);
        let version = PolicyVersion(version * 7 % 4);
        wishes.push((when, Input::PolicyVersion { job, version, in_flight: InFlight::Keep }));
    }
    if random.chance(300) {
        let job = JobId(random.below(jobs as u64 + 1) as u32);
        let wish = if random.chance(500) { Input::Drain(job) } else { Input::Cancel(job) };
        wishes.push((millis(random, 0, 3_000), wish));
    }
    if random.chance(100) {
        let server = ServerId(random.below(servers as u64 + 1) as u32);
        let fingerprint = "another".into();
        wishes.push((millis(random, 0, 3_000), Input::Fingerprint { server, fingerprint }));
    }
    if random.chance(200) {
        let server = ServerId(random.below(servers as u64 + 1) as u32);
        wishes.push((millis(random, 0, 3_000), Input::ServerReady(server)));
    }
    wishes
}

/// Drawn apart, so that worlds without them stay as they were.
fn pauses(seed: u64, jobs: usize) -> Vec<(Duration, Input)> {
    let mut random = Random::new(!seed);
    let mut wishes = Vec::new();
    if !random.chance(200) {
        return wishes;
    }
    for _ in 0..random.between(1, 4) {
        let job = JobId(random.below(jobs as u64 + 1) as u32);
        let paused = millis(&mut random, 0, 3_000);
        // Far enough apart that they come in this order, however late each is.
        let goes_on = paused + millis(&mut random, 200, 10_000);
        wishes.extend([(paused, Input::Pause(job)), (goes_on, Input::Resume(job))]);
    }
    wishes
}

/// Drawn apart, too: what a trainer announces for each job, in its order or almost.
fn versions(seed: u64, jobs: usize) -> Vec<(Duration, Input)> {
    let random = &mut Random::new(seed.rotate_left(32) ^ 0x0000_7EE5_10D5);
    let mut wishes = Vec::new();
    if !random.chance(400) {
        return wishes;
    }
    for job in 0..=jobs as u32 {
        let (mut lineage, mut step, mut when) = (0, 0, Duration::ZERO);
        for _ in 0..random.below(6) {
            if random.chance(150) {
                // Back to a checkpoint.
                (lineage, step) = (lineage + 1, random.below(step + 1));
            } else {
                step += random.below(4);
            }
            when += millis(random, 0, 1_500);
            let Some(version) = PolicyVersion::new(lineage, step) else { continue };
            let in_flight = if random.chance(500) { InFlight::Drain } else { InFlight::Keep };
            wishes.push((when, Input::PolicyVersion { job: JobId(job), version, in_flight }));
        }
    }
    wishes
}

/// Drawn apart, too.
fn bound_staleness(seed: u64, jobs: &mut [JobOptions]) {
    let random = &mut Random::new(seed.rotate_left(16) ^ 0x0057_A1E0);
    for job in jobs {
        job.staleness_max = random.chance(500).then(|| random.below(5));
    }
}

/// Drawn apart, too: what episodes may take in memory, and how much there is, which is little.
fn bound_memory(seed: u64, jobs: &mut [JobOptions]) -> u64 {
    let random = &mut Random::new(seed.rotate_left(48) ^ 0x003E_3087);
    if random.chance(400) {
        return u64::MAX;
    }
    for job in &mut *jobs {
        job.episode_bytes_max = random.chance(700).then(|| random.between(200, 8_000));
    }
    let largest = jobs.iter().map(JobOptions::group_bytes_max).max().unwrap_or_default();
    (largest * random.between(100, 300) / 100).max(1)
}

/// Drawn apart, too.
fn slowed(seed: u64, jobs: usize) -> Vec<(Duration, Input)> {
    let random = &mut Random::new(!seed.rotate_left(8));
    let mut wishes = Vec::new();
    if !random.chance(200) {
        return wishes;
    }
    for _ in 0..random.between(1, 3) {
        let job = JobId(random.below(jobs as u64 + 1) as u32);
        let slowed = millis(random, 0, 2_000);
        let goes_on = slowed + millis(random, 200, 5_000);
        wishes.extend([(slowed, Input::Slow(job)), (goes_on, Input::Resume(job))]);
    }
    wishes
}

/// A share of a thousand in three of ten cases, and otherwise none.
const fn some(random: &mut Random, most: u64) -> u32 {
    if rarely(random) { random.between(1, most) as u32 } else { 0 }
}

const fn rarely(random: &mut Random) -> bool {
    random.chance(300)
}

fn millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}
