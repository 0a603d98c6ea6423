#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| envmill_fuzzing::run("requests", bytes));
