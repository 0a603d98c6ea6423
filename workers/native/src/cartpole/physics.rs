//! The equations of motion over slices.
//!
//! The loop has no branch and no call, so the compiler turns it into vector instructions; a change
//! here is worth a look at `cargo bench`. Order of operations is Gymnasium's.

use super::trigonometry::sin_cos;

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
/// Half the pole's length.
const LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = POLE_MASS * LENGTH;
const FORCE: f64 = 10.0;
/// Seconds between two states.
const TAU: f64 = 0.02;
/// The pole has fallen beyond this angle, in radians (12°).
const ANGLE_MAX: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
/// The cart has left the track beyond this position.
const POSITION_MAX: f64 = 2.4;
/// Steps after which an episode is truncated.
pub(super) const STEPS_MAX: u32 = 500;

/// The state columns of a range of rows; all slices have the same length.
pub(super) struct State<'a> {
    pub(super) position: &'a mut [f64],
    pub(super) velocity: &'a mut [f64],
    pub(super) angle: &'a mut [f64],
    pub(super) angular_velocity: &'a mut [f64],
    /// Steps taken in the episode.
    pub(super) steps: &'a mut [u32],
    /// 1 once the pole has fallen: further steps earn nothing.
    pub(super) fallen: &'a mut [u8],
}

/// One step in every row.
pub(super) fn step(
    state: &mut State<'_>,
    actions: &[u8],
    rewards: &mut [f64],
    terminated: &mut [u8],
    truncated: &mut [u8],
) {
    // Equal lengths, said once, spare the loop its bounds checks.
    let n = actions.len();
    let position = &mut state.position[..n];
    let velocity = &mut state.velocity[..n];
    let angle = &mut state.angle[..n];
    let angular_velocity = &mut state.angular_velocity[..n];
    let steps = &mut state.steps[..n];
    let fallen = &mut state.fallen[..n];
    let rewards = &mut rewards[..n];
    let terminated = &mut terminated[..n];
    let truncated = &mut truncated[..n];

    for i in 0..n {
        let force = (f64::from(actions[i]) * 2.0 - 1.0) * FORCE;
        let (sine, cosine) = sin_cos(angle[i]);
        let spin = angular_velocity[i];
        let push = (force + POLE_MASS_LENGTH * (spin * spin) * sine) / TOTAL_MASS;
        let angular_acceleration = (GRAVITY * sine - cosine * push)
            / (LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS));
        let acceleration = push - POLE_MASS_LENGTH * angular_acceleration * cosine / TOTAL_MASS;
        position[i] += TAU * velocity[i];
        velocity[i] += TAU * acceleration;
        angle[i] += TAU * spin;
        angular_velocity[i] = spin + TAU * angular_acceleration;
    }
    for i in 0..n {
        let over = (position[i].abs() > POSITION_MAX) | (angle[i].abs() > ANGLE_MAX);
        rewards[i] = 1.0 - f64::from(fallen[i]);
        terminated[i] = u8::from(over);
        fallen[i] |= u8::from(over);
        steps[i] = steps[i].saturating_add(1);
        truncated[i] = u8::from(steps[i] >= STEPS_MAX);
    }
}
