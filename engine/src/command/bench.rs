//! `envmill bench`.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use envmill_bench::{
    Arrivals, SweepOptions, compare, page, peer,
    report::{Report, Settings as Measured, Stop},
    table,
};
use serde_json::{Value, json};

use super::{
    Host,
    servers::{ServerFlags, hidden},
};
use crate::{
    bench::{self, BenchOptions, BenchTarget, News},
    config::{RunOptions, Settings},
    driver::Control,
    policy::PolicySpec,
    progress::{Showing, say},
};

/// Everything was measured.
const ALL_WELL: u8 = 0;
/// Some target could not be measured, or nothing of it went well.
const SOME_FAILED: u8 = 3;
/// The report could not be written.
const NOT_WRITTEN: u8 = 4;
/// Cut by a second Ctrl-C.
const CUT: u8 = 130;

/// The largest number of sessions, where nothing is said and descriptors allow it.
const SESSIONS_MAX: u32 = 1024;
/// Descriptors kept free for files, servers' output and the like.
const DESCRIPTORS_APART: u64 = 64;
/// An answer is waited for so long where nothing is said, in milliseconds.
const STEP_TIMEOUT_MS: u64 = 30_000;
const FIRST_RESET_TIMEOUT_MS: u64 = 60_000;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is measured, one after another: the URL of a server; native:NAME, python:NAME or openenv-class:NAME
    /// for an environment without one; serve: before one of these for an embedded server of it.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,

    /// One more target: a command that starts a server on the port put in for {port}, e.g. "uvicorn app:app
    /// --port {port}". May be given several times.
    #[arg(long, value_name = "CMD")]
    serve: Vec<String>,

    /// The largest number of sessions: 1, 2, 4 and so on are measured up to this. [default: 1024, or as many as
    /// descriptors allow]
    #[arg(long, value_name = "N")]
    max: Option<u32>,

    /// The numbers of sessions to measure, instead.
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with = "max")]
    sessions: Vec<u32>,

    /// End the sweep once three points on end bring no more steps.
    #[arg(long)]
    until_saturated: bool,

    /// An open loop: so many steps a second are due over all sessions, whether the target keeps up or not, and
    /// latency counts from when they were due. [default: a closed loop]
    #[arg(long, value_name = "STEPS_PER_S")]
    rate: Option<f64>,

    /// How an open loop's steps are spread over time: poisson or uniform.
    #[arg(long, value_name = "poisson|uniform", default_value = "poisson")]
    arrivals: String,

    /// At each point, seconds that count.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    measure_s: f64,

    /// At each point, seconds of steps before anything counts.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    warm_up_s: f64,

    /// How long the opening of all sessions of a point may take; the rest has failed then.
    #[arg(long, value_name = "S", default_value_t = 120.0)]
    opening_s: f64,

    /// Ask for all sessions of a point at once, rather than a few at a time.
    #[arg(long)]
    connect_storm: bool,

    /// Who acts: random (valid actions from the schema) or constant:JSON. [default: random]
    #[arg(long, value_name = "random|constant:JSON")]
    policy: Option<String>,

    /// Parameters for every reset: one JSON object.
    #[arg(long, value_name = "JSON")]
    reset_parameters: Option<String>,

    /// An episode is left after this many steps. [default: no limit]
    #[arg(long, value_name = "N")]
    max_steps: Option<u32>,

    /// Actions, seeds of resets and the times of an open loop follow from it.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,

    /// Send no seed with resets, for environments that refuse the key.
    #[arg(long)]
    no_seed: bool,

    /// The process that serves the target, with its descendants, where it cannot be found by its port.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// How many processes, or servers, are started of each target that is started.
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,

    /// The interpreter for python: and openenv-class: targets, and for --peer. [default: python3]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,

    /// Directories in which their modules are looked for first.
    #[arg(long, value_name = "DIR")]
    python_path: Vec<String>,

    #[command(flatten)]
    servers: ServerFlags,

    /// How long a connection may take. [default: 10000]
    #[arg(long, value_name = "MS")]
    connect_timeout_ms: Option<u64>,

    /// How long the first reset of a session may take. [default: 60000]
    #[arg(long, value_name = "MS")]
    first_reset_timeout_ms: Option<u64>,

    /// How long a later reset may take. [default: 30000]
    #[arg(long, value_name = "MS")]
    reset_timeout_ms: Option<u64>,

    /// How long a step may take. [default: 30000]
    #[arg(long, value_name = "MS")]
    step_timeout_ms: Option<u64>,

    /// How long a server that is started may take until it answers. [default: 60000]
    #[arg(long, value_name = "MS")]
    start_timeout_ms: Option<u64>,

    /// The longest that answers are left to gather while many are outstanding, which saves CPU of the client and
    /// is a part of the latency then. [default: 0]
    #[arg(long, value_name = "MS", default_value_t = 0)]
    gather_ms: u64,

    /// Measure with another client, too, at the same numbers of sessions: openenv-client, the stock Python client,
    /// which --python must have.
    #[arg(long, value_name = "openenv-client")]
    peer: Option<String>,

    /// Compare two reports, and measure nothing.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], exclusive = false)]
    compare: Vec<PathBuf>,

    /// Write the report to this file as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the report to this file as a page (HTML) with plots, which needs no network; - for standard output.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments, host: &Host) -> Result<u8, String> {
    if let [before, after] = arguments.compare.as_slice() {
        return compared(before, after, arguments);
    }
    if [&arguments.json, &arguments.html].iter().all(|it| it.as_deref() == Some(Path::new("-"))) {
        return Err("--json - and --html -: only one of them can go to standard output".into());
    }
    let options = options(arguments, host)?;
    let control = Control::new();
    super::signals::pass_on_to_bench(control.clone()).map_err(|error| error.to_string())?;
    let mut showing = Showing::new(arguments.quiet);
    let report = bench::run(&options, &control, |news| show(&mut showing, &news));
    showing.clear();
    let written = write(&report, arguments);
    if let Err(problem) = &written {
        say(&format!("error: {problem}"));
    }
    Ok(if control.interrupts() > 1 {
        CUT
    } else if written.is_err() {
        NOT_WRITTEN
    } else if report.targets.iter().any(is_bad) {
        SOME_FAILED
    } else {
        ALL_WELL
    })
}

/// Whether nothing was found of a target: it could not be measured, or not one number of sessions went well.
fn is_bad(target: &envmill_bench::report::Target) -> bool {
    target.error.is_some()
        || target.peers.iter().any(|peer| peer.error.is_some())
        || (target.largest_95.is_none() && target.stop != Stop::Interrupted)
}

fn compared(before: &Path, after: &Path, arguments: &Arguments) -> Result<u8, String> {
    if !arguments.targets.is_empty() || !arguments.serve.is_empty() {
        return Err("--compare measures nothing: give it without a target".into());
    }
    if arguments.html.is_some() {
        return Err("--compare has no page: --html is for what is measured".into());
    }
    let read = |path: &Path| {
        let text =
            fs::read(path).map_err(|error| format!("--compare {}: {error}", path.display()))?;
        compare::read(&text).map_err(|error| format!("--compare {}: {error}", path.display()))
    };
    let comparison = compare::compare(&read(before)?, &read(after)?);
    let json = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
    match &arguments.json {
        Some(path) => put(path, &json)?,
        None => put(Path::new("-"), &compare::text(&comparison))?,
    }
    Ok(ALL_WELL)
}

fn write(report: &Report, arguments: &Arguments) -> Result<(), String> {
    let json = || serde_json::to_string_pretty(report).map_err(|error| error.to_string());
    let is_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    // One that cannot be written does not cost the others.
    let page = arguments.html.as_ref().map(|path| put(path, &page::render(report)));
    let json = arguments.json.as_ref().map(|path| put(path, &json()?));
    if !is_stdout(&arguments.html) && arguments.json.is_none() {
        put(Path::new("-"), &table::text(report))?;
    }
    page.unwrap_or(Ok(())).and(json.unwrap_or(Ok(())))
}

/// Writes a text to a file, or with `-` to standard output.
fn put(path: &Path, text: &str) -> Result<(), String> {
    if path == Path::new("-") {
        // A reader that has gone away does not change what was measured.
        let _ = writeln!(std::io::stdout(), "{text}");
        return Ok(());
    }
    fs::write(path, format!("{text}\n"))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn show(showing: &mut Showing, news: &News<'_>) {
    match news {
        News::Begins(target) => showing.line(&target.name),
        News::Goes(look) => {
            let refused = if look.refused > 0 {
                format!(", {} refused", look.refused)
            } else {
                String::new()
            };
            showing.moves(&format!(
                "{} of {} sessions{refused}: {}",
                look.open, look.asked, look.stage
            ));
        }
        News::Measured(point, words) => {
            let sessions = &point.sessions;
            let mut line = format!(
                "{:>6} sessions: {:.0} steps/s, step {} ms median {} p99",
                sessions.asked,
                point.steps_per_s,
                table::ms(point.latency_ms.step.p50),
                table::ms(point.latency_ms.step.p99)
            );
            for (what, count) in [
                ("refused", sessions.refused),
                ("failed", sessions.failed),
                ("lost", sessions.lost),
            ] {
                if count > 0 {
                    line.push_str(&format!(", {count} {what}"));
                }
            }
            showing.line(&line);
            for (cause, words) in *words {
                showing.line(&format!("       {cause}: {words}"));
            }
        }
        News::Peer(name) => showing.line(&format!("  peer {name}")),
        News::Fails(error) => showing.line(&format!("  error: {error}")),
    }
}

fn options(arguments: &Arguments, host: &Host) -> Result<BenchOptions, String> {
    let seconds = |name: &str, given: f64, least: f64| {
        if given.is_finite() && (least..=86_400.0).contains(&given) {
            Ok(Duration::from_secs_f64(given))
        } else {
            Err(format!("--{name}: write seconds from {least} to 86400, not {given}"))
        }
    };
    let warm_up = seconds("warm-up-s", arguments.warm_up_s, 0.0)?;
    let measure = seconds("measure-s", arguments.measure_s, 0.05)?;
    let opening = seconds("opening-s", arguments.opening_s, 0.1)?;
    let arrivals = Arrivals::ALL.into_iter().find(|it| it.name() == arguments.arrivals);
    let arrivals = arrivals.ok_or_else(|| {
        format!("--arrivals: write poisson or uniform, not `{}`", arguments.arrivals)
    })?;
    if let Some(rate) = arguments.rate
        && !(rate.is_finite() && (0.001..=1e7).contains(&rate))
    {
        return Err(format!("--rate: write steps a second from 0.001 to 10000000, not {rate}"));
    }
    if let Some(name) = arguments.peer.as_deref().filter(|name| !peer::NAMES.contains(name)) {
        return Err(format!("--peer: there is no peer `{name}`; write openenv-client"));
    }
    let sweep = sweep(arguments)?;
    let targets = targets(arguments, host, sweep.max)?;
    let first = targets.first().map(|target| &target.run);
    let policy = first.map(|run| run.policy.to_string()).unwrap_or_default();
    let settings = Measured {
        seed: arguments.seed,
        policy,
        warm_up_s: arguments.warm_up_s,
        measure_s: arguments.measure_s,
        max_steps: arguments.max_steps,
        other: other(arguments),
    };
    Ok(BenchOptions {
        targets,
        sweep,
        open: arguments.rate.map(|rate| (rate, arrivals)),
        warm_up,
        measure,
        opening,
        storm: arguments.connect_storm,
        server_pid: arguments.server_pid,
        peer: arguments.peer.is_some(),
        peer_python: arguments
            .python
            .clone()
            .or_else(|| host.python.clone())
            .unwrap_or_else(|| "python3".into()),
        command: command(),
        settings,
    })
}

fn sweep(arguments: &Arguments) -> Result<SweepOptions, String> {
    let limit = envmill_openenv::raise_descriptor_limit().map_err(|error| error.to_string())?;
    let room = u32::try_from(limit.saturating_sub(DESCRIPTORS_APART)).unwrap_or(u32::MAX).max(1);
    let sessions = (!arguments.sessions.is_empty()).then(|| arguments.sessions.clone());
    let most = arguments.sessions.iter().copied().max();
    let name = if sessions.is_some() { "sessions" } else { "max" };
    let max = arguments.max.or(most).unwrap_or(SESSIONS_MAX.min(room));
    if max == 0 || arguments.sessions.contains(&0) {
        return Err(format!("--{name}: it must be at least 1"));
    }
    if max > room {
        return Err(format!(
            "--{name}: {max} sessions need about {} file descriptors and this process may have {limit}: raise the \
             limit (`ulimit -n`) or ask for fewer",
            u64::from(max) + DESCRIPTORS_APART
        ));
    }
    Ok(SweepOptions { max, sessions, until_saturated: arguments.until_saturated })
}

fn targets(arguments: &Arguments, host: &Host, sessions: u32) -> Result<Vec<BenchTarget>, String> {
    let target = |name: &String, env: Vec<String>, serve: Option<String>| {
        let settings = Settings {
            env,
            serve,
            python: arguments.python.clone(),
            python_path: arguments.python_path.clone(),
            replicas: arguments.replicas,
            sessions: Some(sessions),
            max_steps: arguments.max_steps,
            seed: Some(arguments.seed),
            no_seed: arguments.no_seed,
            policy: arguments.policy.clone(),
            reset_parameters: arguments.reset_parameters.clone(),
            header: arguments.servers.header.clone(),
            bearer_env: arguments.servers.bearer_env.clone(),
            bearer_file: arguments.servers.bearer_file.clone(),
            ca: arguments.servers.ca.clone(),
            connect_timeout_ms: arguments.connect_timeout_ms,
            first_reset_timeout_ms: arguments
                .first_reset_timeout_ms
                .or(Some(FIRST_RESET_TIMEOUT_MS)),
            reset_timeout_ms: arguments.reset_timeout_ms.or(Some(STEP_TIMEOUT_MS)),
            step_timeout_ms: arguments.step_timeout_ms.or(Some(STEP_TIMEOUT_MS)),
            start_timeout_ms: arguments.start_timeout_ms,
            gather_ms: Some(arguments.gather_ms),
            ..Settings::default()
        };
        let mut run = RunOptions::prepare(settings)
            .map_err(|error| error.to_string().replacen("--env", "TARGET", 1))?;
        run.program.clone_from(&host.program);
        run.python = run.python.or_else(|| host.python.clone());
        match run.policy {
            PolicySpec::Random | PolicySpec::Constant(_) => {
                Ok(BenchTarget { name: name.clone(), run })
            }
            PolicySpec::Replay(_) | PolicySpec::Model(_) => {
                Err("--policy: a benchmark takes random or constant:JSON".to_owned())
            }
        }
    };
    let given = arguments.targets.iter().map(|name| target(name, vec![name.clone()], None));
    let served =
        arguments.serve.iter().map(|command| target(command, Vec::new(), Some(command.clone())));
    let targets = given.chain(served).collect::<Result<Vec<_>, _>>()?;
    if targets.is_empty() {
        return Err("name what to measure: a URL, native:NAME, openenv-class:module:Class, python:gymnasium/ID, or \
                    --serve COMMAND"
            .into());
    }
    Ok(targets)
}

/// The settings that the report names by their flags.
fn other(arguments: &Arguments) -> BTreeMap<String, Value> {
    let all = [
        ("rate", json!(arguments.rate)),
        ("arrivals", json!(arguments.rate.map(|_| arguments.arrivals.clone()))),
        ("connect-storm", json!(arguments.connect_storm)),
        ("reset-parameters", json!(arguments.reset_parameters)),
        ("no-seed", json!(arguments.no_seed)),
        ("replicas", json!(arguments.replicas)),
        ("gather-ms", json!(arguments.gather_ms)),
        ("opening-s", json!(arguments.opening_s)),
        ("connect-timeout-ms", json!(arguments.connect_timeout_ms)),
        (
            "first-reset-timeout-ms",
            json!(arguments.first_reset_timeout_ms.unwrap_or(FIRST_RESET_TIMEOUT_MS)),
        ),
        ("reset-timeout-ms", json!(arguments.reset_timeout_ms.unwrap_or(STEP_TIMEOUT_MS))),
        ("step-timeout-ms", json!(arguments.step_timeout_ms.unwrap_or(STEP_TIMEOUT_MS))),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.into(), value))
        .collect()
}

/// The command as it was given, but for the values of headers.
fn command() -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in std::env::args_os() {
        let word = word.to_string_lossy().into_owned();
        let is_value = words.last().is_some_and(|before| before == "--header");
        words.push(match word.strip_prefix("--header=") {
            Some(header) => format!("--header={}", hidden(header)),
            None if is_value => hidden(&word),
            None => word,
        });
    }
    words
}
