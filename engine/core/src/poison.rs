//! Tasks that servers die of.
//!
//! An attempt is under suspicion if its connection broke while a command was out, and the suspicion
//! holds if the server then turns out to have died: it cannot be reached, or whoever started it says
//! that it was restarted. A task with two such deaths is not sent to a third server. It may be
//! innocent; servers that die for other reasons take many tasks with them once, and few twice.

use std::time::Duration;

use envmill_protocol::{Failure, FailureKind, ServerId, record::End};

use crate::{Core, Note, Outputs, Time, Trigger, episode::EpisodeKey};

/// A server that is found dead within this time after it broke a connection died with it.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// So many deaths condemn a task.
const DEATHS: usize = 2;
/// The most suspicions kept for one group.
const SUSPICIONS_MAX: usize = 16;

/// An attempt that was cut off with a command out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    server: ServerId,
    /// The server's deaths before that.
    deaths: u32,
    at: Time,
}

/// A server's deaths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mortality {
    deaths: u32,
    died_at: Time,
    /// Whether it has given a session since it last died (or since the start).
    pub(crate) has_lived: bool,
}

impl Core {
    /// The server is known to have died. What is learned twice of one death counts once.
    pub(crate) fn server_died(&mut self, server: ServerId) {
        let now = self.now;
        if let Some(server) = self.servers.get_mut(server.0 as usize)
            && std::mem::replace(&mut server.mortality.has_lived, false)
        {
            server.mortality.deaths += 1;
            server.mortality.died_at = now;
        }
    }

    /// The connection broke while the attempt's command was out.
    pub(crate) fn suspect(&mut self, key: EpisodeKey, server: ServerId) {
        let deaths = self.servers[server.0 as usize].mortality.deaths;
        let suspicion = Suspicion { server, deaths, at: self.now };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        if let Some(group) = self.jobs[episode.job].groups.get_mut(&episode.group) {
            let known = |other: &Suspicion| (other.server, other.deaths) == (server, deaths);
            if group.suspicions.len() < SUSPICIONS_MAX && !group.suspicions.iter().any(known) {
                group.suspicions.push(suspicion);
            }
        } else {
            episode.suspicions.push(suspicion);
        }
    }

    /// The servers that died of the episode's task, if there are so many that it is condemned.
    fn victims(&self, key: EpisodeKey) -> Option<Vec<ServerId>> {
        let episode = self.episodes[key.0 as usize].as_ref()?;
        let of_group = self.jobs[episode.job].groups.get(&episode.group);
        let suspicions = of_group.map_or(&episode.suspicions, |group| &group.suspicions);
        if suspicions.len() < DEATHS {
            return None;
        }
        let held = suspicions.iter().filter(|suspicion| {
            let mortality = &self.servers[suspicion.server.0 as usize].mortality;
            mortality.deaths > suspicion.deaths
                && mortality.died_at.since(suspicion.at) <= FOUND_WITHIN
        });
        let victims: Vec<ServerId> = held.map(|suspicion| suspicion.server).collect();
        (victims.len() >= DEATHS).then_some(victims)
    }

    /// Why the episode is not to be tried again, if servers died of its task.
    pub(crate) fn condemned(&self, key: EpisodeKey) -> Option<Failure> {
        let victims = self.victims(key)?;
        let name = |server: &ServerId| self.servers[server.0 as usize].options.name.as_str();
        let names: Vec<&str> = victims.iter().map(name).collect();
        let message = format!(
            "{} servers died while they were at this task, and it is not sent to another: {}",
            names.len(),
            names.join(", ")
        );
        Some(Failure::lost(FailureKind::Poison, message))
    }

    /// Fails the condemned episodes at the head of a job's queue, and with them what their groups
    /// have not started.
    pub(crate) fn quarantine(&mut self, job: usize, outputs: &mut Outputs) {
        while let Some(&key) = self.jobs[job].queue.front() {
            let Some(failure) = self.condemned(key) else { return };
            self.jobs[job].queue.pop_front();
            if let Some(twin) = self.episode(key).and_then(|episode| episode.twin) {
                // The other attempt at it is under way, and goes on as the only one.
                self.merge_into(key, twin);
                continue;
            }
            let group = self.episode(key).map(|episode| episode.group);
            if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
                episode.advance(Trigger::Fail, &mut self.counts);
            }
            self.record_poison(key, failure.clone(), outputs);
            if let Some(group) = group {
                self.end_unstarted(job, group, &End::Failed(failure), outputs);
            }
        }
    }

    /// Records an episode, which has failed by the table, as poison.
    pub(crate) fn record_poison(
        &mut self,
        key: EpisodeKey,
        failure: Failure,
        outputs: &mut Outputs,
    ) {
        self.counts.quarantined += 1;
        outputs.notes.push(Note::Quarantined(failure.clone()));
        self.record(key, End::Failed(failure), outputs);
    }
}
