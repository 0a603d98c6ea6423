//! What players tell, and what they are told.

use envmill_delivery::{JobKey, Kind, Pace};
use envmill_wire::{self as wire, drive_response::Response};
use tonic::Code;

use super::{Hub, account::delivered, outputs::Promise};
use crate::{Order, Played, ledger::Ending};

impl Hub {
    pub(super) fn on_played(&mut self, environment: usize, played: Played) {
        match played {
            Played::Refused(job, why) => self.on_refused(job, &why),
            Played::Records(records) => {
                for record in records {
                    self.record(record);
                }
            }
            Played::Begun(key, mut episodes) => {
                // A second attempt may begin when the record of the first is here already.
                let is_recorded = |id| self.delivery.has_recorded(key, Kind::Trajectory, id);
                episodes.retain(|&id| !is_recorded(id));
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.begun.add(&episodes);
                }
            }
            Played::Groups(groups) => {
                for group in groups {
                    self.record_group(group);
                }
            }
            Played::Ended(job) => self.record_end(job),
            Played::RoundWanted(job) => self.draw_round(job),
            Played::VersionCurrent(key, version) => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.pending = job.pending.filter(|&pending| pending > version);
                    // What was announced to be kept is announced already.
                    let _ = self.delivery.announce(key, delivered(version));
                    let current = wire::VersionCurrent {
                        job_id: job.id.clone(),
                        version: Some(wire::version(version)),
                    };
                    self.tell_job(key, &Response::VersionCurrent(current));
                }
            }
            Played::Warning { job: Some(job), kind, message } => {
                self.warn(Some(job), kind, &message);
            }
            Played::Warning { job: None, kind, message } => {
                let its = |job: &&super::Job| job.environment == Some(environment);
                let jobs: Vec<_> = self.jobs.values().filter(its).map(|job| job.key).collect();
                for job in jobs {
                    self.warn(Some(job), kind, &message);
                }
            }
        }
    }

    /// Draws the next round of a job's tasks, by what came of them so far. Its player is told when it is on
    /// disk, and plays nothing of it before.
    fn draw_round(&mut self, key: JobKey) {
        let Some(sampling) = self.jobs.get_mut(&key).and_then(|job| job.sampling.as_mut()) else {
            return;
        };
        let over = self.delivery.recorded(key, Kind::Group);
        if let Some(round) = sampling.draw(|group| over.is_some_and(|it| it.contains(group))) {
            self.promises.push(Promise::Round(key, round));
        }
    }

    /// A job that was checked and still refused: that should not happen, and must not hang.
    fn on_refused(&mut self, key: JobKey, why: &str) {
        tracing::error!(job = key.0, why, "a job was not taken on");
        for (&stream, its) in &self.streams {
            if its.attached.contains_key(&key) {
                tracing::debug!(stream = stream.0, "its trainer is told");
                its.outbox.send(Response::Refused(wire::Refused {
                    request_id: 0,
                    code: Code::InvalidArgument.into(),
                    message: why.to_owned(),
                }));
            }
        }
        self.forget(key);
    }

    /// Tells a job's player a wish, if it still plays.
    pub(super) fn order(&self, key: JobKey, order: Order) {
        let environment = self.jobs.get(&key).and_then(|job| job.environment);
        if let Some(environment) = environment.and_then(|at| self.environments.get(at)) {
            environment.player.order(key, order);
        }
    }

    /// Lets a job's episodes go as far as the trainer wishes and the delivery allows.
    pub(super) fn pace(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let pace = job.pace();
        if std::mem::replace(&mut job.told_pace, pace) != pace {
            let order = match pace {
                Pace::GoOn => Order::Resume,
                Pace::BeginNothing => Order::Slow,
                Pace::Stop => Order::Pause,
            };
            self.order(key, order);
        }
    }

    /// Repeats to a player what was wished of a job that it has just been given (again).
    pub(super) fn repeat_wishes(&mut self, key: JobKey) {
        let version = self.delivery.version(key).unwrap_or_default();
        if version != envmill_delivery::Version::default() {
            let version = super::account::played(version);
            self.order(key, Order::Version(version, envmill_core::InFlight::Keep));
        }
        self.pace(key);
        match self.jobs.get(&key).map(super::Job::wants_end) {
            Some(Ending::Drained) => self.order(key, Order::Drain),
            Some(Ending::Cancelled) => self.order(key, Order::Cancel),
            Some(Ending::None) | None => {}
        }
    }

    /// A word to all streams that are attached to a job.
    pub(super) fn tell_job(&self, key: JobKey, response: &Response) {
        for stream in self.streams.values() {
            if stream.attached.contains_key(&key) {
                stream.outbox.send(response.clone());
            }
        }
    }
}
