//! The program does what it promises.

use std::process::Command;

#[test]
fn every_number_is_found_in_ten_guesses() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bisect"))
        .arg(directory.path().join("run"))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("1000 episodes, 1000 found, "), "{told}{said}");
    let guesses: f64 = told.split(' ').nth(4).unwrap().parse().unwrap();
    assert!(guesses < 10.0, "{told}");
}
