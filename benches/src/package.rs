//! The Python package as it was built beside a benchmark.

use std::{fs, os::unix::fs::symlink};

use anyhow::{Result, ensure};
use tempfile::TempDir;

/// The Python package as a folder: its modules, and the extension module that was built beside this.
///
/// # Errors
///
/// If it was not built, or no folder can be made.
pub fn python_package() -> Result<TempDir> {
    let native = std::env::current_exe()?.with_file_name("lib_native.so");
    ensure!(native.exists(), "build the package first: cargo build --release -p envmill-python");
    let folder = tempfile::tempdir()?;
    let package = folder.path().join("envmill");
    fs::create_dir(&package)?;
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../python/envmill");
    for module in fs::read_dir(modules)? {
        let module = module?;
        symlink(module.path().canonicalize()?, package.join(module.file_name()))?;
    }
    symlink(native, package.join("_native.abi3.so"))?;
    Ok(folder)
}
