//! Every setting of a run, as written.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::reuse::Reuse;

/// Each field is a flag of `envmill run` and a key of the configuration file; `None` or empty where
/// it was not given. Times are milliseconds, and 0 lets them run without a limit.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// What is played: the URL of a server; native:NAME[?parameter=value&...] for an environment of our
    /// own; openenv-class:module:Class for an OpenEnv class, or python:gymnasium/ID (or
    /// python:module:factory) for a Gymnasium environment, in Python processes; or serve: before one of
    /// these for an embedded server of it. URLs and servers, repeated or separated by commas, form one
    /// pool and must serve the same environment. [default: native:cartpole]
    #[arg(long, value_name = "ENV")]
    #[serde(deserialize_with = "one_or_many")]
    pub env: Vec<String>,

    /// A command that starts a server on the port put in for {port}. It is started, waited for,
    /// watched and restarted, e.g. "uvicorn app:app --port {port}".
    #[arg(long, value_name = "CMD")]
    pub serve: Option<String>,

    /// The interpreter for openenv-class: and python: environments. [default: python3]
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,

    /// Directories in which modules of openenv-class: and python: environments are looked for first,
    /// before the current one.
    #[arg(long, value_name = "DIR")]
    #[serde(deserialize_with = "one_or_many")]
    pub python_path: Vec<String>,

    /// How many servers to start of each serve:NAME and of --serve, or worker processes of a Python
    /// environment. [default: 1; a process for each core]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,

    /// The most sessions at one time. [default: 64]
    #[arg(long, value_name = "N")]
    pub sessions: Option<u32>,

    /// How many episodes to play. [default: 1000]
    #[arg(long, value_name = "N")]
    pub episodes: Option<u64>,

    /// How many groups to play: --samples episodes each, reset with the same seed. [default:
    /// episodes / samples]
    #[arg(long, value_name = "N")]
    pub groups: Option<u64>,

    /// The episodes of each group; group i is reset with the seed SEED + i, and each group gets a
    /// record in groups.jsonl. [default: no groups]
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,

    /// Members started in each group beyond its samples. [default: 0]
    #[arg(long, value_name = "N")]
    pub oversample: Option<u32>,

    /// With so many members that completed or were truncated a group is complete, and the rest is
    /// cancelled. [default: as many as --samples]
    #[arg(long, value_name = "K")]
    pub complete_at: Option<u32>,

    /// Drops groups in which all rewards are the same. [default: none]
    #[arg(long, value_name = "none|zero-variance")]
    pub group_filter: Option<String>,

    /// The most groups played in place of dropped ones. [default: 0]
    #[arg(long, value_name = "N")]
    pub refill_max: Option<u32>,

    /// What of a group has not ended by then, from its first member's start, is cancelled.
    /// [default: no limit]
    #[arg(long, value_name = "MS")]
    pub group_deadline_ms: Option<u64>,

    /// Give members that take much longer than the others a second attempt beside the first; the
    /// faster one counts.
    #[arg(long)]
    pub duplicate_stragglers: bool,

    /// Whether the members of a group are spread over servers or kept on one, where there is room.
    /// [default: any]
    #[arg(long, value_name = "any|spread|together")]
    pub group_placement: Option<String>,

    /// What becomes of an episode whose environment raised an exception in a step. [default: fail]
    #[arg(long, value_name = "fail|retry|truncate")]
    pub on_env_error: Option<String>,

    /// Retries and duplicates that there may be, in percent of the attempts, for the job and for each
    /// server; as many as there are sessions are always allowed. [default: 10]
    #[arg(long, value_name = "PERCENT")]
    pub retry_budget: Option<u32>,

    /// Steps may be taken twice without harm, so that --production need not keep from retrying.
    #[arg(long)]
    pub idempotent: bool,

    /// The servers of a pool of three or more that may be kept from new sessions at one time because
    /// they fail or dawdle unlike the rest; 0 turns that off. [default: 34]
    #[arg(long, value_name = "PERCENT")]
    pub ejected_percent_max: Option<u32>,

    /// An episode is cut after this many steps and recorded as truncated. [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,

    /// Memory that what is played of one episode may take; beyond it, it is cut and recorded as
    /// truncated. A group begins once so much is free for each of its members. [default: no limit]
    #[arg(long, value_name = "BYTES")]
    pub episode_bytes_max: Option<u64>,

    /// Episode i is reset with the seed SEED + i. [default: 0]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,

    /// Send no seed with the reset, for environments that refuse the key.
    #[arg(long)]
    pub no_seed: bool,

    /// Who plays: random (valid actions from the server's schema), constant:JSON, replay:FILE
    /// (the actions of recorded episodes; what comes out differently is in differences.jsonl), or a
    /// language model: vllm:URL (over the fastest channel that it offers on this host), vllm-http:URL,
    /// vllm-grpc:URL, vllm-core:PORT, vllm-memory:SOCKET or (text only) openai:MODEL@URL, further replicas
    /// behind commas.
    /// [default: random]
    #[arg(long, value_name = "random|constant:JSON|replay:FILE|vllm:URL")]
    pub policy: Option<String>,

    /// How a language model plays (TOML): its system message, how observations are told, how its words
    /// become actions, sampling, limits. Without it, its words go into the one field of text of the action.
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,

    /// Tasks, one a row: JSON lines, a JSON array or Parquet, each row the reset parameters of an
    /// episode. They are drawn without replacement, in an order that follows from the seed.
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,

    /// Tasks of the server's own: a split of its Task API, named as the server names them. Drawn as those
    /// of --tasks are.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,

    /// Instead of --episodes or --groups: so many rounds of the tasks. With --samples each play of a task is
    /// a group.
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,

    /// The key of a row of --tasks (the column) that holds its weight, which is how often it is played in a
    /// round: 0 to 1000. A row without it has the weight 1.
    #[arg(long, value_name = "KEY")]
    pub weight_key: Option<String>,

    /// Weights of single tasks by their names, which win over those in rows. In a file a table:
    /// weights = { NAME = WEIGHT }.
    #[arg(long, value_name = "NAME=WEIGHT")]
    #[serde(deserialize_with = "weights")]
    pub weights: Vec<String>,

    /// Visits tasks less whose groups do not vary: half as often after so many in a row, a quarter as often
    /// after as many more. With tasks and --samples of at least 2. [default: as often as they weigh]
    #[arg(long, value_name = "GROUPS")]
    pub revisit_after: Option<u32>,

    /// With --revisit-after: but at least once where its weight would have a task visited so many times.
    /// At most 64. [default: 8]
    #[arg(long, value_name = "N")]
    pub revisit_at_least_one_in: Option<u32>,

    /// Who says what episodes were worth, in place of their environment: TARGET is module:function of Python,
    /// or the URL of a server. Behind commas follow weight=NUMBER, which the rewards of several are multiplied by
    /// before they are added, group=true for whole groups, and timeout-ms, retries, batch-max, in-flight-max,
    /// processes or connections. What else there is, a file says: --scorers. [default: the environment]
    #[arg(long, value_name = "NAME=TARGET")]
    #[serde(deserialize_with = "one_or_many")]
    pub scorer: Vec<String>,

    /// A file (TOML) of scorers: tables [scorers.NAME] as in the configuration of a service, all of which
    /// judge, beside those of --scorer.
    #[arg(long, value_name = "FILE")]
    pub scorers: Option<PathBuf>,

    /// The form of the records: JSON lines, an Arrow IPC stream, or Parquet that is made from such a
    /// stream at the end. [default: jsonl]
    #[arg(long, value_name = "jsonl|arrow|parquet")]
    pub format: Option<String>,

    /// Also leave the episodes as OpenEnv's EpisodeRecord, in results.jsonl, as openenv collect does.
    #[arg(long)]
    pub episode_records: bool,

    /// Go on with the job that --out holds the beginning of: play what has no record yet. Begins it
    /// where there is none.
    #[arg(long)]
    pub resume: bool,

    /// Where trajectories.jsonl, job.json and the servers' logs go.
    /// [default: trajectories/DATE-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace the trajectories that --out already holds.
    #[arg(long)]
    pub overwrite: bool,

    /// The job's name, which begins every trajectory's id. [default: run-DATE-TIME]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Print one JSON object at the end, as the last line on standard output.
    #[arg(long)]
    pub json: bool,

    /// Making a connection, up to the WebSocket upgrade. [default: 10000]
    #[arg(long, value_name = "MS")]
    pub connect_timeout_ms: Option<u64>,

    /// The first reset of a session, in which many servers build the environment. [default: 120000]
    #[arg(long, value_name = "MS")]
    pub first_reset_timeout_ms: Option<u64>,

    /// A later reset. [default: 60000]
    #[arg(long, value_name = "MS")]
    pub reset_timeout_ms: Option<u64>,

    /// A step. [default: 60000]
    #[arg(long, value_name = "MS")]
    pub step_timeout_ms: Option<u64>,

    /// An attempt at an episode; past it the episode is recorded as truncated. [default: no limit]
    #[arg(long, value_name = "MS")]
    pub episode_timeout_ms: Option<u64>,

    /// The whole job; past it what is unfinished is recorded as cancelled. [default: no limit]
    #[arg(long, value_name = "MS")]
    pub job_timeout_ms: Option<u64>,

    /// How long no server at all may answer before waiting episodes fail. [default: 60000]
    #[arg(long, value_name = "MS")]
    pub no_server_timeout_ms: Option<u64>,

    /// How long a server that is started here may take until it answers /health.
    /// [default: 60000]
    #[arg(long, value_name = "MS")]
    pub start_timeout_ms: Option<u64>,

    /// How many episodes one session plays. [default: 32]
    #[arg(long, value_name = "never|N|unlimited")]
    pub session_reuse: Option<Reuse>,

    /// The most attempts at one episode, the first included. [default: 3]
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,

    /// Where the environment says that an episode was cut rather than ended, e.g.
    /// metadata.truncated. [default: recorded as "terminated (unmapped)"]
    #[arg(long, value_name = "PATH")]
    pub truncated_from: Option<String>,

    /// Certificates (PEM) to trust besides the web's own authorities.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A header for every request to a server, e.g. "X-Team: rl". Values are never logged.
    #[arg(long, value_name = "NAME: VALUE")]
    #[serde(deserialize_with = "one_or_many")]
    pub header: Vec<String>,

    /// The environment variable that holds a bearer token for the servers.
    #[arg(long, value_name = "VAR")]
    pub bearer_env: Option<String>,

    /// The file that holds a bearer token for the servers, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub bearer_file: Option<PathBuf>,

    /// What to do when a server turns out to serve another environment than before.
    /// [default: stop]
    #[arg(long, value_name = "stop|mark")]
    pub on_fingerprint_change: Option<String>,

    /// Parameters for every reset: one JSON object.
    #[arg(long, value_name = "JSON")]
    pub reset_parameters: Option<String>,

    /// The servers run in production mode: no session is used for a second episode, and nothing is
    /// tried again once a reset or a step has been sent.
    #[arg(long)]
    pub production: bool,

    /// How sessions are spoken with: ws (resets and steps), mcp-http (tools, by POST /mcp) or harness
    /// (an agent that the server runs, in production mode). [default: ws]
    #[arg(long, value_name = "ws|mcp-http|harness")]
    pub transport: Option<String>,

    /// The ids of sessions to attach to instead of making new ones, one for each episode.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub attach: Vec<String>,

    /// After how long the servers give idle sessions up, if they do: what comes from a session that
    /// was idle for longer is not trusted, and the episode is played again. [default: never]
    #[arg(long, value_name = "MS")]
    pub session_timeout_ms: Option<u64>,

    /// The largest message taken from a server, in bytes. [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    pub message_bytes_max: Option<usize>,

    /// Memory that the steps of all episodes under way may take together. Beyond it the largest are cut
    /// and recorded as truncated. [default: half of the machine's]
    #[arg(long, value_name = "MIB")]
    pub episodes_mib_max: Option<u64>,

    /// Ping silent sessions this often, for networks that cut silent connections.
    /// [default: never]
    #[arg(long, value_name = "MS")]
    pub ping_ms: Option<u64>,

    /// The longest that answers are left to gather while many are outstanding, which saves CPU for a
    /// delay of a few per cent; 0 for never. [default: 5]
    #[arg(long, value_name = "MS")]
    pub gather_ms: Option<u64>,

    /// Local addresses to connect from, in turn. Each gives about 28,000 connections more.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub source_address: Vec<String>,

    /// Write every input of the scheduler to this file, for `envmill replay-core`.
    #[arg(long, value_name = "FILE")]
    pub flight_recorder: Option<PathBuf>,

    /// The largest flight recording; beyond it the run goes on unrecorded. [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    pub flight_recorder_bytes_max: Option<u64>,

    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,
}

impl Settings {
    /// These settings, and those of `below` where these are not given.
    #[must_use]
    pub fn over(self, mut below: Self) -> Self {
        // Two settings for one thing: whoever gives one of them means that one.
        if self.bearer_env.is_some() || self.bearer_file.is_some() {
            (below.bearer_env, below.bearer_file) = (None, None);
        }
        macro_rules! merge {
            (first: $($first:ident)*; any: $($any:ident)*; list: $($list:ident)*) => {
                Self {
                    $($first: self.$first.or(below.$first),)*
                    $($any: self.$any || below.$any,)*
                    $($list: if self.$list.is_empty() { below.$list } else { self.$list },)*
                }
            };
        }
        merge! {
            first:
                format tasks split epochs weight_key revisit_after revisit_at_least_one_in serve python replicas sessions episodes max_steps episode_bytes_max seed policy agent out name connect_timeout_ms
                first_reset_timeout_ms reset_timeout_ms step_timeout_ms episode_timeout_ms
                job_timeout_ms no_server_timeout_ms start_timeout_ms session_reuse attempts
                truncated_from ca bearer_env bearer_file on_fingerprint_change reset_parameters
                message_bytes_max episodes_mib_max ping_ms gather_ms transport session_timeout_ms
                flight_recorder flight_recorder_bytes_max groups samples oversample complete_at
                group_filter refill_max group_deadline_ms group_placement on_env_error retry_budget
                ejected_percent_max scorers;
            any: resume episode_records no_seed overwrite json production quiet
                duplicate_stragglers idempotent;
            list: env header source_address attach python_path weights scorer
        }
    }

    /// The names of all settings.
    #[must_use]
    pub fn names() -> Vec<String> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("settings"));
        command.get_arguments().filter_map(clap::Arg::get_long).map(String::from).collect()
    }
}

/// A list, or one value instead of a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> serde::de::Visitor<'de> for OneOrMany {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.into()])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut many: A,
        ) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = many.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}

/// Weights by name as a table, or as texts like those of the flag.
fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Weights;
    impl<'de> serde::de::Visitor<'de> for Weights {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a table of weights by the names of tasks")
        }

        fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Self::Value, E> {
            Ok(vec![one.into()])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut many: A,
        ) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = many.next_element()? {
                values.push(value);
            }
            Ok(values)
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut table: A,
        ) -> Result<Self::Value, A::Error> {
            let mut values = Vec::new();
            while let Some((name, weight)) = table.next_entry::<String, f64>()? {
                values.push(format!("{name}={weight}"));
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(Weights)
}
