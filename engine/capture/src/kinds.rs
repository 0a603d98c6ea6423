//! Which calls are the agent's.

use std::collections::HashMap;

use envmill_protocol::GeneratedKind;

use crate::key::Digest;

/// What is known of a call when its episode is over.
pub(crate) struct Facts {
    /// The model's name and the system's messages that it began with.
    pub(crate) identity: Digest,
    pub(crate) parent: Option<usize>,
    /// Its ids are its parent's with others behind them.
    pub(crate) appends: bool,
    /// The harness said itself that it is no part of the conversation.
    pub(crate) aside: bool,
    pub(crate) is_answered: bool,
    pub(crate) sampled: usize,
}

/// What part each call plays.
///
/// The agent is who has the longest conversation: of all calls, the one with the most answered calls
/// before it, each continuing the one before, names the agent by its model and its system's messages.
/// Where two are as long, it is who sampled more, then who came first. All calls of the agent are its own,
/// branches included; others are auxiliary. What nobody was given an answer to is discarded.
pub(crate) fn kinds(calls: &[Facts]) -> Vec<GeneratedKind> {
    let mut depths: Vec<usize> = Vec::with_capacity(calls.len());
    let mut sampled: HashMap<Digest, usize> = HashMap::new();
    for call in calls {
        let before = call.parent.and_then(|it| depths.get(it)).copied().unwrap_or(0);
        depths.push(before + usize::from(call.is_answered && !call.aside));
        *sampled.entry(call.identity).or_default() += call.sampled;
    }
    let own = calls.iter().zip(&depths).filter(|(call, _)| call.is_answered && !call.aside);
    // `max_by_key` gives the last of several; the first is wanted.
    let agent = own.rev().max_by_key(|(call, depth)| (**depth, sampled[&call.identity]));
    let agent = agent.map(|(call, _)| call.identity);
    let kind = |call: &Facts| match call {
        Facts { is_answered: false, .. } => GeneratedKind::Discarded,
        Facts { aside: true, .. } => GeneratedKind::Auxiliary,
        call if Some(call.identity) == agent => GeneratedKind::Agent,
        _ => GeneratedKind::Auxiliary,
    };
    calls.iter().map(kind).collect()
}

/// How many sequences of ids the agent's calls form: a call that continues one that was continued already,
/// or none, or that was rendered anew, begins another.
pub(crate) fn branches(calls: &[Facts], kinds: &[GeneratedKind]) -> u32 {
    let mut continued = vec![false; calls.len()];
    let mut count = 0;
    for (call, kind) in calls.iter().zip(kinds) {
        if *kind != GeneratedKind::Agent {
            continue;
        }
        let parent = call.parent.filter(|_| call.appends);
        let continues = parent.and_then(|it| continued.get_mut(it));
        if continues.is_none_or(|it| std::mem::replace(it, true)) {
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use GeneratedKind::{Agent, Auxiliary, Discarded};

    use super::*;

    fn call(who: u8, parent: Option<usize>) -> Facts {
        let identity = [who; 32];
        Facts { identity, parent, appends: true, aside: false, is_answered: true, sampled: 1 }
    }

    #[test]
    fn the_longest_conversation_is_the_agents() {
        let calls = [
            call(1, None),
            call(0, None),
            call(0, Some(1)),
            call(1, None),
            call(1, None),
            call(0, Some(1)),
        ];
        let found = kinds(&calls);
        assert_eq!(found, [Auxiliary, Agent, Agent, Auxiliary, Auxiliary, Agent]);
        assert_eq!(branches(&calls, &found), 2);
        let forked = [call(0, None), Facts { appends: false, ..call(0, Some(0)) }];
        assert_eq!(branches(&forked, &kinds(&forked)), 2);
    }

    #[test]
    fn where_nothing_tells_them_apart_the_first_is_the_agent() {
        assert_eq!(kinds(&[call(1, None), call(0, None)]), [Agent, Auxiliary]);
        let talkative = Facts { sampled: 9, ..call(0, None) };
        assert_eq!(kinds(&[call(1, None), talkative]), [Auxiliary, Agent]);
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn what_is_aside_or_has_no_answer_is_not() {
        let aside = Facts { aside: true, sampled: 99, ..call(0, Some(0)) };
        let lost = Facts { is_answered: false, ..call(0, Some(0)) };
        assert_eq!(kinds(&[call(0, None), aside, lost]), [Agent, Auxiliary, Discarded]);
    }
}
