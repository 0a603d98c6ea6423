//! What of a core's news trainers should know.

use envmill_core::{FingerprintChange, Note};
use envmill_protocol::{JobId, ServerId};

/// News for trainers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// The job; `None`: every job of the environment.
    pub(super) job: Option<JobId>,
    /// One stable word.
    pub(super) kind: &'static str,
    /// What, for people.
    pub(super) message: String,
}

/// The warning that a note is worth, if any. `servers` are the servers' names.
pub(super) fn warning(
    note: &Note,
    servers: &[String],
    on_fingerprint_change: FingerprintChange,
) -> Option<Warning> {
    let name = |server: &ServerId| {
        servers.get(server.0 as usize).map_or_else(|| server.to_string(), String::clone)
    };
    let of_all = |kind, message| Some(Warning { job: None, kind, message });
    let of_job = |job: &JobId, kind, message: &str| {
        Some(Warning { job: Some(*job), kind, message: message.to_owned() })
    };
    match note {
        Note::LimitLearned { server, limit } => of_all(
            "limit_learned",
            format!("{} was seen to hold {limit} sessions and refused another", name(server)),
        ),
        Note::ServerDown { server, failure } => {
            of_all("server_down", format!("{} gives no sessions for now: {failure}", name(server)))
        }
        Note::ServerRecovered(server) => {
            of_all("server_back", format!("{} gives sessions again", name(server)))
        }
        Note::ServerReturned(server) => of_all(
            "server_back",
            format!("{} was left alone for a while, and did well when it was probed", name(server)),
        ),
        Note::FingerprintChanged { server, before, after } => {
            let what = match on_fingerprint_change {
                FingerprintChange::Stop => {
                    "its jobs are stopped (on-fingerprint-change = \"mark\" would go on)"
                }
                FingerprintChange::Mark => "records carry what they were played on",
            };
            of_all(
                "environment_changed",
                format!(
                    "{} serves another environment than before: its fingerprint was {before} and is \
                     {after}; {what}",
                    name(server)
                ),
            )
        }
        Note::JobBudgetSpent(job) => of_job(
            job,
            "retry_budget_spent",
            "the job's retry budget is spent: failures are final for now",
        ),
        Note::ServerBudgetSpent(server) => of_all(
            "retry_budget_spent",
            format!(
                "the retry budget of {} is spent: failures there are final for now",
                name(server)
            ),
        ),
        Note::FirstObservationsDiffer { job, group } => of_job(
            job,
            "first_observations_differ",
            &format!(
                "members of group {group} begin differently though their seed is the same: the \
                 environment may drop seeds"
            ),
        ),
        Note::ServerEjected { server, why, rest } => of_all(
            "server_ejected",
            format!(
                "{} does unlike its pool ({why:?}) and gets no new sessions for {rest:?}",
                name(server)
            ),
        ),
        Note::Quarantined(failure) => {
            of_all("quarantined", format!("a task is given up: {failure}"))
        }
        Note::AttemptFailed { .. }
        | Note::VersionCurrent { .. }
        | Note::RoundWanted(_)
        | Note::JobEnded(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_called_by_their_names() {
        let servers = ["http://a:1".to_owned()];
        let of = |server| {
            let note = Note::LimitLearned { server: ServerId(server), limit: 3 };
            warning(&note, &servers, FingerprintChange::Stop).unwrap()
        };
        let expected = "http://a:1 was seen to hold 3 sessions and refused another";
        assert_eq!((of(0).kind, of(0).message.as_str()), ("limit_learned", expected));
        assert!(of(1).message.starts_with("1 was seen"));
    }

    #[test]
    fn what_jobs_learn_elsewhere_is_no_warning() {
        assert_eq!(warning(&Note::JobEnded(JobId(0)), &[], FingerprintChange::Stop), None);
        let spent = warning(&Note::JobBudgetSpent(JobId(4)), &[], FingerprintChange::Stop).unwrap();
        assert_eq!((spent.job, spent.kind), (Some(JobId(4)), "retry_budget_spent"));
    }
}
