//! The committed corpora, through every target.

use std::{collections::BTreeSet, fs, path::Path};

use envmill_fuzzing::TARGETS;

fn fuzz() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn every_input_of_every_corpus_passes() {
    let mut bytes = 0;
    for target in TARGETS {
        let corpus = fuzz().join("corpus").join(target.name);
        let mut inputs = 0;
        for entry in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}")) {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            // Shown only where the test fails.
            println!("{}", path.display());
            (target.run)(&input);
            bytes += input.len();
            inputs += 1;
        }
        assert!(inputs > 0, "{} has no corpus", target.name);
    }
    assert!(bytes < 1 << 20, "the corpora are to stay under 1 MiB: {bytes}");
}

#[test]
fn every_target_has_its_program_and_no_program_is_without() {
    let stem = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let programs: BTreeSet<String> = fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| stem(&entry.unwrap().path()))
        .collect();
    let targets = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(programs, targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"\n", target.name)), "{}", target.name);
    }
}
