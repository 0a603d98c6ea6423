//! The episodes that all policies play.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use envmill_world::{Random, Shape};

/// How steps and episodes spread.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Its name in the table.
    pub name: &'static str,
    /// The median step.
    pub step: Duration,
    /// How a step spreads around it.
    pub shape: Shape,
    /// The median number of steps of an episode.
    pub steps: u64,
    /// How this number spreads between the tasks.
    pub tasks: Shape,
    /// How it spreads between the episodes of one task.
    pub episodes: Shape,
}

impl Tail {
    /// Lognormal steps: one in a hundred takes ten times as long.
    #[must_use]
    pub fn lognormal() -> Self {
        Self { name: "lognormal", shape: Shape::LogNormal { sigma: 1.0 }, ..Self::agents() }
    }

    /// Pareto steps with a finite mean and without a variance.
    #[must_use]
    pub fn pareto() -> Self {
        Self { name: "pareto", shape: Shape::Pareto { alpha: 1.5 }, ..Self::agents() }
    }

    /// Steps and lengths drawn from a recorded run.
    ///
    /// # Errors
    ///
    /// If the file is not one of `benches/traces`.
    pub fn recorded(path: &Path) -> Result<Self, Box<dyn Error>> {
        let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let list = |name: &str| -> Option<Vec<f64>> {
            trace.get(name)?.as_array()?.iter().map(serde_json::Value::as_f64).collect()
        };
        let shape = |mut list: Vec<f64>| {
            list.sort_unstable_by(f64::total_cmp);
            let median = list[list.len() / 2];
            let multiples: Arc<[f64]> = list.iter().map(|it| it / median).collect();
            (median, Shape::Recorded(multiples))
        };
        let (step_us, steps) = (list("step_us"), list("episode_steps"));
        let (step_us, steps) = step_us.zip(steps).ok_or("no step_us and episode_steps in it")?;
        let ((step_us, step), (steps, episodes)) = (shape(step_us), shape(steps));
        Ok(Self {
            name: "recorded",
            step: Duration::from_secs_f64(step_us / 1e6),
            shape: step,
            steps: steps as u64,
            tasks: Shape::Constant,
            episodes,
        })
    }

    /// A language model that acts: seconds a step, tens of steps, hard tasks beside easy ones.
    const fn agents() -> Self {
        Self {
            name: "",
            step: Duration::from_secs(4),
            shape: Shape::Constant,
            steps: 20,
            tasks: Shape::LogNormal { sigma: 0.5 },
            episodes: Shape::LogNormal { sigma: 0.5 },
        }
    }
}

/// One episode: how long each of its steps takes.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Seconds for each step.
    pub steps: Vec<f64>,
}

impl Episode {
    /// Seconds for all of it.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.steps.iter().sum()
    }
}

/// Groups of episodes, in the order they are asked for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Members of each group that are asked for.
    pub samples: usize,
    /// Sessions at one time.
    pub slots: usize,
    /// Groups that a trainer takes at once.
    pub batch: usize,
    /// Batches that are asked for.
    pub batches: usize,
    /// Every group's members, with some beyond `samples` for policies that start more.
    pub groups: Vec<Vec<Episode>>,
    /// Seconds that the trainer takes over a batch.
    pub training: f64,
}

/// No episode has more steps.
const STEPS_MAX: f64 = 500.0;

/// Batches are trained on in this share of the time that their play takes on busy slots.
const TRAINING_SHARE: f64 = 0.2;

impl Workload {
    /// Draws a workload.
    #[must_use]
    pub fn draw(tail: &Tail, batch: usize, batches: usize, samples: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let members = samples * 2;
        let groups: Vec<Vec<Episode>> = (0..batch * batches)
            .map(|_| {
                let task = tail.tasks.multiple(&mut random);
                (0..members).map(|_| episode(tail, task, &mut random)).collect()
            })
            .collect();
        let slots = batch * samples;
        let asked = groups.iter().flat_map(|group| &group[..samples]);
        let work: f64 = asked.map(Episode::seconds).sum();
        let training = TRAINING_SHARE * work / slots as f64 / batches as f64;
        Self { samples, slots, batch, batches, groups, training }
    }

    /// One member.
    #[must_use]
    pub fn episode(&self, group: usize, member: usize) -> &Episode {
        &self.groups[group][member]
    }
}

fn episode(tail: &Tail, task: f64, random: &mut Random) -> Episode {
    let length = tail.steps as f64 * task * tail.episodes.multiple(random);
    let length = length.round().clamp(1.0, STEPS_MAX) as usize;
    let step = |_| tail.shape.draw(tail.step, random).as_secs_f64();
    Episode { steps: (0..length).map(step).collect() }
}
