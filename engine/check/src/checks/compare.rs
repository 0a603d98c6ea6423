//! Whether two episodes are the same, but for ids and times.

use crate::{
    diff::{Difference, differences},
    play::Episode,
};

/// What came of comparing.
#[derive(Clone, Debug)]
pub(super) enum Compared {
    /// They are the same.
    Same,
    /// They differ in ids and times alone.
    Volatile(Vec<Difference>),
    /// They differ.
    Different(Vec<Difference>),
}

impl Compared {
    pub(super) fn of(one: &Episode, other: &Episode) -> Self {
        let all = differences(&one.to_value(), &other.to_value());
        if all.is_empty() {
            return Self::Same;
        }
        let matter: Vec<_> = all.iter().filter(|it| !it.is_volatile()).cloned().collect();
        if matter.is_empty() { Self::Volatile(all) } else { Self::Different(matter) }
    }

    /// Whether nothing that matters differs.
    pub(super) const fn is_same(&self) -> bool {
        !matches!(self, Self::Different(_))
    }

    /// The first difference, for people.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Same => "no difference".into(),
            Self::Volatile(all) | Self::Different(all) => {
                let first: Vec<String> = all.iter().take(2).map(Difference::told).collect();
                let more = all.len().saturating_sub(2);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                format!("{}{more}", first.join("; "))
            }
        }
    }
}
