//! Simulation and production.
//!
//! Proves that a server in production mode (OPENENV_MODE=production) no longer lets anybody reset, step or
//! look into environments over HTTP, while sessions play as before. Two servers are needed for that, so it
//! is done for targets that this program starts; of a URL it is told which mode it is in. Versions of
//! OpenEnv before the modes, and tools that exist in one mode only, are sound: all of it are warnings.

use crate::{
    checks::{
        compare::Compared,
        determinism::{alone, record},
    },
    finding::{
        Severity::{Note, Warning},
        Sheet,
    },
    play::Halt,
    subject::Subject,
    wire::{Http, Trouble},
};

/// What exists in simulation mode alone.
const ENDPOINTS: [(&str, Option<&str>); 3] =
    [("/reset", Some("{}")), ("/step", Some(r#"{"action":{}}"#)), ("/state", None)];

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let here = served(&subject.http).map_err(|trouble| halt("/reset", trouble))?;
    let mode = if here.is_empty() { "production" } else { "simulation" };
    let told = format!("over HTTP it serves {}", list(&here));
    let started = match subject.surroundings.production() {
        None => {
            sheet.add(Note, "mode", format!("the server is in {mode} mode"), told, "");
            sheet.unchecked(
                "other",
                "the other mode",
                "only for targets that this command starts: --serve CMD or openenv-class:module:Class",
            );
            return Ok(());
        }
        Some(Err(why)) => {
            sheet.add(
                Warning,
                "start",
                "the target does not start in production mode",
                why,
                "start it with OPENENV_MODE=production to see why",
            );
            return Ok(());
        }
        Some(Ok(started)) => started,
    };
    let peer = subject.peer.at(&started.url).map_err(|error| Halt::NoActions(error.to_string()))?;
    let other = Subject::new(
        subject.options.clone(),
        peer,
        subject.surroundings,
        None,
        subject.baseline.clone(),
    );
    let there = served(&other.http).map_err(|trouble| halt("/reset", trouble))?;
    if there.is_empty() {
        sheet.pass(
            "endpoints",
            "production mode serves no /reset, /step and /state over HTTP",
            told,
        );
    } else {
        sheet.add(
            Warning,
            "endpoints",
            "in production mode, environments can be driven over HTTP",
            format!("with OPENENV_MODE=production, it serves {}", list(&there)),
            "make the app with OpenEnv's create_app, which leaves them out, or hide them",
        );
    }
    let episode = record(subject, subject.options.seed)?;
    let actions = episode.actions();
    let again = Compared::of(&episode, &alone(subject, episode.seed, &actions)?);
    if !again.is_same() {
        let why = format!("in one mode alone, an episode is not reproducible: {}", again.told());
        sheet.unchecked("episodes", "episodes in both modes", why);
        return Ok(());
    }
    let compared = Compared::of(&episode, &alone(&other, episode.seed, &actions)?);
    if compared.is_same() {
        let told = format!("seed {}, {} actions", episode.seed, actions.len());
        sheet.pass("episodes", "episodes are the same in both modes", told);
    } else {
        sheet.add(
            Warning,
            "episodes",
            "episodes are others in production mode",
            format!("seed {}, {} actions: {}", episode.seed, actions.len(), compared.told()),
            "leave the environment's own rules out of what the mode changes",
        );
    }
    Ok(())
}

fn halt(what: &str, trouble: Trouble) -> Halt {
    Halt::Trouble { what: what.into(), trouble }
}

/// Which of the endpoints a server serves.
fn served(http: &Http) -> Result<Vec<&'static str>, Trouble> {
    let mut found = Vec::new();
    for (path, body) in ENDPOINTS {
        let answer = match body {
            Some(body) => http.post(path, body),
            None => http.get(path),
        };
        match answer {
            Ok(answer) if !matches!(answer.status, 404 | 405) => found.push(path),
            // Who hangs up on a request serves it not either.
            Ok(_) | Err(Trouble::Connect(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(found)
}

fn list(paths: &[&str]) -> String {
    if paths.is_empty() { "none of /reset, /step and /state".into() } else { paths.join(", ") }
}
