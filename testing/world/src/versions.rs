//! Policy versions, kept by somebody else: which the core must tell of and when, and what must not have
//! been under way then.

use std::{collections::HashMap, time::Duration};

use envmill_core::{InFlight, Time};
use envmill_protocol::{JobId, PolicyVersion, Trajectory, record::End};

/// The versions of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Versions(HashMap<JobId, OfJob>);

#[derive(Debug, Default)]
struct OfJob {
    /// The versions that the core has told of, and when.
    told: Vec<(PolicyVersion, Time)>,
    awaited: Option<Awaited>,
    /// Spells in which nothing was to be started that was not before.
    held: Vec<(Time, Time)>,
    /// When nothing was in flight.
    drained: Vec<Time>,
}

/// A version that the core has to tell of.
#[derive(Debug)]
struct Awaited {
    version: PolicyVersion,
    in_flight: InFlight,
    /// Since when nothing is to be started.
    since: Time,
}

impl Versions {
    /// The core is about to be told of a version.
    pub(crate) fn announced(
        &mut self,
        job: JobId,
        version: PolicyVersion,
        in_flight: InFlight,
        now: Time,
    ) {
        let job = self.0.entry(job).or_default();
        let largest = job.awaited.as_ref().map_or(job.current(), |awaited| awaited.version);
        if version > largest {
            let since = job.awaited.as_ref().map_or(now, |awaited| awaited.since);
            job.awaited = Some(Awaited { version, in_flight, since });
        }
    }

    /// The core says that a version is a job's now.
    ///
    /// # Errors
    ///
    /// What is wrong with that.
    pub(crate) fn is_current(
        &mut self,
        job: JobId,
        version: PolicyVersion,
        now: Time,
    ) -> Result<(), String> {
        let of_job = self.0.entry(job).or_default();
        let awaited = of_job.awaited.take().filter(|awaited| awaited.version == version);
        let Some(Awaited { in_flight, since, .. }) = awaited else {
            return Err(format!("job {job} is said to be on version {version}"));
        };
        of_job.told.push((version, now));
        of_job.held.push((since, now));
        if in_flight == InFlight::Drain {
            of_job.drained.push(now);
        }
        Ok(())
    }

    /// What the core should have told of by now.
    pub(crate) fn overdue(&self) -> Option<String> {
        let is_due = |job: &OfJob| {
            job.awaited.as_ref().is_some_and(|awaited| awaited.in_flight == InFlight::Keep)
        };
        let (job, _) = self.0.iter().find(|(_, job)| is_due(job))?;
        Some(format!("job {job} does not take its version at once"))
    }

    /// The core says that a job has ended.
    ///
    /// # Errors
    ///
    /// It has not told of a version before.
    pub(crate) fn is_over(&self, job: JobId) -> Result<(), String> {
        match self.0.get(&job).and_then(|job| job.awaited.as_ref()) {
            Some(Awaited { version, .. }) => {
                Err(format!("job {job} ends and was never on version {version}"))
            }
            None => Ok(()),
        }
    }

    /// Whether what was started then, in microseconds, was started while its job waited for a version.
    pub(crate) fn was_held(&self, job: JobId, started_us: u64) -> bool {
        let was_held = |&(from, to): &(Time, Time)| {
            from.as_micros() < started_us
                && Duration::from_micros(started_us + 1) < to.since(Time::ZERO)
        };
        self.0.get(&job).is_some_and(|job| job.held.iter().any(was_held))
    }

    /// Whether a record can be, as far as its job's versions go. `fills`: groups that have begun start their
    /// members whatever is announced meanwhile.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn check(&self, job: JobId, record: &Trajectory, fills: bool) -> Result<(), String> {
        let timing = &record.timing;
        let (started, ended) = (timing.policy_version_started, timing.policy_version_ended);
        if started > ended {
            return Err(format!("it began on version {started} and ended on {ended}"));
        }
        let calm = OfJob::default();
        let versions = self.0.get(&job).unwrap_or(&calm);
        let spans = |from: u64, to: u64, at: Time| {
            from < at.as_micros() && at.since(Time::ZERO) < Duration::from_micros(to)
        };
        if !fills && !record.attempts.is_empty() && self.was_held(job, timing.started_us) {
            return Err("it was started while its job waited for a version".into());
        }
        for attempt in &record.attempts {
            if versions.drained.iter().any(|&at| spans(attempt.started_us, attempt.ended_us, at)) {
                return Err("it was in flight when nothing was to be".into());
            }
        }
        let is_played =
            matches!(record.end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_));
        // Of attempts beside each other, the one that was played to the end.
        let last = record.attempts.iter().rfind(|attempt| attempt.cause.is_empty());
        let Some(last) = last.filter(|_| is_played) else { return Ok(()) };
        if !versions.was_current(started, last.started_us, timing.reset_us) {
            return Err(format!("it cannot have begun on version {started}"));
        }
        if !versions.was_current(ended, last.ended_us, last.ended_us) {
            return Err(format!("it cannot have ended on version {ended}"));
        }
        Ok(())
    }
}

impl OfJob {
    fn current(&self) -> PolicyVersion {
        self.told.last().map_or(PolicyVersion(0), |(version, _)| *version)
    }

    /// Whether the job may have been on a version at some time between two, in whole microseconds.
    fn was_current(&self, version: PolicyVersion, from_us: u64, to_us: u64) -> bool {
        let at = self.told.iter().position(|(told, _)| *told == version);
        let (since, next) = match at {
            Some(at) => (self.told[at].1, at + 1),
            None if version == PolicyVersion(0) => (Time::ZERO, 0),
            None => return false,
        };
        let until = self.told.get(next).map_or(Time::NEVER, |(_, at)| *at);
        since.as_micros() <= to_us && from_us <= until.as_micros()
    }
}
