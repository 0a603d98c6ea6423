//! Tasks of a run that are visited by what came of their groups: rounds are written down before they are played.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envmill_core::{Revisit, Round, Sampler, SamplerState, Tasks};
use envmill_protocol::record::{GroupRecord, read_group_line};
use serde::{Deserialize, Serialize};

use crate::sink::{GroupSink, SinkError};

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The round.
    round: u64,
    /// The first group that plays one of its tasks.
    group: u64,
    /// The places of its tasks, from 0, as often as each is played in it.
    tasks: Vec<u32>,
    /// What each task has in hand for the next round, in millionths of a visit.
    in_hand: Vec<u32>,
}

/// The sampler of a run, and the file of its rounds. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Sampled(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    sampler: Sampler,
    path: PathBuf,
    failure: Option<SinkError>,
}

impl Sampled {
    /// Goes on with the rounds of a file and with what these records of groups, as lines, say of them; begins
    /// where there is no file. What a kill has left of a line is cut: its round was never played.
    pub(crate) fn open(
        path: PathBuf,
        tasks: Tasks,
        seed: u64,
        revisit: Revisit,
        group_lines: &[u8],
    ) -> io::Result<Self> {
        let lines = whole_lines(&path)?;
        let mut state = SamplerState { visits: vec![0; tasks.len()], ..SamplerState::default() };
        for line in &lines {
            for &task in &line.tasks {
                let visits = state.visits.get_mut(task as usize);
                *visits.ok_or_else(|| io::Error::other("it is of another set of tasks"))? += 1;
            }
            state.next_round = line.round + 1;
        }
        let round = |line: &Line| Round {
            number: line.round,
            start: line.group,
            tasks: line.tasks.clone().into(),
        };
        state.rounds = lines.iter().map(round).collect::<VecDeque<_>>();
        state.in_hand = lines.last().map_or_else(Vec::new, |line| line.in_hand.clone());
        let mut sampler = Sampler::restored(tasks, seed, Some(revisit), state);
        for line in group_lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let group = read_group_line(line).map_err(io::Error::other)?;
            sampler.add(&group);
        }
        let sampled = Self(Arc::new(Mutex::new(State { sampler, path, failure: None })));
        if lines.is_empty() {
            sampled.draw();
            if let Some(failure) = sampled.state().failure.take() {
                return Err(io::Error::other(failure.source));
            }
        }
        Ok(sampled)
    }

    /// The tasks, with the rounds that were drawn so far.
    pub(crate) fn tasks(&self) -> Tasks {
        let state = self.state();
        let rounds = state.sampler.state().rounds.iter().cloned().collect();
        state.sampler.tasks().clone().in_rounds(rounds)
    }

    /// Draws the next round. `None` if it cannot be written down, which ends the run.
    pub(crate) fn draw(&self) -> Option<Round> {
        let mut state = self.state();
        let round = state.sampler.draw()?;
        let line = Line {
            round: round.number,
            group: round.start,
            tasks: round.tasks.to_vec(),
            in_hand: state.sampler.state().in_hand.clone(),
        };
        match append(&state.path, &line) {
            Ok(()) => Some(round),
            Err(error) => {
                state.failure = Some(SinkError::new(state.path.clone(), error));
                None
            }
        }
    }

    /// The same sink, whose records the sampler hears of.
    pub(crate) fn hears(&self, groups: Box<dyn GroupSink>) -> Box<dyn GroupSink> {
        Box::new(Hearing { groups, sampled: self.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it leaves it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines that are whole; what follows them is cut.
fn whole_lines(path: &Path) -> io::Result<Vec<Line>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let (mut lines, mut whole) = (Vec::new(), 0);
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        lines.push(serde_json::from_slice(line)?);
        whole += line.len() as u64;
    }
    if whole < text.len() as u64 {
        OpenOptions::new().write(true).open(path)?.set_len(whole)?;
    }
    Ok(lines)
}

fn append(path: &Path, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&text)?;
    file.sync_data()
}

struct Hearing {
    groups: Box<dyn GroupSink>,
    sampled: Sampled,
}

impl GroupSink for Hearing {
    fn submit(&mut self, groups: &mut Vec<GroupRecord>, submitted: u64) {
        let mut state = self.sampled.state();
        for group in &*groups {
            state.sampler.add(group);
        }
        drop(state);
        self.groups.submit(groups, submitted);
    }

    fn advance(&mut self, kept: u64) {
        self.groups.advance(kept);
    }

    fn written(&self) -> u64 {
        self.groups.written()
    }

    fn failure(&self) -> Option<SinkError> {
        self.groups.failure().or_else(|| self.sampled.state().failure.clone())
    }

    fn finish(&mut self, kept: u64) {
        self.groups.finish(kept);
    }
}

#[cfg(test)]
mod tests {
    use envmill_core::{Task, Weight};

    use super::*;

    fn tasks() -> Tasks {
        let task = |(id, weight): (&str, f64)| Task {
            id: id.into(),
            weight: Weight::new(weight).unwrap(),
            ..Task::default()
        };
        Tasks::new([("a", 1.0), ("b", 0.5), ("c", 2.0)].into_iter().map(task).collect())
    }

    #[test]
    fn rounds_go_on_where_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let revisit = Revisit { after: 1, every_max: 4 };
            Sampled::open(directory.path().join(name), tasks(), 7, revisit, b"")
        };
        let whole = open("whole").unwrap();
        let all: Vec<Round> = (0..6).map(|_| whole.draw().unwrap()).collect();
        let torn = open("torn").unwrap();
        assert_eq!([torn.draw().unwrap(), torn.draw().unwrap()], all[..2]);
        let path = directory.path().join("torn");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(br#"{"round":3,"group":9,"ta"#);
        fs::write(&path, text).unwrap();
        let again = open("torn").unwrap();
        assert_eq!(again.tasks().rounds().unwrap().len(), 3);
        assert_eq!(again.tasks().rounds(), torn.tasks().rounds());
        assert_eq!((0..4).map(|_| again.draw().unwrap()).collect::<Vec<_>>(), all[2..]);
        assert_eq!(fs::read(&path).unwrap(), fs::read(directory.path().join("whole")).unwrap());
        fs::write(&path, "{}\n").unwrap();
        open("torn").unwrap_err();
    }

    #[test]
    fn what_cannot_be_written_is_not_played() {
        let directory = tempfile::tempdir().unwrap();
        let revisit = Revisit { after: 1, every_max: 8 };
        let path = directory.path().join("rounds");
        let sampled = Sampled::open(path.clone(), tasks(), 7, revisit, b"").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(sampled.draw(), None);
        assert_eq!(sampled.state().failure.as_ref().unwrap().path, path);
    }
}
