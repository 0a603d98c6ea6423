//! The records that were asked for, in the order that was asked for.

use std::str::FromStr;

use envmill_inspect::{About, Filter};
use envmill_protocol::Trajectory;

use super::{Inputs, InspectError, Reader};
use crate::sink::weight;

/// So many bytes of records are held at a time to be put in order.
const HELD_BYTES: u64 = 256 << 20;

/// Which records, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What they must be.
    pub filter: Filter,
    /// At most so many, of the order's beginning.
    pub limit: Option<u64>,
    /// The order: largest first, those without a value last. In the order of the files without it.
    pub sort: Option<SortKey>,
    /// The other way round.
    pub reverse: bool,
}

/// What records are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The reward.
    Reward,
    /// The number of steps.
    Steps,
    /// How long the episode took.
    Duration,
}

impl FromStr for SortKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reward" => Ok(Self::Reward),
            "steps" => Ok(Self::Steps),
            "duration" => Ok(Self::Duration),
            other => Err(format!("write reward, steps or duration, not `{other}`")),
        }
    }
}

impl SortKey {
    fn of(self, record: &Trajectory) -> Option<f64> {
        match self {
            Self::Reward => record.reward.filter(|it| !it.is_nan()),
            Self::Steps => Some(record.steps.len() as f64),
            Self::Duration => {
                Some(record.timing.ended_us.saturating_sub(record.timing.started_us) as f64)
            }
        }
    }
}

/// A record by its place among all that are read.
#[derive(Clone, Copy)]
struct Ranked {
    place: u64,
    value: Option<f64>,
    weight: u64,
}

impl Selection {
    /// Passes the records on, one by one, until `take` wants no more (`false`), and tells what was read.
    ///
    /// A sorted selection reads the files once to learn the order (32 bytes a record) and once more for
    /// each 256 MiB of records that are passed on.
    ///
    /// # Errors
    ///
    /// What reading gives, or `take`.
    pub fn each(
        &self,
        inputs: &Inputs,
        is_interrupted: &dyn Fn() -> bool,
        mut take: impl FnMut(Trajectory) -> Result<bool, InspectError>,
    ) -> Result<About, InspectError> {
        self.filter.check()?;
        let Some(key) = self.sort else {
            let mut reader = Reader::new(inputs, is_interrupted);
            let mut left = self.limit.unwrap_or(u64::MAX);
            while left > 0
                && let Some(record) = reader.read()?
            {
                if self.filter.keeps(&record) {
                    left -= 1;
                    if !take(record)? {
                        break;
                    }
                }
            }
            return Ok(reader.about());
        };
        let (ranked, about) = self.ranked(key, inputs, is_interrupted)?;
        let mut rest = &ranked[..];
        while !rest.is_empty() && !is_interrupted() {
            let mut bytes = 0;
            let fits = |it: &&Ranked| {
                bytes += it.weight;
                bytes <= HELD_BYTES
            };
            let held = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(held);
            for record in fetch(now, inputs, is_interrupted)? {
                if !take(record)? {
                    return Ok(about);
                }
            }
            rest = later;
        }
        Ok(About { is_interrupted: about.is_interrupted || !rest.is_empty(), ..about })
    }

    fn ranked(
        &self,
        key: SortKey,
        inputs: &Inputs,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(Vec<Ranked>, About), InspectError> {
        let mut ranked = Vec::new();
        let mut reader = Reader::new(inputs, is_interrupted);
        let mut place = 0;
        while let Some(record) = reader.read()? {
            if self.filter.keeps(&record) {
                let weight = weight(&record) as u64;
                ranked.push(Ranked { place, value: key.of(&record), weight });
            }
            place += 1;
        }
        ranked.sort_by(|one, other| match (one.value, other.value) {
            (Some(one), Some(other)) if self.reverse => one.total_cmp(&other),
            (Some(one), Some(other)) => other.total_cmp(&one),
            (one, other) => one.is_none().cmp(&other.is_none()),
        });
        if let Some(limit) = self.limit.and_then(|limit| usize::try_from(limit).ok()) {
            ranked.truncate(limit);
        }
        Ok((ranked, reader.about()))
    }
}

/// The records at these places, in this order.
fn fetch(
    wanted: &[Ranked],
    inputs: &Inputs,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<impl Iterator<Item = Trajectory>, InspectError> {
    let mut by_place: Vec<(u64, usize)> =
        wanted.iter().enumerate().map(|(rank, it)| (it.place, rank)).collect();
    by_place.sort_unstable();
    let mut found: Vec<Option<Trajectory>> = Vec::new();
    found.resize_with(wanted.len(), || None);
    let mut reader = Reader::new(inputs, is_interrupted);
    let mut place = 0;
    let mut next = by_place.into_iter().peekable();
    while next.peek().is_some()
        && let Some(record) = reader.read()?
    {
        if let Some((_, rank)) = next.next_if(|(at, _)| *at == place) {
            found[rank] = Some(record);
        }
        place += 1;
    }
    Ok(found.into_iter().flatten())
}
