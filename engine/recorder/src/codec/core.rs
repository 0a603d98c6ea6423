//! What the core is told, and what it answers.

use envmill_core::{
    AdmissionOptions, Deadlines, Driver, EjectionOptions, EpisodeSet, External, ExternalTurn,
    FingerprintChange, GroupFilter, GroupOptions, GroupPlacement, InFlight, Input, JobOptions,
    Latency, Note, OnEnvironmentError, Options, Outlier, Outputs, RecordedGroups, RetryBudget,
    Round, Score, ScoreTicket, Scored, Scoring, ServerOptions, SessionReuse, Task, Tasks, Time,
    ToScore, Weight,
};

use super::{
    Decode, Encode, Malformed, Source,
    lists::{enums, newtypes, structs},
};

impl Encode for Time {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_nanos().encode(out);
    }
}

impl Decode for Time {
    const BYTES_MIN: usize = 8;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        u64::decode(from).map(Self::from_nanos)
    }
}

impl Encode for Tasks {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
        self.rounds().map(<[Round]>::to_vec).encode(out);
    }
}

impl Decode for Tasks {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let tasks = Self::new(Vec::decode(from)?);
        Ok(match Option::<Vec<Round>>::decode(from)? {
            Some(rounds) => tasks.in_rounds(rounds),
            None => tasks,
        })
    }
}

impl Encode for Round {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { number, start, tasks } = self;
        number.encode(out);
        start.encode(out);
        tasks.encode(out);
    }
}

impl Decode for Round {
    const BYTES_MIN: usize = 20;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let (number, start) = (u64::decode(from)?, u64::decode(from)?);
        Ok(Self { number, start, tasks: Vec::decode(from)?.into() })
    }
}

impl Encode for Weight {
    fn encode(&self, out: &mut Vec<u8>) {
        self.millionths().encode(out);
    }
}

impl Decode for Weight {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let millionths = u32::decode(from)?;
        Self::from_millionths(millionths).ok_or(Malformed::TooLarge)
    }
}

impl Encode for EpisodeSet {
    fn encode(&self, out: &mut Vec<u8>) {
        self.words().encode(out);
    }
}

impl Decode for EpisodeSet {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        Vec::decode(from).map(Self::from_words)
    }
}

newtypes! { ScoreTicket }

structs! {
    Options {
        run_started_unix_us, seed, slots_max, admission, ejection, server_retry_budget,
        steps_bytes_max
    }
    EjectionOptions {
        percent_max, interval, attempts_min, failure_points, steps_min, slower, slow_min, rest,
        rest_max
    }
    RetryBudget { percent, floor }
    AdmissionOptions {
        window_start, window_max, first_reply_target, backoff_min, backoff_max, probe_min, probe_max
    }
    ServerOptions { name, environment, fingerprint }
    JobOptions {
        name, environment, environment_name, episodes, sessions_max, seed, send_seed,
        reset_parameters, max_steps, deadlines, attempts_max, session_reuse, driver,
        on_fingerprint_change, group, production, on_environment_error, idempotent, retry_budget,
        scoring, staleness_max, weight, priority, tasks, recorded, recorded_groups, episode_bytes_max
    }
    RecordedGroups { filtered, open }
    GroupOptions {
        samples, oversample, complete_at, filter, refill_max, deadline, duplicate_stragglers,
        placement
    }
    Task { id, parameters, weight }
    Deadlines { connect, first_reset, reset, step, policy, episode, job, no_server }
    External { slot, generation, turn }
    Outputs {
        commands, turns, cancelled_turns, handed, records, groups, to_score, latencies, notes
    }
    ToScore { ticket, trajectory }
    Scored { ticket, result }
    Score { reward, components }
    Latency { phase, took }
}

enums! {
    Input {
        0: Event(event),
        1: Decision(decision),
        2: External(external),
        3: Fingerprint { server, fingerprint },
        4: ServerReady(server),
        5: PolicyVersion { job, version, in_flight },
        6: Drain(job),
        7: Cancel(job),
        8: Scored(scored),
        9: Pause(job),
        10: Resume(job),
        11: Hold(job),
        12: Slow(job),
        13: Round { job, round },
    }
    InFlight { 0: Keep, 1: Drain }
    ExternalTurn {
        0: Opened,
        1: Closed { steps, generations },
        2: EpisodeEnded(end),
    }
    SessionReuse { 0: Never, 1: Episodes(most), 2: Unlimited }
    Driver { 0: Policy, 1: External }
    FingerprintChange { 0: Stop, 1: Mark }
    GroupFilter { 0: None, 1: ZeroVariance }
    GroupPlacement { 0: Any, 1: Spread, 2: Together }
    OnEnvironmentError { 0: Fail, 1: Retry, 2: Truncate }
    Scoring { 0: Environment, 1: External { deadline, most, whole_groups } }
    Outlier { 0: Failures, 1: Latency }
    Note {
        0: LimitLearned { server, limit },
        1: ServerDown { server, failure },
        2: ServerRecovered(server),
        3: FingerprintChanged { server, before, after },
        4: AttemptFailed { server, failure },
        5: JobBudgetSpent(job),
        6: ServerBudgetSpent(server),
        7: FirstObservationsDiffer { job, group },
        8: ServerEjected { server, why, rest },
        9: ServerReturned(server),
        10: Quarantined(failure),
        11: VersionCurrent { job, version },
        12: JobEnded(job),
        13: RoundWanted(job),
    }
}
