//! Tests of what `envmill-protocol` promises to the outside: recorded frames, properties, records.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is not there fails the test that wants it"
)]

mod codec_failures;
mod codec_properties;
mod frames;
mod groups;
mod json_texts;
mod prompts;
mod recording;
mod records;
mod trajectories;
