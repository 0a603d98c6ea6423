//! Generates the messages and the service from the `.proto` files. No `protoc` is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = Path::new("../proto");
    println!("cargo::rerun-if-changed={}", protos.display());
    let files = protox::compile(["envmill/v1/rollouts.proto"], [protos])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // What it holds stays encoded: see `src/delivery.rs`.
        .extern_path(".envmill.v1.Delivery", "crate::Delivery")
        .compile_fds(files)?;
    Ok(())
}
