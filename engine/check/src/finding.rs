//! What a check says.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The environment breaks a promise: what is trained on it is wrong, or runs on it break.
    Error,
    /// It works, and costs something that its users should know of.
    Warning,
    /// Worth knowing.
    Note,
    /// It was looked at, and is well.
    Passed,
    /// It could not be looked at, for the reason that the evidence gives.
    NotChecked,
    /// There is nothing to look at.
    NotApplicable,
}

impl Severity {
    /// For people.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Passed => "passed",
            Self::NotChecked => "not checked",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One thing that was looked at, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that has looked.
    pub check: &'static str,
    /// What it is called: `check.what`. Stable, for those who look for it.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// In a sentence.
    pub title: String,
    /// What was seen.
    pub evidence: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
    /// A command that shows it again.
    pub reproduce: String,
}

/// The findings of one check while it runs.
#[derive(Debug)]
pub(crate) struct Sheet {
    check: &'static str,
    reproduce: String,
    findings: Vec<Finding>,
}

impl Sheet {
    pub(crate) const fn new(check: &'static str, reproduce: String) -> Self {
        Self { check, reproduce, findings: Vec::new() }
    }

    /// The check whose sheet this is.
    pub(crate) const fn check(&self) -> &'static str {
        self.check
    }

    /// Adds a finding; `id` is what comes behind the dot. The same finding is not added twice: the
    /// first evidence is enough.
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        id: &str,
        title: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let reproduce = self.reproduce.clone();
        self.add_with(severity, id, title, evidence, remedy, reproduce);
    }

    /// The same, with a command of its own.
    pub(crate) fn add_with(
        &mut self,
        severity: Severity,
        id: &str,
        title: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
        reproduce: String,
    ) {
        let id = format!("{}.{id}", self.check);
        if self.findings.iter().any(|finding| finding.id == id && finding.severity == severity) {
            return;
        }
        self.findings.push(Finding {
            check: self.check,
            id,
            severity,
            title: title.into(),
            evidence: evidence.into(),
            remedy: remedy.into(),
            reproduce,
        });
    }

    /// It was looked at, and is well.
    pub(crate) fn pass(&mut self, id: &str, title: impl Into<String>, evidence: impl Into<String>) {
        self.add(Severity::Passed, id, title, evidence, "");
    }

    /// It could not be looked at.
    pub(crate) fn unchecked(&mut self, id: &str, title: impl Into<String>, why: impl Into<String>) {
        self.add(Severity::NotChecked, id, title, why, "");
    }

    /// There is nothing to look at.
    pub(crate) fn absent(&mut self, id: &str, title: impl Into<String>, why: impl Into<String>) {
        self.add(Severity::NotApplicable, id, title, why, "");
    }

    /// Whether something was found already that matters at least so much.
    pub(crate) fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity <= severity)
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
