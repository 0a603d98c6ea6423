//! CartPole as columns.

use std::ops::Range;

use super::physics::{self, State};
use crate::{BatchEnv, Columns, Reset, random};

/// Every number of a start lies within ± this.
const START_MAX: f64 = 0.05;

/// Gymnasium's CartPole-v1: a pole on a cart, pushed left or right.
///
/// The state is `f64` and follows Gymnasium's Euler steps; observations are `f32`, shape `[rows, 4]`:
/// position, velocity, angle, angular velocity. Every step earns 1 up to and including the one that
/// ends the episode, later ones 0. The episode is truncated at 500 steps.
///
/// A seed gives the same start on every machine, but not the start that Gymnasium's generator would
/// give: four numbers of SplitMix64, uniform in ±0.05.
#[derive(Debug, Default)]
pub struct CartPole {
    position: Vec<f64>,
    velocity: Vec<f64>,
    angle: Vec<f64>,
    angular_velocity: Vec<f64>,
    pub(super) steps: Vec<u32>,
    fallen: Vec<u8>,
    random: Vec<u64>,
}

impl CartPole {
    fn begin(&mut self, row: usize, reset: &Reset<Option<[f64; 4]>>) {
        let mut random = reset.seed.map_or(self.random[row], random::seeded);
        let [position, velocity, angle, angular_velocity] = reset.start.unwrap_or_else(|| {
            [(); 4].map(|()| (random::unit(&mut random) * 2.0 - 1.0) * START_MAX)
        });
        self.position[row] = position;
        self.velocity[row] = velocity;
        self.angle[row] = angle;
        self.angular_velocity[row] = angular_velocity;
        self.steps[row] = 0;
        self.fallen[row] = 0;
        self.random[row] = random;
    }

    fn observe(&self, row: usize, out: &mut [f32]) {
        out[0] = self.position[row] as f32;
        out[1] = self.velocity[row] as f32;
        out[2] = self.angle[row] as f32;
        out[3] = self.angular_velocity[row] as f32;
    }
}

impl BatchEnv for CartPole {
    /// 0 pushes left, 1 pushes right.
    type Action = u8;
    /// Position, velocity, angle, angular velocity.
    type Start = Option<[f64; 4]>;
    type Element = f32;

    const OBSERVATION_WIDTH: usize = 4;

    fn rows(&self) -> usize {
        self.position.len()
    }

    fn resize(&mut self, rows: usize) {
        let old = self.rows();
        for column in
            [&mut self.position, &mut self.velocity, &mut self.angle, &mut self.angular_velocity]
        {
            column.resize(rows, 0.0);
        }
        self.steps.resize(rows, 0);
        self.fallen.resize(rows, 0);
        self.random.resize(rows, 0);
        for row in old..rows {
            self.begin(row, &Reset { seed: Some(row as u64), start: None });
        }
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<Self::Start>],
        observations: &mut [f32],
    ) {
        for (i, row) in rows.enumerate() {
            if which[i] != 0 {
                self.begin(row, &resets[i]);
                self.observe(row, &mut observations[4 * i..4 * i + 4]);
            }
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[u8], out: &mut Columns<'_, f32>) {
        let mut state = State {
            position: &mut self.position[rows.clone()],
            velocity: &mut self.velocity[rows.clone()],
            angle: &mut self.angle[rows.clone()],
            angular_velocity: &mut self.angular_velocity[rows.clone()],
            steps: &mut self.steps[rows.clone()],
            fallen: &mut self.fallen[rows.clone()],
        };
        physics::step(&mut state, actions, out.rewards, out.terminated, out.truncated);
        let columns = self.position[rows.clone()]
            .iter()
            .zip(&self.velocity[rows.clone()])
            .zip(&self.angle[rows.clone()])
            .zip(&self.angular_velocity[rows]);
        for (seen, (((position, velocity), angle), spin)) in
            out.observations.chunks_exact_mut(4).zip(columns)
        {
            seen[0] = *position as f32;
            seen[1] = *velocity as f32;
            seen[2] = *angle as f32;
            seen[3] = *spin as f32;
        }
        out.failed.fill(0);
        out.delays_ns.fill(0);
    }
}
