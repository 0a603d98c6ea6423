//! OpenEnv's wire protocol.
