//! What a trainer has received, held against the journal and against what it was promised.
//!
//! The trainer's log is lines of JSON, as `docs/service.md` describes them. `testing/python/audit.py`
//! looks for the same in the log alone, and shares nothing with this.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, BufRead},
    path::Path,
};

use envmill_delivery::{Kind, Number, Stage, StoredJob};
use envmill_store::{Medium, OpenError, Store};
use prost::Message as _;
use serde::Deserialize;

use crate::ledger::Description;

/// Findings of one kind that are told one by one.
const TOLD_MAX: usize = 20;

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The journal cannot be read. An engine that runs has it: end it first.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] io::Error),
    /// A line of it is none.
    #[error("line {line} of the log makes no sense: {source}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Jobs that the log speaks of.
    pub jobs: usize,
    /// Records that were received, each counted once.
    pub records: u64,
    /// What is wrong, for people; empty if every promise was kept.
    pub findings: Vec<String>,
}

/// One line of a log.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Received {
        job: String,
        number: u64,
        id: String,
        kind: String,
        digest: String,
        redelivered: bool,
    },
    Acknowledged {
        job: String,
        acknowledged: Vec<(u64, u64)>,
    },
    Rewound {
        job: String,
        rewound: u64,
    },
    Account {
        job: String,
        requested: u64,
        extra: u64,
    },
}

/// What a log says of one job.
#[derive(Debug, Default)]
struct Received {
    /// What has come under each number.
    numbers: BTreeMap<u64, (String, String)>,
    /// Numbers and digests of each id.
    ids: HashMap<String, (u64, String)>,
    acknowledged: BTreeSet<u64>,
    account: Option<u64>,
}

/// Holds a trainer's log against the journal in a store's file, or where there is none against itself.
///
/// # Errors
///
/// Either cannot be read.
pub fn audit(store: Option<&Path>, log: impl BufRead) -> Result<Audit, AuditError> {
    let stored = match store {
        Some(path) => Store::look(Medium::File(path.to_owned()))?,
        None => Vec::new(),
    };
    let mut findings = Vec::new();
    let received = read(log, &mut findings)?;
    for (job, its) in &received {
        lost(job, its, &mut findings);
    }
    for job in &stored {
        let description = Description::decode(job.description.clone()).unwrap_or_default();
        // A job that the log says nothing of is another trainer's.
        if let Some(its) = received.get(&description.id) {
            compare(&description.id, its, job, &mut findings);
        }
    }
    let records = received.values().map(|its| its.ids.len() as u64).sum();
    Ok(Audit { jobs: received.len(), records, findings })
}

fn read(
    log: impl BufRead,
    findings: &mut Vec<String>,
) -> Result<BTreeMap<String, Received>, AuditError> {
    let mut jobs = BTreeMap::<String, Received>::new();
    for (at, text) in log.split(b'\n').enumerate() {
        let (text, line) = (text?, at + 1);
        let parsed = match serde_json::from_slice(&text) {
            Ok(parsed) => parsed,
            // The trainer was killed while it wrote: whatever it was, it was not acknowledged.
            Err(error) if error.is_eof() => break,
            Err(source) => return Err(AuditError::Line { line, source }),
        };
        match parsed {
            Line::Received { job, number, id, kind, digest, redelivered } => {
                let its = jobs.entry(job.clone()).or_default();
                let mut find = |what: &str| {
                    findings.push(format!("line {line}: {job} {number} ({id}): {what}"));
                };
                its.receive(number, &id, &kind, digest, redelivered, &mut find);
            }
            Line::Acknowledged { job, acknowledged } => {
                let its = jobs.entry(job.clone()).or_default();
                for number in acknowledged.into_iter().flat_map(|(first, last)| first..=last) {
                    if !its.numbers.contains_key(&number) {
                        findings.push(format!(
                            "line {line}: {job} {number}: acknowledged and never received"
                        ));
                    }
                    its.acknowledged.insert(number);
                }
            }
            Line::Rewound { job, rewound } => {
                jobs.entry(job).or_default().acknowledged.split_off(&(rewound + 1));
            }
            Line::Account { job, requested, extra } => {
                jobs.entry(job).or_default().account = Some(requested + extra);
            }
        }
    }
    Ok(jobs)
}

impl Received {
    fn receive(
        &mut self,
        number: u64,
        id: &str,
        kind: &str,
        digest: String,
        redelivered: bool,
        find: &mut impl FnMut(&str),
    ) {
        match self.ids.get(id) {
            None => {
                self.ids.insert(id.to_owned(), (number, digest));
            }
            Some((before, _)) if *before != number => {
                find(&format!("delivered before as {before}"));
            }
            Some((_, before)) if *before != digest => find("another content than before"),
            Some(_) => {}
        }
        let what = (kind.to_owned(), id.to_owned());
        match self.numbers.insert(number, what.clone()) {
            None => {}
            Some(before) if before != what => {
                find(&format!("the number was {} {} before", before.0, before.1));
            }
            Some(_) if !redelivered => find("received before, and not marked as redelivered"),
            Some(_) => {}
        }
        if self.acknowledged.contains(&number) {
            find("acknowledged before");
        }
    }
}

/// What a log itself shows to be missing.
fn lost(job: &str, its: &Received, findings: &mut Vec<String>) {
    let last = its.numbers.keys().next_back().copied().unwrap_or_default();
    let missing = (1..=last).filter(|number| !its.numbers.contains_key(number));
    for number in missing.take(TOLD_MAX) {
        findings.push(format!("{job} {number}: never received"));
    }
    let Some(account) = its.account else { return };
    let episode = |index: u64| format!("{job}-{index:08}");
    let missing = (0..account).filter(|&index| !its.ids.contains_key(&episode(index)));
    for index in missing.take(TOLD_MAX) {
        findings.push(format!("{job}: episode {index} was never received"));
    }
}

/// What journal and log do not agree on.
fn compare(job: &str, its: &Received, stored: &StoredJob, findings: &mut Vec<String>) {
    let restored = &stored.restored;
    let last = its.numbers.keys().next_back().copied().unwrap_or_default();
    if last > restored.row.last_number {
        let known = restored.row.last_number;
        findings
            .push(format!("{job} {last}: received, and the journal knows of {known} deliveries"));
    }
    let mut owed = BTreeSet::new();
    for (_, item) in &restored.items {
        if item.kind == Kind::Trajectory {
            owed.insert(item.id);
        }
        let Stage::Issued(issue) = item.stage else { continue };
        let Number(number) = issue.number;
        if its.acknowledged.contains(&number) {
            findings.push(format!("{job} {number}: acknowledged, and the journal still owes it"));
        }
        let id = match item.kind {
            Kind::Trajectory => format!("{job}-{:08}", item.id),
            Kind::Group => format!("group-{}", item.id),
            Kind::End => "end".to_owned(),
        };
        if let Some((_, received)) = its.numbers.get(&number).filter(|(_, it)| *it != id) {
            findings.push(format!("{job} {number}: {received} was received, and it is {id}"));
        }
    }
    let gone = restored.ids[Kind::Trajectory as usize].iter().filter(|id| !owed.contains(id));
    let missing = gone.filter(|id| !its.ids.contains_key(&format!("{job}-{id:08}")));
    for id in missing.take(TOLD_MAX) {
        findings.push(format!("{job}: episode {id} is over with and was never received"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(lines: &[&str]) -> Vec<String> {
        audit(None, lines.join("\n").as_bytes()).unwrap().findings
    }

    fn received(number: u64, id: u64, digest: &str, redelivered: bool) -> String {
        format!(
            r#"{{"job":"a.1","number":{number},"id":"a.1-{id:08}","kind":"trajectory","digest":"{digest}","redelivered":{redelivered}}}"#
        )
    }

    const ACKNOWLEDGED: &str = r#"{"job":"a.1","acknowledged":[[1,2]]}"#;
    const ACCOUNT: &str = r#"{"job":"a.1","requested":2,"extra":0}"#;

    #[test]
    fn a_log_of_promises_kept_has_no_findings() {
        let (first, second) = (received(1, 1, "x", false), received(2, 0, "y", false));
        let again = received(2, 0, "y", true);
        assert_eq!(findings(&[&first, &second, &again, ACKNOWLEDGED, ACCOUNT]), [""; 0]);
        // Half a line is one that was being written.
        assert_eq!(findings(&[&first, &second, ACKNOWLEDGED, "{\"job\":\"a.1\",\"num"]), [""; 0]);
    }

    #[test]
    fn what_was_not_kept_is_found() {
        let (first, second) = (received(1, 1, "x", false), received(2, 0, "y", false));
        for (lines, expected) in [
            (vec![first.clone(), ACCOUNT.into()], "episode 0 was never received"),
            (vec![second.clone()], "a.1 1: never received"),
            (vec![first.clone(), received(2, 1, "x", false)], "delivered before as 1"),
            (vec![first.clone(), received(1, 1, "z", true)], "another content"),
            (vec![first.clone(), received(1, 0, "x", true)], "the number was"),
            (vec![first.clone(), first.clone()], "not marked as redelivered"),
            (
                vec![first.clone(), second, ACKNOWLEDGED.into(), received(1, 1, "x", true)],
                "acknowledged before",
            ),
            (vec![first, ACKNOWLEDGED.into()], "a.1 2: acknowledged and never received"),
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let found = findings(&lines);
            assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let error =
            audit(None, &b"{\"job\":\"a\",\"acknowledged\":[]}\nnonsense\n"[..]).unwrap_err();
        assert!(error.to_string().starts_with("line 2"), "{error}");
    }
}
