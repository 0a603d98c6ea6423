//! Plays the worlds of many seeds, each to its end and once more with a kill in between:
//! `seeds [--from SEED] [--count N] [--pinned FILE] [--stop]`.
//!
//! Failing seeds are printed to standard output, one a line with what was wrong; the status is 1 if
//! there are any. `cargo xtask seeds` calls this.

use std::{
    error::Error,
    io::{IsTerminal as _, Write as _, stderr, stdout},
    process::ExitCode,
    time::Instant,
};

use envmill_world::{each, play, play_resumed};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut seeds = Vec::new();
    let (mut from, mut count, mut stops) = (0, 0, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--from" => from = value()?.parse()?,
            "--count" => count = value()?.parse()?,
            "--seed" => seeds.push(value()?.parse()?),
            "--pinned" => seeds.extend(pinned(&std::fs::read_to_string(value()?)?)?),
            "--stop" => stops = true,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    seeds.extend(from..from + count);
    // A panic is one of the ways to fail; its text is in the list.
    std::panic::set_hook(Box::new(|_| {}));
    let (start, mut done, mut failed, mut inputs) = (Instant::now(), 0_u64, 0_u64, 0_u64);
    let total = seeds.len();
    let play_twice = |seed| {
        let played = play(seed)?;
        play_resumed(seed).map(|()| played)
    };
    each(&seeds, play_twice, |outcome| {
        done += 1;
        match outcome {
            Ok(played) => inputs += played.inputs,
            Err(world) => {
                failed += 1;
                let _ = writeln!(stdout(), "{}  # {}", world.seed, world.violations.join(" | "));
            }
        }
        if done.is_multiple_of(1_000) && stderr().is_terminal() {
            let _ = write!(stderr(), "\r{done} of {total}, {failed} failed");
        }
        !(stops && failed > 0)
    });
    let seconds = start.elapsed().as_secs_f64();
    let _ =
        writeln!(stderr(), "{done} worlds with {inputs} inputs in {seconds:.1} s: {failed} failed");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The seeds of a file with one a line; what follows a `#` is for people.
fn pinned(text: &str) -> Result<Vec<u64>, Box<dyn Error>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| Ok(line.parse()?)).collect()
}
