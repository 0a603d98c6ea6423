//! What the core is told, and what it answers.

use envmill_core::{
    AdmissionOptions, Deadlines, Driver, External, ExternalTurn, FingerprintChange, Input,
    JobOptions, Latency, Note, Options, Outputs, ServerOptions, SessionReuse, Time,
};

use super::{
    Decode, Encode, Malformed, Source,
    lists::{enums, structs},
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

structs! {
    Options { run_started_unix_us, seed, slots_max, admission }
    AdmissionOptions {
        window_start, window_max, first_reply_target, backoff_min, backoff_max, probe_min, probe_max
    }
    ServerOptions { name, environment, fingerprint }
    JobOptions {
        name, environment, environment_name, episodes, sessions_max, seed, send_seed,
        reset_parameters, max_steps, deadlines, attempts_max, session_reuse, driver,
        on_fingerprint_change
    }
    Deadlines { connect, first_reset, reset, step, policy, episode, job, no_server }
    External { slot, generation, turn }
    Outputs { commands, turns, cancelled_turns, handed, records, latencies, notes }
    Latency { phase, took }
}

enums! {
    Input {
        0: Event(event),
        1: Decision(decision),
        2: External(external),
        3: Fingerprint { server, fingerprint },
        4: ServerReady(server),
        5: PolicyVersion(version),
        6: Drain(job),
        7: Cancel(job),
    }
    ExternalTurn {
        0: Opened,
        1: Closed { steps, generations },
        2: EpisodeEnded(end),
    }
    SessionReuse { 0: Never, 1: Episodes(most), 2: Unlimited }
    Driver { 0: Policy, 1: External }
    FingerprintChange { 0: Stop, 1: Mark }
    Note {
        0: LimitLearned { server, limit },
        1: ServerDown { server, failure },
        2: ServerRecovered(server),
        3: FingerprintChanged { server, before, after },
        4: AttemptFailed { server, failure },
    }
}
