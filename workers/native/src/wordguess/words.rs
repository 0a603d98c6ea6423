//! The words that may be the answer, and those that a guess is told something about.

/// Letters in a word.
pub(super) const LETTERS: usize = 5;

/// A word in lower-case ASCII.
pub(super) type Word = [u8; LETTERS];

/// One word a line, in alphabetical order.
const TEXT: &[u8] = include_bytes!("words.txt");

/// How many there are.
pub(super) const COUNT: usize = TEXT.len() / (LETTERS + 1);

/// The word with this number, from 0 in alphabetical order; the last one for numbers beyond.
pub(super) fn word(number: usize) -> Word {
    let start = number.min(COUNT - 1) * (LETTERS + 1);
    let mut word = Word::default();
    word.copy_from_slice(&TEXT[start..start + LETTERS]);
    word
}

/// Every word, in alphabetical order.
pub(super) fn words() -> impl Iterator<Item = Word> {
    (0..COUNT).map(word)
}

/// Whether the list has this word.
pub(super) fn is_listed(wanted: &Word) -> bool {
    let (mut low, mut high) = (0, COUNT);
    while low < high {
        let middle = low.midpoint(high);
        match word(middle).cmp(wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_word_is_found() {
        assert_eq!(TEXT.len() % (LETTERS + 1), 0);
        let all: Vec<Word> = words().collect();
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(all.iter().all(|word| word.iter().all(u8::is_ascii_lowercase)));
        assert!(all.iter().all(is_listed));
        assert!(TEXT.chunks(LETTERS + 1).all(|line| line.ends_with(b"\n")));
        for unlisted in [b"aaaaa", b"crams", b"zzzzz"] {
            assert!(!is_listed(unlisted));
        }
    }
}
