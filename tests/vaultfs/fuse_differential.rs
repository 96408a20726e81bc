//! The same random system calls on a folder of tmpfs and on a mounted vault: each must end the same, and both trees must look
//! the same after each. In the middle the vault is unmounted, closed, opened and mounted again. Needs root and /dev/fuse.
//!
//! `FUSE_DIFFERENTIAL_SEED` runs one seed, `FUSE_DIFFERENTIAL_STEPS` sets the length, `FUSE_DIFFERENTIAL_FIRST_SEED` and
//! `FUSE_DIFFERENTIAL_SEEDS` which ones. A failure prints its operations as Rust: keep them as a `regression_*` test.

#![expect(clippy::duplicate_mod, reason = "both files that are shared here wait")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differential;

use differential::operations::{Op, Op::*, Rename::*, random};
use differential::pair::Pair;
use differential::random::Random;
use vault_support::archive_format::{FORMATS, Format};

#[path = "vault_support.rs"]
mod vault_support;

#[expect(dead_code, reason = "what several mounts need is another file's matter")]
#[path = "mount_support.rs"]
mod mount_support;

/// Tells what was done when a test fails.
struct Journal {
    seed: u64,
    done: Vec<Op>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed after step {}:\nreplay(&{:?});", self.seed, self.done.len(), self.done);
        }
    }
}

/// Runs operations; all of them must end the same on both sides.
fn run(format: Format, seed: u64, operations: impl Iterator<Item = Op>) {
    let mut journal = Journal { seed, done: Vec::new() };
    let mut pair = Pair::new(format);
    for operation in operations {
        journal.done.push(operation);
        pair.step(operation);
    }
    pair.step(Reopen);
}

fn replay(operations: &[Op]) {
    FORMATS.into_iter().for_each(|format| run(format, 0, operations.iter().copied()));
}

#[test]
fn system_calls_end_on_a_vault_as_on_tmpfs() {
    let number =
        |name: &str| std::env::var(format!("FUSE_DIFFERENTIAL_{name}")).ok().and_then(|text| text.parse().ok());
    let steps = number("STEPS").unwrap_or(250);
    let first = number("FIRST_SEED").unwrap_or(1);
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("SEEDS").unwrap_or(8),
    };
    for seed in seeds {
        println!("seed {seed}");
        for format in FORMATS {
            let mut generator = Random::new(seed);
            run(format, seed, (0..steps).map(|_| random(&mut generator)));
        }
    }
}

/// Some of everything, in an order that is known to work: the harness itself is tried.
#[test]
fn the_harness_does_every_operation() {
    replay(&[
        Mkdir("a", 0o750),
        Create("a/f", 0o640),
        Hold("a/f"),
        Write { path: "a/f", offset: 5000, len: 3000, fill: 7, append: false },
        Write { path: "a/f", offset: 0, len: 3000, fill: 8, append: true },
        Truncate("a/f", 9000),
        Allocate { path: "a/f", offset: 100, len: 50_000, keep_size: false },
        Punch("a/f", 4000, 6000),
        Symlink("a/f", "b"),
        Fifo("c"),
        Link("a/f", "a/g"),
        SetXattr("a/f", "user.x", 100, 0),
        SetXattr("a/f", "user.y", 0, 0),
        RemoveXattr("a/f", "user.x"),
        Chmod("a", 0o1705),
        Utimes("a/f", -5, 999_999_999),
        Mkdir("d", 0o700),
        Rename("a", "d/a", Replace),
        Rename("d/a", "c", Exchange),
        Rename("c", "d", NoReplace),
        CopyRange { from: "c/f", to: "c/g", from_offset: 0, to_offset: 60_000, len: 4000 },
        Unlink("c/f"),
        Unlink("c/g"),
        HeldWrite { index: 0, offset: 3, len: 5000, fill: 9 },
        HeldTruncate(0, 6000),
        HeldRead { index: 0, offset: 10, len: 9000 },
        Reopen,
        Rmdir("c"),
        Release(0),
    ]);
}
