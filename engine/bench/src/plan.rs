//! What one point is to be.

use std::time::Duration;

use bytes::Bytes;
use envmill_protocol::Observed;

use crate::Arrivals;

/// Who says what sessions do.
pub trait Actions {
    /// The next action of an episode that was reset with `seed` and has taken `step` steps: the text of one
    /// JSON object. Called once a step, on the thread that measures: what it costs is the client's.
    ///
    /// # Errors
    ///
    /// There is no action for what was observed; the text says why.
    fn next(&mut self, seed: u64, step: u32, observed: &Observed) -> Result<Bytes, String>;
}

/// How long each answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A connection, up to the WebSocket upgrade.
    pub connect: Duration,
    /// The first reset of a session, in which many servers make the environment.
    pub first_reset: Duration,
    /// A later reset.
    pub reset: Duration,
    /// A step.
    pub step: Duration,
    /// The opening of all sessions of a point; those that were not asked for by then have failed.
    pub opening: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_reset: Duration::from_mins(1),
            reset: Duration::from_secs(30),
            step: Duration::from_secs(30),
            opening: Duration::from_mins(2),
        }
    }
}

/// How points are measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many servers the worker has: sessions go to them in turn.
    pub servers: u32,
    /// Steps a second over all sessions, and how they are spread; `None` for a closed loop.
    pub open: Option<(f64, Arrivals)>,
    /// How long before anything counts.
    pub warm_up: Duration,
    /// How long is measured.
    pub measure: Duration,
    /// How long answers are waited for.
    pub deadlines: Deadlines,
    /// An episode is left after so many steps.
    pub max_steps: Option<u32>,
    /// Follow from it: actions, the seeds of resets, arrivals.
    pub seed: u64,
    /// Whether resets carry a seed.
    pub send_seed: bool,
    /// Parameters for every reset: the text of one JSON object, or empty.
    pub reset_parameters: Bytes,
    /// Whether all sessions are asked for at once, rather than a few at a time.
    pub storm: bool,
}

impl Plan {
    /// The seed of an episode of a session.
    pub(crate) fn episode_seed(&self, session: u32, sessions: u32, episode: u64) -> u64 {
        let place = episode.wrapping_mul(sessions.into()).wrapping_add(session.into());
        // Seeds of OpenEnv must not be negative in 64 bits.
        self.seed.wrapping_add(place) & (u64::MAX >> 1)
    }

    /// The parameters of a reset: the seed first, so that a seed among the given ones wins.
    pub(crate) fn parameters(&self, seed: u64) -> Bytes {
        if !self.send_seed {
            return self.reset_parameters.clone();
        }
        let given = self.reset_parameters.trim_ascii();
        let inner = given.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        let inner = inner.unwrap_or_default().trim_ascii();
        let mut text = format!("{{\"seed\":{seed}").into_bytes();
        if !inner.is_empty() {
            text.push(b',');
            text.extend_from_slice(inner);
        }
        text.push(b'}');
        text.into()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        Plan {
            servers: 1,
            open: None,
            warm_up: Duration::from_millis(50),
            measure: Duration::from_millis(200),
            deadlines: Deadlines::default(),
            max_steps: None,
            seed: 40,
            send_seed: true,
            reset_parameters: Bytes::new(),
            storm: false,
        }
    }

    #[test]
    fn the_seed_joins_the_parameters() {
        let mut plan = plan();
        assert_eq!(plan.parameters(7), r#"{"seed":7}"#);
        plan.reset_parameters = Bytes::from_static(b" { } ");
        assert_eq!(plan.parameters(7), r#"{"seed":7}"#);
        plan.reset_parameters = Bytes::from_static(br#"{"a":[1]}"#);
        assert_eq!(plan.parameters(7), r#"{"seed":7,"a":[1]}"#);
        plan.send_seed = false;
        assert_eq!(plan.parameters(7), r#"{"a":[1]}"#);
    }

    #[test]
    fn no_two_episodes_of_a_point_have_one_seed() {
        let plan = plan();
        let mut seeds: Vec<u64> = (0..8)
            .flat_map(|s| (0..8).map(move |e| (s, e)))
            .map(|(s, e)| plan.episode_seed(s, 8, e))
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 64);
    }
}
