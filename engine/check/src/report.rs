//! What all checks came to.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::finding::{Finding, Severity};

/// The version of the form of reports.
const SCHEMA_VERSION: u32 = 1;

/// How many findings there are of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Promises that are broken.
    pub errors: usize,
    /// What users should know of.
    pub warnings: usize,
    /// What is worth knowing.
    pub notes: usize,
    /// What is well.
    pub passed: usize,
    /// What could not be looked at.
    pub not_checked: usize,
    /// What there is not.
    pub not_applicable: usize,
}

/// What all checks came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub schema_version: u32,
    /// The target as it was given.
    pub target: String,
    /// What stands between the checks and the environment, if that is this program's own.
    pub front: Option<String>,
    /// The seed that everything random follows from.
    pub seed: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether all checks that were asked for have run to their end.
    pub complete: bool,
    /// The checks that have not, by name.
    pub not_run: Vec<&'static str>,
    /// How many findings there are of each severity.
    pub totals: Totals,
    /// All findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(
        target: String,
        seed: u64,
        seconds: f64,
        not_run: Vec<&'static str>,
        findings: Vec<Finding>,
    ) -> Self {
        let count = |severity| findings.iter().filter(|it| it.severity == severity).count();
        let totals = Totals {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            notes: count(Severity::Note),
            passed: count(Severity::Passed),
            not_checked: count(Severity::NotChecked),
            not_applicable: count(Severity::NotApplicable),
        };
        let complete = not_run.is_empty();
        let schema_version = SCHEMA_VERSION;
        Self {
            schema_version,
            target,
            front: None,
            seed,
            seconds,
            complete,
            not_run,
            totals,
            findings,
        }
    }

    /// For people: a table of all findings and, below it, what was seen of those that matter.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let longest =
            self.findings.iter().map(|it| it.id.chars().count()).max().unwrap_or_default();
        for finding in &self.findings {
            let Finding { id, severity, title, .. } = finding;
            let _ = writeln!(text, "{:<14}  {id:<longest$}  {title}", severity.told());
        }
        let mut matter: Vec<&Finding> =
            self.findings.iter().filter(|it| it.severity <= Severity::Note).collect();
        matter.sort_by_key(|finding| finding.severity);
        for finding in matter {
            let Finding { id, severity, title, evidence, remedy, reproduce, .. } = finding;
            let _ = writeln!(text, "\n{} {id}: {title}", severity.told());
            for (name, what) in [("seen", evidence), ("remedy", remedy), ("again", reproduce)] {
                if !what.is_empty() {
                    let _ = writeln!(text, "  {name:<6}  {what}");
                }
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { errors, warnings, notes, passed, not_checked, not_applicable } = self.totals;
        f.write_str(&self.table())?;
        if let Some(front) = &self.front {
            writeln!(f, "\n{front}")?;
        }
        let counted =
            |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(
            f,
            "\n{}: {}, {}, {}; {passed} passed, {not_checked} not \
             checked, {not_applicable} not applicable; {:.1} s",
            self.target,
            counted(errors, "error"),
            counted(warnings, "warning"),
            counted(notes, "note"),
            self.seconds
        )?;
        if !self.complete {
            write!(f, "\ninterrupted; not run to the end: {}", self.not_run.join(", "))?;
        }
        Ok(())
    }
}
