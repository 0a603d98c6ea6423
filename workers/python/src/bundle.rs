//! The Python side, on its way to the processes that run it.

use std::{fs::File, io::Write as _, os::fd::OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;

use crate::{Error, Options, Target, error::system};

/// What `python -c` is given.
pub(crate) const BOOTSTRAP: &str = include_str!("../runtime/bootstrap.py");

macro_rules! modules {
    ($($name:literal = $file:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../runtime/envmill_worker/", $file)))),*]
    };
}

/// Every module of the runtime, by its name.
const MODULES: &[(&str, &str)] = modules! {
    "envmill_worker" = "__init__.py",
    "envmill_worker.answers" = "answers.py",
    "envmill_worker.channel" = "channel.py",
    "envmill_worker.event_loop" = "event_loop.py",
    "envmill_worker.gymnasium_env" = "gymnasium_env.py",
    "envmill_worker.nursery" = "nursery.py",
    "envmill_worker.openenv_class" = "openenv_class.py",
    "envmill_worker.port" = "port.py",
    "envmill_worker.rpc" = "rpc.py",
    "envmill_worker.spaces" = "spaces.py",
    "envmill_worker.target" = "target.py",
    "envmill_worker.threads" = "threads.py",
    "envmill_worker.vector_env" = "vector_env.py",
    "envmill_worker.worker" = "worker.py",
};

/// What it shares with the plug-in for vLLM.
const RING: (&str, &str) =
    ("envmill_ring", include_str!("../../../python/envmill_ring/__init__.py"));

/// The runtime and its configuration, as a descriptor for a nursery to inherit.
pub(crate) fn make(options: &Options) -> Result<OwnedFd, Error> {
    let modules: serde_json::Map<String, serde_json::Value> = MODULES
        .iter()
        .chain([&RING])
        .map(|(name, source)| ((*name).into(), (*source).into()))
        .collect();
    let bundle =
        json!({ "modules": modules, "role": "nursery", "config": configuration(options)? });
    let fd = memfd_create("envmill-bundle", MemfdFlags::CLOEXEC)
        .map_err(system("cannot make a memory to hand over"))?;
    let mut file = File::from(fd);
    file.write_all(bundle.to_string().as_bytes())
        .map_err(system("cannot fill a memory to hand over"))?;
    Ok(file.into())
}

fn configuration(options: &Options) -> Result<serde_json::Value, Error> {
    let mut config = json!({
        "start": options.start.name(),
        "threads": options.threads.name(),
        "mode": if options.production { "production" } else { "simulation" },
        "metadata": options.metadata,
        "bootstrap": BOOTSTRAP,
        "path": options.path,
    });
    let arguments = match &options.target {
        Target::OpenEnvClass(class) => {
            config["kind"] = "openenv".into();
            config["target"] = class.class.as_str().into();
            for (key, model) in [
                ("action", &class.action),
                ("observation", &class.observation),
                ("state", &class.state),
            ] {
                config[key] = model.as_deref().into();
            }
            &class.arguments
        }
        Target::Gymnasium(gymnasium) => {
            config["kind"] = "gymnasium".into();
            config["target"] = gymnasium.name.as_str().into();
            config["vector"] = gymnasium.vector.into();
            &gymnasium.arguments
        }
    };
    if !arguments.is_empty() {
        let arguments: serde_json::Map<String, serde_json::Value> = serde_json::from_str(arguments)
            .map_err(|error| {
                Error::Options(format!("the constructor's arguments are no JSON object: {error}"))
            })?;
        config["arguments"] = arguments.into();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_in_the_bundle() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime/envmill_worker");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
            .map(|name| match name.as_str() {
                "__init__" => "envmill_worker".to_owned(),
                name => format!("envmill_worker.{name}"),
            })
            .collect();
        files.sort();
        let names: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, names);
    }
}
