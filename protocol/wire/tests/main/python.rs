//! Python, with numpy, reads arrays where they lie.

use std::process::Command;

use crate::golden::golden;

#[test]
fn python_reads_arrays_in_place_and_cannot_write_to_them() {
    let output = Command::new(envmill_testing::python().unwrap())
        .args(["-B".as_ref(), envmill_testing::script("read_trajectory_image.py").as_os_str()])
        .arg(golden())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(output.stdout, b"read in place\n");
}
