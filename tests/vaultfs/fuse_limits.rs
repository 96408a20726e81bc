//! The limits of a vault as programs meet them, through a mount; afterwards it is committed and opened again. Needs root and
//! /dev/fuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive_format;
#[expect(dead_code, reason = "what several mounts need is another file's matter")]
#[path = "mount_support.rs"]
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use archive_format::FORMATS;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use support::*;
use tempfile::TempDir;
use vaultfs::crypto::Passphrase;
use vaultfs::fuse::{Access, Mounts, View};
use vaultfs::tree::{Ino, NewKind, NewNode, Owner};
use vaultfs::vault::{Vault, VaultOptions};

const SIZE: u64 = 64 << 20;

fn passphrase() -> Passphrase {
    Passphrase::new(zeroize::Zeroizing::new(b"correct horse".to_vec())).unwrap()
}

/// Opens the archive of a folder.
fn opened(folder: TempDir) -> Fixture {
    let options = VaultOptions::new(Owner { uid: 0, gid: 0 }, SIZE, Duration::from_secs(1));
    let (vault, _) = Vault::open(&folder.path().join("vault.tar.aes"), passphrase(), &options).unwrap();
    let mounts = Mounts::new(vault.tree().clone(), vault.committer(), OPTIONS);
    Fixture { points: Vec::new(), mounts, vault, folder }
}

/// Runs a test with an empty vault of each version, which is not mounted yet.
fn with_vaults(test: impl Fn(Fixture)) {
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        format.create(&folder.path().join("vault.tar.aes"), &passphrase());
        test(opened(folder));
    }
}

/// The same with a mount of all of it.
fn with_mounts(test: impl Fn(Fixture)) {
    with_vaults(|mut fixture| {
        fixture.mount("whole", View::whole(Access::ReadWrite));
        test(fixture);
    });
}

/// Unmounts, commits, opens and mounts again.
fn reopened(fixture: Fixture) -> Fixture {
    let Fixture { points, mounts, vault, folder } = fixture;
    drop(points);
    eventually("the mounts are gone", || mounts.served().is_empty());
    vault.close().map_err(|(_, error)| error).unwrap();
    let mut fixture = opened(folder);
    fixture.mount("again", View::whole(Access::ReadWrite));
    fixture
}

fn folder_at(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    rustix::fs::openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

fn open_folder(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// Steps down from a folder until a path would get too long for an archive; returns how many steps there were.
fn go_down(root: &Path, name: &[u8]) -> (usize, OwnedFd) {
    let mut at = open_folder(root);
    for step in 0.. {
        match folder_at(&at, name) {
            Ok(below) => at = below,
            Err(error) => {
                assert_eq!(error, Errno::NAMETOOLONG, "step {step}");
                return (step, at);
            }
        }
    }
    unreachable!("it ends somewhere")
}

#[test]
fn names_and_paths_that_are_too_long_are_refused_where_they_are_made() {
    with_mounts(|fixture| {
        let root = fixture.whole();
        let name = |len: usize| "n".repeat(len);
        fs::write(root.join(name(255)), b"x").unwrap();
        let too_long =
            |outcome: std::io::Result<()>| assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
        too_long(fs::write(root.join(name(256)), b"x"));
        too_long(fs::create_dir(root.join(name(256))));
        too_long(fs::rename(root.join(name(255)), root.join(name(256))));
        too_long(fs::hard_link(root.join(name(255)), root.join(name(256))));
        too_long(symlink("x", root.join(name(256))));

        // Relative steps go past what one system call can name.
        let (steps, deepest) = go_down(root, b"d");
        assert_eq!(steps, 2048, "a path of 2,048 names of one letter has 4,095 bytes");
        let create =
            |name: &str| rustix::fs::openat(&deepest, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).map(drop);
        assert_eq!(create("x"), Err(Errno::NAMETOOLONG));
        assert_eq!(rustix::fs::symlinkat("t", &deepest, "x"), Err(Errno::NAMETOOLONG));
        too_long(fs::rename(root.join("d"), root.join("ddd")));
        fs::rename(root.join("d"), root.join("e")).unwrap();
        fs::create_dir(root.join("other")).unwrap();
        too_long(fs::rename(root.join("e"), root.join("other/e")));
        let exchange = rustix::fs::renameat_with(CWD, root.join("e"), CWD, root.join("other"), RenameFlags::EXCHANGE);
        assert_eq!(exchange, Err(Errno::NAMETOOLONG));
        drop(deepest);

        let fixture = reopened(fixture);
        let (mut at, mut found) = (open_folder(&fixture.whole().join("e")), 1);
        while let Ok(below) = rustix::fs::openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            (at, found) = (below, found + 1);
        }
        assert_eq!(found, steps);
        assert_eq!(fs::read(fixture.whole().join(name(255))).unwrap(), b"x");
        drop(at);
        assert!(Command::new("rm").arg("-rf").arg(fixture.whole().join("e")).status().unwrap().success());
    });
}

#[test]
fn a_folder_of_100_000_entries_is_listed_and_emptied() {
    const MANY: usize = 100_000;
    with_vaults(|mut fixture| {
        let owner = Owner { uid: 0, gid: 0 };
        let make = |parent, name: &str, kind| {
            fixture.tree().make(parent, name.as_bytes(), NewNode { kind, mode: 0o700, owner })
        };
        let folder = make(Ino::ROOT, "wide", NewKind::Folder).unwrap().ino;
        (0..MANY).for_each(|number| {
            make(folder, &format!("entry-{number:06}"), NewKind::File).unwrap();
        });
        let wide = fixture.mount("whole", View::whole(Access::ReadWrite)).join("wide");
        for round in ["cold", "cached"] {
            let begun = Instant::now();
            let mut names: Vec<_> = fs::read_dir(&wide).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            println!("a {round} listing took {:?}", begun.elapsed());
            names.sort();
            assert_eq!(names.len(), MANY);
            assert!(names.iter().enumerate().all(|(number, name)| *name == *format!("entry-{number:06}")));
        }
        let listed = Command::new("sh").arg("-c").arg(format!("ls -lU {} | wc -l", wide.display())).output().unwrap();
        assert_eq!(String::from_utf8(listed.stdout).unwrap().trim(), (MANY + 1).to_string());
        fs::rename(&wide, fixture.whole().join("wider")).unwrap();
        for number in 0..MANY / 10 {
            fs::remove_file(fixture.whole().join(format!("wider/entry-{:06}", number * 10))).unwrap();
        }
        let fixture = reopened(fixture);
        assert_eq!(fs::read_dir(fixture.whole().join("wider")).unwrap().count(), MANY - MANY / 10);
    });
}

/// Free bytes as statfs tells them.
fn free(path: &Path) -> u64 {
    let space = rustix::fs::statvfs(path).unwrap();
    space.f_bavail * space.f_frsize
}

#[test]
fn a_full_vault_says_so_keeps_all_that_was_written_and_can_be_emptied() {
    const PIECE: usize = 1_000_000;
    with_mounts(|fixture| {
        let root = fixture.whole();
        assert_eq!(free(root), SIZE - 4096, "the root's inode counts, in whole blocks");
        let mut file = File::create(root.join("all")).unwrap();
        let (mut written, mut piece) = (0, 0);
        let error = loop {
            let data: Vec<u8> =
                (0..PIECE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ piece).collect();
            match file.write(&data) {
                Ok(len) => {
                    written += len;
                    piece += 1;
                    if len < PIECE {
                        println!("the last write stopped after {len} of {PIECE} bytes");
                        continue;
                    }
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(file.metadata().unwrap().len(), written as u64);
        assert!(free(root) < 132 * 1024, "{} bytes are free", free(root));
        assert!(written > (63 << 20), "{written}");
        // What does not grow works, and what shrinks makes room at once.
        file.write_all_at(b"in place", 0).unwrap();
        fs::rename(root.join("all"), root.join("ALL")).unwrap();
        fs::set_permissions(root.join("ALL"), PermissionsExt::from_mode(0o400)).unwrap();
        let found = fs::read(root.join("ALL")).unwrap();
        assert_eq!((found.len(), &found[..8]), (written, b"in place".as_slice()));
        drop(file);

        let fixture = reopened(fixture);
        let root = fixture.whole();
        assert!(fs::read(root.join("ALL")).unwrap() == found, "the file is the same after opening");
        File::options().write(true).open(root.join("ALL")).unwrap().set_len(PIECE as u64).unwrap();
        fs::write(root.join("more"), vec![1; 8 << 20]).unwrap();
        fs::remove_file(root.join("ALL")).unwrap();
        fs::remove_file(root.join("more")).unwrap();
        eventually("all room is back", || free(root) == SIZE - 4096);
    });
}

#[test]
fn times_targets_attributes_and_holes_reach_as_far_as_the_kernel_lets_them() {
    with_mounts(|fixture| {
        let root = fixture.whole();
        // Zero is the least that fuser can be asked for besides i64::MIN, which it cannot turn round in a debug build.
        let times = [(i64::MIN + 1, 999_999_999), (-1, 1), (1 << 32, 0), (1 << 40, 5), (i64::MAX - 1, 999_999_999)];
        for (index, (secs, nanos)) in times.into_iter().enumerate() {
            let path = root.join(format!("time-{index}"));
            fs::write(&path, b"").unwrap();
            let time = Timespec { tv_sec: secs, tv_nsec: nanos };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        }
        symlink("t".repeat(4095), root.join("link")).unwrap();
        let value: Vec<u8> = (0..64 * 1024_u32).map(|at| at as u8).collect();
        rustix::fs::setxattr(root.join("time-0"), "user.large", &value, XattrFlags::empty()).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.write_all_at(b"end", (1 << 28) - 3).unwrap();
        let beyond = sparse.write_all_at(b"x", 1 << 40).unwrap_err();
        assert_eq!(beyond.raw_os_error(), Some(libc::EFBIG));
        let beyond = sparse.set_len(1 << 40).unwrap_err();
        assert_eq!(beyond.raw_os_error(), Some(libc::EFBIG));
        drop(sparse);

        let fixture = reopened(fixture);
        let root = fixture.whole();
        for (index, expected) in times.into_iter().enumerate() {
            let meta = fs::metadata(root.join(format!("time-{index}"))).unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), expected);
        }
        assert_eq!(fs::read_link(root.join("link")).unwrap().as_os_str().len(), 4095);
        let mut found = vec![0; value.len()];
        assert_eq!(rustix::fs::getxattr(root.join("time-0"), "user.large", &mut found), Ok(value.len()));
        assert_eq!(found, value);
        let meta = fs::metadata(root.join("sparse")).unwrap();
        assert_eq!((meta.len(), meta.blocks()), (1 << 28, 8));
    });
}
