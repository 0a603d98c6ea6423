//! Looks into recorded trajectories.
