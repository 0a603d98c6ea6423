//! What an environment shows, as text that need not have been printed yet.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::Numbers;

/// An observation: the text of one JSON value. Empty where there is none.
///
/// One that came as text is that text, a slice of the frame that it came in. One that came as numbers
/// ([`of_numbers`](Self::of_numbers)) is printed when somebody looks at its text, once, for all of its
/// copies: dereferencing may cost that, and [`numbers`](Self::numbers) and
/// [`bytes_held`](Self::bytes_held) never do.
#[derive(Clone, Default)]
pub struct Observation(Form);

#[derive(Clone)]
enum Form {
    Text(Bytes),
    Numbers(Arc<Shown>),
}

#[derive(Debug)]
struct Shown {
    numbers: Numbers,
    text: OnceLock<Bytes>,
}

impl Default for Form {
    fn default() -> Self {
        Self::Text(Bytes::new())
    }
}

impl Observation {
    /// The observation `{"observation":…}` of these numbers.
    #[must_use]
    pub fn of_numbers(numbers: Numbers) -> Self {
        Self(Form::Numbers(Arc::new(Shown { numbers, text: OnceLock::new() })))
    }

    /// Its numbers, if it came as such.
    #[must_use]
    pub fn numbers(&self) -> Option<&Numbers> {
        match &self.0 {
            Form::Text(_) => None,
            Form::Numbers(shown) => Some(&shown.numbers),
        }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        match &self.0 {
            Form::Text(text) => text,
            Form::Numbers(shown) => shown.text.get_or_init(|| {
                let numbers = &shown.numbers;
                // Four characters for a byte is what pixels take, and most others about that.
                let mut text = Vec::with_capacity(32 + 4 * numbers.data.len());
                text.extend_from_slice(b"{\"observation\":");
                numbers.print(&mut text);
                text.push(b'}');
                text.into()
            }),
        }
    }

    /// What it takes in memory, copies apart: its text, if there is one already, and its numbers.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        match &self.0 {
            Form::Text(text) => text.len(),
            Form::Numbers(shown) => {
                shown.numbers.data.len() + shown.text.get().map_or(0, Bytes::len)
            }
        }
    }
}

impl Deref for Observation {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        self.text()
    }
}

impl<T: Into<Bytes>> From<T> for Observation {
    fn from(text: T) -> Self {
        Self(Form::Text(text.into()))
    }
}

/// Equal if their texts are.
impl PartialEq for Observation {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Numbers(one), Form::Numbers(other)) if Arc::ptr_eq(one, other) => true,
            _ => self.text() == other.text(),
        }
    }
}

impl PartialEq<str> for Observation {
    fn eq(&self, other: &str) -> bool {
        self.text() == other
    }
}

impl PartialEq<&str> for Observation {
    fn eq(&self, other: &&str) -> bool {
        self.text() == other
    }
}

impl PartialEq<&[u8]> for Observation {
    fn eq(&self, other: &&[u8]) -> bool {
        self.text() == other
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn numbers_are_printed_when_somebody_looks_and_for_all_copies() {
        let numbers = Numbers { dtype: DType::U8, shape: [2].into(), data: vec![1, 2].into() };
        let shown = Observation::of_numbers(numbers.clone());
        let copy = shown.clone();
        assert_eq!((copy.bytes_held(), copy.numbers()), (2, Some(&numbers)));
        assert_eq!(copy, shown);
        assert_eq!(copy.bytes_held(), 2);
        assert_eq!(shown, r#"{"observation":[1,2]}"#);
        assert_eq!(copy.bytes_held(), 2 + 21);
        assert_eq!(copy, Observation::from(r#"{"observation":[1,2]}"#));
        assert_eq!(copy.text().as_ptr(), shown.text().as_ptr());
    }

    #[test]
    fn texts_are_themselves() {
        let shown = Observation::from("{}");
        assert_eq!((shown.numbers(), shown.bytes_held(), shown.len()), (None, 2, 2));
        assert!(Observation::default().is_empty());
    }
}
