//! Suites of others against a real mount: pjdfstest (what POSIX says of names, modes and errors) and fsx (random reads and
//! writes of one file in every way there is). Both are installed by `scripts/test`. Needs root and /dev/fuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "several mounts are another file's matter")]
#[path = "mount_support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use support::*;

/// What pjdfstest may leave out: a mount of this type cannot be remounted by mount(8), which hands that to libfuse; and
/// the kernel has no way to ask a FUSE server for its limit of links.
const SKIPS: [&str; 2] = [
    "Remounts (allow_remount) are not allowed in the configuration file",
    "Cannot get value for LINK_MAX: filesystem limit is unknown",
];

/// Operations of each run of fsx, where `TAZPOD_FSX_OPERATIONS` does not ask for more.
const FSX_OPERATIONS: u32 = 67_000;

/// Every kind of operation that fsx has; syncs are rare because each writes the archive.
const FSX_WEIGHTS: &str = "close_open = 1\nread = 10\nwrite = 10\nmapread = 10\nmapwrite = 10\ninvalidate = 1\n\
    truncate = 10\nfsync = 0.02\nfdatasync = 0.02\nposix_fallocate = 3\npunch_hole = 5\nsendfile = 3\n\
    posix_fadvise = 2\ncopy_file_range = 5\n";

fn run(command: &mut Command) -> (bool, String) {
    let program = command.get_program().to_owned();
    let Output { status, stdout, stderr } = command
        .env("NO_COLOR", "1")
        .output()
        .unwrap_or_else(|error| panic!("{} is installed by scripts/test: {error}", program.display()));
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// The number before a word in pjdfstest's summary.
fn count(summary: &str, word: &str) -> usize {
    let fields: Vec<&str> = summary.split([' ', ',']).filter(|field| !field.is_empty()).collect();
    let at = fields.iter().position(|field| *field == word).unwrap_or_else(|| panic!("no {word} in {summary}"));
    fields[at - 1].parse().unwrap()
}

#[test]
fn pjdfstest_finds_nothing() {
    let fixture = Fixture::mounted();
    fs::set_permissions(fixture.whole(), PermissionsExt::from_mode(0o755)).unwrap();
    let other_disk = fixture.folder.path().join("other");
    fs::create_dir(&other_disk).unwrap();
    let (_, group) = run(Command::new("id").args(["-gn", "nobody"]));
    let configuration = fixture.folder.path().join("pjdfstest.toml");
    let text = format!(
        "[features]\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\nutimensat = {{}}\n\
         [settings]\nnaptime = 0.03\n\
         [dummy_auth]\nentries = [['nobody', '{}'], ['tazpod-test', 'tazpod-test']]\n",
        group.trim()
    );
    fs::write(&configuration, text).unwrap();
    let (passed, told) = run(Command::new("pjdfstest")
        .arg("-c")
        .args([&configuration])
        .arg("-p")
        .args([fixture.whole()])
        .arg("-s")
        .arg(&other_disk));
    let summary = told.lines().find(|line| line.starts_with("Summary: ")).unwrap_or_else(|| panic!("{told}"));
    assert!(passed && count(summary, "failed") == 0, "{told}");
    assert!(count(summary, "passed") >= 384 && count(summary, "expected") == 0, "{summary}");
    let lines: Vec<&str> = told.lines().collect();
    let skipped: Vec<&[&str]> = lines.windows(2).filter(|pair| pair[0].trim_end().ends_with("skipped")).collect();
    assert_eq!(skipped.len(), count(summary, "skipped"), "{told}");
    for pair in skipped {
        assert!(SKIPS.contains(&pair[1].trim()), "{} {}", pair[0], pair[1]);
    }
    assert_eq!(fs::read_dir(fixture.whole()).unwrap().count(), 0, "it leaves nothing behind");
}

/// Runs fsx on a mount; then the file must be in the archive byte for byte.
fn fsx(seed: u32, operations: u32, settings: &str) {
    let fixture = Fixture::mounted();
    let configuration = fixture.folder.path().join("fsx.toml");
    let text = format!("{settings}\nflen = 262144\n[opsize]\nmin = 0\nmax = 65536\n[weights]\n{FSX_WEIGHTS}");
    fs::write(&configuration, text).unwrap();
    let file = fixture.whole().join("file");
    let mut command = Command::new("fsx");
    command.arg("-f").arg(&configuration).args(["-N", &operations.to_string(), "-S", &seed.to_string(), "-P"]);
    let (passed, told) = run(command.arg(fixture.folder.path()).arg(&file));
    assert!(passed && told.contains("All operations completed A-OK!"), "seed {seed}: {}", tail(&told));
    let left = fs::read(&file).unwrap();
    assert!(!left.is_empty() && left.iter().any(|&byte| byte != 0), "seed {seed} leaves something to compare");
    let (vault, _folder) = fixture.reopened();
    assert!(content(vault.tree(), "file").unwrap() == left, "seed {seed}: the archive holds something else");
}

/// The last part of a long log.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(100)..].join("\n")
}

fn operations() -> u32 {
    std::env::var("TAZPOD_FSX_OPERATIONS").map_or(FSX_OPERATIONS, |count| count.parse().unwrap())
}

#[test]
fn fsx_finds_nothing_with_seed_1() {
    fsx(1, operations(), "nomsyncafterwrite = true");
}

#[test]
fn fsx_finds_nothing_with_seed_2() {
    fsx(2, operations(), "nomsyncafterwrite = true");
}

#[test]
fn fsx_finds_nothing_with_seed_3() {
    fsx(3, operations(), "nomsyncafterwrite = true");
}

#[test]
fn fsx_finds_nothing_when_each_mapped_write_is_synced() {
    fsx(4, 1500, "");
}
