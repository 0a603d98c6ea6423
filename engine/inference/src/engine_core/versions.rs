//! The versions of vLLM whose messages this channel knows.
//!
//! `EngineCore` is not a public interface: fields of its positional messages were inserted in the middle
//! until 0.26. So a version is only talked to if somebody has run it, and its frames are in the tests.

/// Where what is needed stands in the positional messages of a version. Fields behind the known ones are
/// skipped: since 0.29, new ones are only appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Major and minor.
    pub(super) version: (u16, u16),
    /// How many fields a request has there. Those behind the ninth have defaults and are not sent.
    pub(super) request_fields: usize,
    /// How many an output has.
    pub(super) output_fields: usize,
    /// How many a step has.
    pub(super) step_fields: usize,
    pub(super) output: OutputPlaces,
    pub(super) step: StepPlaces,
}

/// Of an output, behind the request's id, the tokens and the log-probabilities.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutputPlaces {
    pub(super) finish: usize,
    pub(super) stop: usize,
    pub(super) events: usize,
    pub(super) prefill: usize,
}

/// Of a step, behind the engine's index and the outputs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StepPlaces {
    pub(super) stats: usize,
    pub(super) utility: usize,
    pub(super) weight_version: usize,
}

const OUTPUT: OutputPlaces = OutputPlaces { finish: 5, stop: 6, events: 7, prefill: 11 };
const STEP: StepPlaces = StepPlaces { stats: 2, utility: 4, weight_version: 8 };

/// All of them.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout {
        version: (0, 32),
        request_fields: 22,
        output_fields: 18,
        step_fields: 9,
        output: OUTPUT,
        step: STEP,
    },
    Layout {
        version: (0, 33),
        request_fields: 22,
        output_fields: 19,
        step_fields: 9,
        output: OUTPUT,
        step: STEP,
    },
];

/// The layout of a version, as the engine writes it: `0.32.0`, `0.33.1+cpu`, `0.33.0rc1`.
pub(super) fn layout(version: &str) -> Option<&'static Layout> {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    LAYOUTS.iter().find(|it| it.version == (major, minor))
}

/// What to say where there is none.
pub(super) fn unknown(version: &str) -> String {
    let version: String = version.chars().take(64).collect();
    let known: Vec<_> =
        LAYOUTS.iter().map(|it| format!("{}.{}", it.version.0, it.version.1)).collect();
    format!(
        "vLLM {version} is not among the versions whose EngineCore messages are known here ({}); \
         reach it over HTTP or gRPC, or install one of these",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_by_their_first_two_numbers() {
        for known in ["0.32.0", "0.33.1+cpu", "0.33.0rc1", "0.32.1.dev3+gabc"] {
            assert!(layout(known).is_some(), "{known}");
        }
        for unknown in ["0.31.9", "0.34.0", "1.32.0", "", "dev", "0", "0.x.1"] {
            assert!(layout(unknown).is_none(), "{unknown}");
        }
        let told = unknown("0.31.0");
        assert!(told.contains("0.31.0") && told.contains("HTTP"), "{told}");
    }

    #[test]
    fn nothing_needed_stands_behind_what_a_version_has() {
        for it in LAYOUTS {
            assert!(it.request_fields >= super::super::encode::FIELDS);
            assert!(it.output.finish.max(it.output.stop).max(it.output.prefill) < it.output_fields);
            assert!(
                it.step.stats.max(it.step.utility).max(it.step.weight_version) < it.step_fields
            );
        }
    }
}
