//! Why a request is refused.

use envmill_delivery::{
    AcknowledgeError, AttachError, BatchError, CheckpointError, UnknownJob, VersionError,
};
use tonic::{Code, Status};

/// Why a request was refused: a code of gRPC, and for people what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    pub(crate) fn no_job(id: &str) -> Self {
        Self::new(
            Code::NotFound,
            format!("there is no job `{id}`: it was never accepted here, or settled and forgotten"),
        )
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

impl From<UnknownJob> for Refusal {
    fn from(error: UnknownJob) -> Self {
        Self::new(Code::NotFound, error.to_string())
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        let code = match error {
            AttachError::UnknownJob(_) => Code::NotFound,
            AttachError::Rank { .. } => Code::InvalidArgument,
            AttachError::Cursor { .. } => Code::OutOfRange,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AcknowledgeError> for Refusal {
    fn from(error: AcknowledgeError) -> Self {
        let code = match error {
            AcknowledgeError::UnknownJob(_) => Code::NotFound,
            AcknowledgeError::NotSent { .. } => Code::OutOfRange,
            AcknowledgeError::Checkpoint(error) => return error.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<CheckpointError> for Refusal {
    fn from(error: CheckpointError) -> Self {
        let code = match error {
            CheckpointError::UnknownJob(_) | CheckpointError::Unknown(_) => Code::NotFound,
            CheckpointError::NotRetained | CheckpointError::OutOfOrder { .. } => {
                Code::FailedPrecondition
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::UnknownJob(_) | BatchError::NoShare { .. } => Code::NotFound,
            BatchError::NotInBatches | BatchError::NotAttached | BatchError::Ended => {
                Code::FailedPrecondition
            }
            BatchError::Skipped { .. } => Code::OutOfRange,
            BatchError::Indivisible { .. } | BatchError::Differs { .. } => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

impl From<VersionError> for Refusal {
    fn from(error: VersionError) -> Self {
        let code = match error {
            VersionError::UnknownJob(_) => Code::NotFound,
            VersionError::WentBack { .. } => Code::FailedPrecondition,
        };
        Self::new(code, error.to_string())
    }
}
