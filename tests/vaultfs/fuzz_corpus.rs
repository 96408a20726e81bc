//! Every file of the fuzzers' corpora, through the functions that they run (`scripts/soak fuzz` runs the fuzzers).

mod fuzzed;

use std::path::PathBuf;

/// Runs all of a corpus; fails on a panic within, and when none or all of it is accepted.
fn run(target: &str, function: fn(&[u8]) -> bool) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("a seed").path()).collect();
    let accepted = files
        .iter()
        .filter(|file| {
            // Shown only when the test fails.
            println!("{}", file.display());
            function(&std::fs::read(file).expect("a seed"))
        })
        .count();
    assert!(0 < accepted && accepted < files.len(), "{accepted} of {} seeds are accepted", files.len());
}

#[test]
fn every_seed_of_the_tar_reader_is_refused_or_comes_back() {
    run("tar", fuzzed::tar);
}

#[test]
fn every_seed_of_the_v1_reader_is_refused_or_comes_back() {
    run("v1", fuzzed::v1);
}

#[test]
fn every_seed_of_the_v2_reader_is_refused_or_comes_back() {
    run("v2", fuzzed::v2);
}
