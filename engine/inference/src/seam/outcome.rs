//! A generation as a whole.

use envmill_protocol::VersionSpan;

use crate::{Chunk, Error, ErrorKind, Finish, Finished, TopLogprobs};

/// All that was sampled in a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Sampled token ids, shape `[T]`.
    pub token_ids: Vec<u32>,
    /// Natural logarithms, shape `[T]`, or empty where unknown.
    pub logprobs: Vec<f32>,
    /// The most likely tokens at each of them, where they were asked for; else no places.
    pub top_logprobs: TopLogprobs,
    /// Which version sampled which tokens, in order, covering `token_ids`.
    pub versions: Vec<VersionSpan>,
    /// How it ended; `None` while it has not.
    pub finished: Option<Finished>,
}

impl Outcome {
    /// Adds a chunk; true if it was the last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Nonsense`]: there are log-probabilities for some tokens and not for others, one is no
    /// number, or the engine's version spans do not cover the tokens.
    pub fn push(&mut self, chunk: Chunk) -> Result<bool, Error> {
        let tokens = chunk.token_ids.len();
        let known = self.logprobs.len() == self.token_ids.len() && chunk.logprobs.len() == tokens;
        let unknown = self.logprobs.is_empty() && chunk.logprobs.is_empty();
        if !known && !unknown {
            return Err(Error::new(
                ErrorKind::Nonsense,
                format!("{} log-probabilities for {tokens} tokens", chunk.logprobs.len()),
            ));
        }
        let places = chunk.top_logprobs.places();
        let all = self.top_logprobs.places() == self.token_ids.len() && places == tokens;
        if !all && (self.top_logprobs.places() > 0 || places > 0) {
            return Err(Error::new(
                ErrorKind::Nonsense,
                format!("the most likely tokens at {places} places for {tokens} tokens"),
            ));
        }
        let mut logprobs = chunk.logprobs.iter().chain(chunk.top_logprobs.logprobs());
        if let Some(odd) = logprobs.find(|it| it.is_nan() || **it == f32::INFINITY) {
            return Err(Error::new(ErrorKind::Nonsense, format!("{odd} as a log-probability")));
        }
        self.token_ids.extend_from_slice(&chunk.token_ids);
        self.logprobs.extend_from_slice(&chunk.logprobs);
        self.top_logprobs.append(&chunk.top_logprobs);
        VersionSpan::add(&mut self.versions, chunk.version, count(tokens));
        let Some(finished) = chunk.finished else { return Ok(false) };
        if !finished.versions.is_empty() {
            let covered: u64 = finished.versions.iter().map(|it| u64::from(it.tokens)).sum();
            if covered != self.token_ids.len() as u64 {
                return Err(Error::new(
                    ErrorKind::Nonsense,
                    format!("versions of {covered} tokens for {} tokens", self.token_ids.len()),
                ));
            }
            self.versions.clone_from(&finished.versions);
        }
        self.finished = Some(finished);
        Ok(true)
    }

    /// Adds what was sampled after this, elsewhere: the prompt of `later` was this one's prompt and tokens.
    /// Its end is the end of both.
    pub fn continued(&mut self, later: Self) {
        self.logprobs.extend_from_slice(&later.logprobs);
        self.top_logprobs.append(&later.top_logprobs);
        self.token_ids.extend_from_slice(&later.token_ids);
        for it in &later.versions {
            VersionSpan::add(&mut self.versions, it.version, it.tokens);
        }
        self.finished = later.finished;
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn finish(&self) -> Option<&Finish> {
        self.finished.as_ref().map(|it| &it.finish)
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use envmill_protocol::PolicyVersion;

    use super::*;

    fn chunk(tokens: &[u32], version: u64) -> Chunk {
        Chunk {
            token_ids: tokens.to_vec(),
            logprobs: vec![-1.0; tokens.len()],
            version: PolicyVersion(version),
            ..Chunk::default()
        }
    }

    #[test]
    fn versions_are_those_of_arrival_unless_the_engine_says() {
        let mut outcome = Outcome::default();
        assert!(!outcome.push(chunk(&[1, 2], 1)).unwrap());
        assert!(!outcome.push(chunk(&[3], 1)).unwrap());
        assert!(!outcome.push(chunk(&[4], 2)).unwrap());
        let spans = |it: &Outcome| -> Vec<_> {
            it.versions.iter().map(|it| (it.version.0, it.tokens)).collect()
        };
        assert_eq!(spans(&outcome), [(1, 3), (2, 1)]);
        let mut last = chunk(&[5], 2);
        let versions = vec![
            VersionSpan { version: PolicyVersion(1), tokens: 4 },
            VersionSpan { version: PolicyVersion(2), tokens: 1 },
        ];
        last.finished = Some(Finished { versions, ..Finished::new(Finish::Length) });
        assert!(outcome.push(last).unwrap());
        assert_eq!(spans(&outcome), [(1, 4), (2, 1)]);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let mut odd = chunk(&[1, 2], 0);
        odd.logprobs.pop();
        assert_eq!(Outcome::default().push(odd).unwrap_err().kind, ErrorKind::Nonsense);
        let mut odd = chunk(&[1], 0);
        odd.logprobs[0] = f32::NAN;
        assert_eq!(Outcome::default().push(odd).unwrap_err().kind, ErrorKind::Nonsense);
        let mut odd = chunk(&[1, 2], 0);
        let versions = vec![VersionSpan { version: PolicyVersion(0), tokens: 3 }];
        odd.finished = Some(Finished { versions, ..Finished::new(Finish::Length) });
        assert_eq!(Outcome::default().push(odd).unwrap_err().kind, ErrorKind::Nonsense);
        let mut outcome = Outcome::default();
        outcome.push(chunk(&[1], 0)).unwrap();
        let mut odd = chunk(&[2], 0);
        odd.logprobs.clear();
        assert_eq!(outcome.push(odd).unwrap_err().kind, ErrorKind::Nonsense);
        // The most likely tokens of some places only, or with an odd number.
        let mut odd = chunk(&[2], 0);
        odd.top_logprobs.push([(2, -1.0)], 1);
        assert_eq!(outcome.push(odd.clone()).unwrap_err().kind, ErrorKind::Nonsense);
        assert!(!Outcome::default().push(odd.clone()).unwrap());
        odd.top_logprobs = TopLogprobs::default();
        odd.top_logprobs.push([(2, f32::NAN)], 1);
        assert_eq!(Outcome::default().push(odd).unwrap_err().kind, ErrorKind::Nonsense);
    }

    #[test]
    fn what_was_sampled_elsewhere_continues_it() {
        let mut first = Outcome::default();
        first.push(chunk(&[1, 2], 1)).unwrap();
        let mut later = Outcome::default();
        later.push(chunk(&[3], 1)).unwrap();
        let mut last = chunk(&[4], 2);
        last.finished = Some(Finished::new(Finish::EndOfTurn));
        later.push(last).unwrap();
        first.continued(later);
        assert_eq!(first.token_ids, [1, 2, 3, 4]);
        assert_eq!(first.logprobs.len(), 4);
        assert_eq!(first.versions[0].tokens, 3);
        assert_eq!(first.finish(), Some(&Finish::EndOfTurn));
    }
}
