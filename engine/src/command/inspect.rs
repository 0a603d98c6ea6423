//! `envmill inspect`.

mod findings;

use std::{
    io::{BufWriter, IsTerminal as _, Stdout, Write},
    path::PathBuf,
};

use envmill_inspect::{
    About, Comparison, Episodes, Filter, Interval, Paint, RewardFilter, Show, Summary, TokenText,
    Version, escaped, json_line, list_json, list_line,
};

use super::{Host, signals};
use crate::{
    config::Settings,
    driver::Control,
    inspect::{
        Inputs, InspectError, Selection, SortKey, Tokenizer,
        convert::{Target, convert},
        diff::diff,
        replay::{self, replay},
    },
    progress::{Progress, say},
};

/// All is well.
const ALL_WELL: u8 = 0;
/// Something is other than recorded, or a file is damaged before its end.
const DIFFERS: u8 = 1;
/// Not all could be played again.
const NOT_PLAYED: u8 = 3;
/// Cut by Ctrl-C.
const CUT: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Files of records in any form, output directories of `envmill run`, `results.jsonl` of `openenv
    /// collect`, or directories with several of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    mode: Mode,

    #[command(flatten)]
    filters: Filters,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Show texts to their ends, and all findings.
    #[arg(long)]
    full: bool,

    /// With --show: a tokenizer.json, or a model's folder with one, to show tokens as text.
    #[arg(long, value_name = "FILE|DIR", requires = "show", conflicts_with = "json")]
    tokenizer: Option<PathBuf>,

    /// With --to: where to.
    #[arg(long, value_name = "FILE", requires = "to")]
    out: Option<PathBuf>,

    /// With --to: replace what is there.
    #[arg(long, requires = "to")]
    force: bool,

    #[command(flatten)]
    server: Server,

    /// With --replay or --diff: a place in observations (a JSON pointer such as /pid) that may differ.
    #[arg(long, value_name = "POINTER")]
    ignore: Vec<String>,
}

/// What is done with the records that the filters leave. Without any of these: a summary.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Mode {
    /// One line for each episode.
    #[arg(long)]
    list: bool,

    /// Show an episode turn by turn: the one with this number or id, or the first that the filters leave.
    #[arg(long, value_name = "N|ID", num_args = 0..=1, default_missing_value = "")]
    show: Option<String>,

    /// Write the records to --out in another form.
    #[arg(long, value_name = "jsonl|arrow|parquet|episode-record|training-trace")]
    to: Option<Target>,

    /// Play the recorded actions again, on a server or whatever else --env of `envmill run` takes, and
    /// tell what comes out differently.
    #[arg(long, value_name = "ENV")]
    replay: Option<String>,

    /// Compare with another recording of the same job, episode by episode.
    #[arg(long, value_name = "FILE|DIR")]
    diff: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Filters {
    /// Only episodes that ended so: completed, truncated, failed, cancelled, stale, filtered.
    #[arg(long, value_name = "END", value_delimiter = ',')]
    end: Vec<String>,

    /// Only episodes with this somewhere in the cause of their end, or in the failure's message.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,

    /// Only episodes with such a reward: '>0.5', '>=0.5', '<0', '=1', 0..1, scored or unscored.
    #[arg(long, value_name = "CONDITION", allow_hyphen_values = true)]
    reward: Option<RewardFilter>,

    /// Only episodes with so many steps: '>10', 5..20.
    #[arg(long, value_name = "CONDITION")]
    steps: Option<Interval>,

    /// Only episodes of this task.
    #[arg(long, value_name = "ID")]
    task: Vec<String>,

    /// Only episodes of this group.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    group: Vec<u64>,

    /// Only episodes with these numbers, or this id.
    #[arg(long, value_name = "N[,N-M]", value_delimiter = ',')]
    episode: Vec<Episodes>,

    /// Only episodes that were played on this server.
    #[arg(long, value_name = "URL")]
    server: Vec<String>,

    /// Only episodes with this seed.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    seed: Vec<u64>,

    /// Only episodes of which this version of the policy played some: STEP, or LINEAGE:STEP.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    policy_version: Vec<Version>,

    /// Only the first N of what is left.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Largest first.
    #[arg(long, value_name = "reward|steps|duration")]
    sort: Option<SortKey>,

    /// With --sort: smallest first.
    #[arg(long, requires = "sort")]
    reverse: bool,
}

/// How --replay reaches what it plays on; as the flags of `envmill run`.
#[derive(Debug, clap::Args)]
#[group(requires = "replay")]
struct Server {
    /// With --replay: the most sessions at one time. [default: 64]
    #[arg(long, value_name = "N")]
    sessions: Option<u32>,

    /// With --replay: the interpreter for Python environments. [default: python3]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,

    /// With --replay: directories in which modules are looked for first.
    #[arg(long, value_name = "DIR")]
    python_path: Vec<String>,

    /// With --replay: how sessions are spoken with: ws, mcp-http or harness.
    #[arg(long, value_name = "ws|mcp-http|harness")]
    transport: Option<String>,

    /// With --replay: where the environment says that an episode was cut. [default: what job.json says]
    #[arg(long, value_name = "PATH")]
    truncated_from: Option<String>,

    /// With --replay: certificates (PEM) to trust besides the web's own authorities.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// With --replay: a header for every request to a server.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// With --replay: the environment variable that holds a bearer token for the servers.
    #[arg(long, value_name = "VAR")]
    bearer_env: Option<String>,

    /// With --replay: the file that holds a bearer token for the servers, and nothing else.
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,

    /// With --replay: how long no server at all may answer. [default: 60000]
    #[arg(long, value_name = "MS")]
    no_server_timeout_ms: Option<u64>,
}

pub(super) fn run(arguments: Arguments, host: &Host) -> Result<u8, String> {
    // What is wrong with a file may be told in its own words.
    inspect(arguments, host).map_err(|error| escaped(&error).into_owned())
}

fn inspect(arguments: Arguments, host: &Host) -> Result<u8, String> {
    let Arguments { paths, mode, filters, json, full, tokenizer, out, force, server, ignore } =
        arguments;
    let told = |error: InspectError| error.to_string();
    let control = Control::new();
    let inputs = Inputs::find(&paths).map_err(told)?;
    let selection = filters.selection();
    selection.filter.check().map_err(|error| error.to_string())?;
    let comparison = Comparison { ignored: ignore, ..Comparison::default() };
    if let Some(env) = mode.replay {
        signals::pass_on(control.clone()).map_err(|error| error.to_string())?;
        let options = replay::Options {
            settings: server.settings(env, &inputs),
            comparison,
            program: host.program.clone(),
            python: host.python.clone(),
        };
        let mut progress = None;
        let replayed = replay(&inputs, &selection, options, &control, |look| {
            let all = look.core.counts().requested;
            progress.get_or_insert_with(|| Progress::new(all, json)).show(look);
        })
        .map_err(told)?;
        if let Some(progress) = progress {
            progress.finish();
        }
        let mut page = Page::new(json, full);
        page.replay(&replayed);
        if let Some(failure) = &replayed.failure {
            say(&format!("error: {failure}"));
        }
        return Ok(if control.interrupts() > 0 {
            CUT
        } else if replayed.differed > 0 {
            DIFFERS
        } else if replayed.not_played > 0 || replayed.failure.is_some() {
            NOT_PLAYED
        } else {
            damage(&replayed.about)
        });
    }
    signals::cut(control.clone()).map_err(|error| error.to_string())?;
    let is_interrupted = || control.interrupts() > 0;
    let mut page = Page::new(json, full);
    let mut code = ALL_WELL;
    let about = if let Some(target) = mode.to {
        let out = out.ok_or("--to: say where to with --out FILE")?;
        let converted =
            convert(&inputs, &selection, target, &out, force, &is_interrupted).map_err(told)?;
        if !converted.about.is_interrupted {
            page.converted(&converted, target, &out);
        }
        converted.about
    } else if let Some(other) = mode.diff {
        let others = Inputs::find(&[other]).map_err(told)?;
        let diff =
            diff(&inputs, &others, &selection, &comparison, &is_interrupted).map_err(told)?;
        page.diff(&diff);
        if diff.differed + diff.missing + diff.added > 0 {
            code = DIFFERS;
        }
        diff.about
    } else if let Some(episode) = mode.show {
        page.tokenizer = tokenizer.map(|path| Tokenizer::load(&path)).transpose().map_err(told)?;
        page.show(&inputs, selection, &episode, &is_interrupted)?
    } else if mode.list {
        let listed = |record| Ok(page.list(&record));
        selection.each(&inputs, &is_interrupted, listed).map_err(told)?
    } else {
        let mut summary = Summary::default();
        let mut about = selection
            .each(&inputs, &is_interrupted, |record| {
                summary.add(&record);
                Ok(true)
            })
            .map_err(told)?;
        inputs.surroundings(&mut about);
        page.summary(&summary, &about);
        page.flush();
        return Ok(if about.is_interrupted { CUT } else { damage(&about) });
    };
    page.flush();
    // The summary tells of this itself.
    for file in &about.files {
        if let Some(problem) = &file.problem {
            let text = format!("{}: {problem}; {} records before it", file.path, file.records);
            say(&escaped(&text));
        }
    }
    Ok(match (about.is_interrupted, code) {
        (true, _) => CUT,
        (false, ALL_WELL) => damage(&about),
        (false, code) => code,
    })
}

/// The exit status that files which do not read to their ends lead to.
fn damage(about: &About) -> u8 {
    let is_damaged = about.files.iter().any(|file| file.problem.is_some() && !file.is_torn);
    if is_damaged { DIFFERS } else { ALL_WELL }
}

impl Filters {
    fn selection(self) -> Selection {
        Selection {
            filter: Filter {
                ends: self.end,
                cause: self.cause,
                reward: self.reward,
                steps: self.steps,
                tasks: self.task,
                groups: self.group,
                episodes: self.episode,
                servers: self.server,
                seeds: self.seed,
                versions: self.policy_version,
            },
            limit: self.limit,
            sort: self.sort,
            reverse: self.reverse,
        }
    }
}

impl Server {
    fn settings(self, env: String, inputs: &Inputs) -> Settings {
        let recorded = || {
            let path = inputs.setting("truncated-from")?;
            path.as_str().map(str::to_owned)
        };
        Settings {
            env: vec![env],
            sessions: self.sessions,
            python: self.python,
            python_path: self.python_path,
            transport: self.transport,
            truncated_from: self.truncated_from.or_else(recorded),
            ca: self.ca,
            header: self.header,
            bearer_env: self.bearer_env,
            bearer_file: self.bearer_file,
            no_server_timeout_ms: self.no_server_timeout_ms,
            ..Settings::default()
        }
    }
}

/// Standard output. A reader that has gone away has seen enough.
struct Page {
    out: BufWriter<Stdout>,
    json: bool,
    full: bool,
    paint: Paint,
    tokenizer: Option<Tokenizer>,
    is_read: bool,
}

impl Page {
    fn new(json: bool, full: bool) -> Self {
        let stdout = std::io::stdout();
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        let paint = Paint { is_on: stdout.is_terminal() && !wants_none };
        let out = BufWriter::new(stdout);
        Self { out, json, full, paint, tokenizer: None, is_read: true }
    }

    /// Prints text as it is, and says whether somebody still reads.
    fn print(&mut self, text: &str) -> bool {
        self.is_read = self.is_read && self.out.write_all(text.as_bytes()).is_ok();
        self.is_read
    }

    fn line(&mut self, text: &str) -> bool {
        self.print(text) && self.print("\n")
    }

    fn flush(&mut self) {
        let _ = self.out.flush();
    }

    fn summary(&mut self, summary: &Summary, about: &About) {
        if self.json {
            self.line(&json_line(&summary.json(about)));
        } else {
            self.print(&summary.text(about, self.paint));
        }
    }

    fn list(&mut self, record: &envmill_protocol::Trajectory) -> bool {
        if self.json {
            self.line(&json_line(&list_json(record)))
        } else {
            self.line(&list_line(record, self.paint))
        }
    }

    fn show(
        &mut self,
        inputs: &Inputs,
        mut selection: Selection,
        episode: &str,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<About, String> {
        if !episode.is_empty() {
            let named: Episodes = episode.parse().map_err(|error| format!("--show: {error}"))?;
            selection.filter.episodes = vec![named];
        }
        selection.limit = selection.limit.or(Some(1));
        let mut shown = 0;
        let tokenizer = self.tokenizer.take();
        let show = Show {
            full: self.full,
            paint: self.paint,
            tokenizer: tokenizer.as_ref().map(|it| it as &dyn TokenText),
        };
        let about = selection.each(inputs, is_interrupted, |record| {
            shown += 1;
            if self.json {
                let mut line = Vec::new();
                envmill_protocol::record::write_json_line(&mut line, &record);
                // Raw texts stand as they came, but for what a terminal would act on.
                let text = String::from_utf8_lossy(&line);
                let value = serde_json::from_str(&text).map_or_else(
                    |_| escaped(text.trim_end()).into_owned(),
                    |value: serde_json::Value| json_line(&value),
                );
                return Ok(self.line(&value));
            }
            if shown > 1 {
                self.print("\n");
            }
            Ok(self.print(&show.text(&record)))
        });
        let about = about.map_err(|error| error.to_string())?;
        if shown == 0 && !about.is_interrupted {
            let what = if episode.is_empty() {
                "the filters leave no episode".to_owned()
            } else {
                format!("there is no episode {episode} that the filters leave")
            };
            return Err(format!("--show: {what}; --list tells which there are"));
        }
        Ok(about)
    }
}
