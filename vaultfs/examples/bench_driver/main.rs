//! The work that `scripts/bench` has every file system do, by plain system calls, so that the driver costs next to nothing.
//!
//! `bench_driver FOLDER TAR [--quick]` works in a new folder within FOLDER, unpacks TAR there, removes everything, and prints
//! a line `row<TAB>seconds` for each step. `bench_driver --make-tar TAR [FILES]` makes a tar; what else it does is in `archive.rs`.

#![expect(clippy::unwrap_used, reason = "a tool for measuring fails by panicking")]

mod archive;

use std::ffi::OsString;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use archive::Small;
use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, RawDir};
use vaultfs::crypto::Passphrase;
use zeroize::Zeroizing;

/// Bytes a call.
const LARGE_STEP: usize = 1024 * 1024;
const SMALL_FILE: usize = 4096;
const TAR_FILES: u64 = 2000;

/// How much is done.
struct Scale {
    large_file: usize,
    random_writes: usize,
    small_files: usize,
}

const FULL: Scale = Scale { large_file: 64 << 20, random_writes: 4000, small_files: 3000 };
const QUICK: Scale = Scale { large_file: 16 << 20, random_writes: 1000, small_files: 500 };

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().as_slice() {
        ["--make-tar", tar] => make_tar(Path::new(tar), TAR_FILES, 8000),
        ["--make-tar", tar, files] => make_tar(Path::new(tar), number(files), 100),
        ["--make-tree", folder] => archive::make_tree(Path::new(folder)),
        ["--make-vault", file] => archive::make_vault(Path::new(file)),
        ["--make-large", folder, size] => archive::make_large(Path::new(folder), number(size)),
        ["--fsyncs", count, file, bytes, folders @ ..] => {
            archive::in_turn(Small::Fsync, folders, (Path::new(file), number(bytes)), number(count));
        }
        ["--saves", count, file, bytes, folders @ ..] => {
            archive::in_turn(Small::Save, folders, (Path::new(file), number(bytes)), number(count));
        }
        ["--fsyncs-beside-compaction", archive, file, bytes, folders @ ..] => {
            archive::beside_compaction(Path::new(archive), folders, (Path::new(file), number(bytes)));
        }
        ["--many", folder, count] => archive::many(Path::new(folder), number(count)),
        ["--appends", file, bytes, count] => archive::appends(Path::new(file), number(bytes), number(count)),
        ["--cipher", bytes] => archive::cipher(number(bytes)),
        [folder, tar] => run(Path::new(folder), Path::new(tar), &FULL),
        [folder, tar, "--quick"] => run(Path::new(folder), Path::new(tar), &QUICK),
        _ => panic!("usage: bench_driver FOLDER TAR [--quick], or one of the options in main.rs"),
    }
}

fn number<T: FromStr<Err: Debug>>(argument: &str) -> T {
    argument.parse().unwrap()
}

fn run(folder: &Path, tar: &Path, scale: &Scale) {
    let work = folder.join(format!("bench-{}", std::process::id()));
    std::fs::create_dir(&work).unwrap();
    std::env::set_current_dir(&work).unwrap();
    large_file(scale);
    small_files(scale.small_files);
    std::fs::create_dir("untar").unwrap();
    timed("untar", || {
        let status = Command::new("tar").arg("-xf").arg(tar).args(["-C", "untar"]).status().unwrap();
        assert!(status.success());
    });
    std::env::set_current_dir("/").unwrap();
    std::fs::remove_dir_all(&work).unwrap();
}

fn timed(row: &str, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    println!("{row}\t{:.9}", begun.elapsed().as_secs_f64());
}

fn large_file(scale: &Scale) {
    let mut numbers = Numbers(1);
    let mut buffer = vec![0; LARGE_STEP];
    numbers.fill(&mut buffer);
    timed("sequential write", || {
        let file = open("large", OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
        for step in 0..scale.large_file / LARGE_STEP {
            // Each step differs, or an archive would shrink it to nothing.
            buffer[..8].copy_from_slice(&step.to_ne_bytes());
            assert_eq!(rustix::io::write(&file, &buffer).unwrap(), LARGE_STEP);
        }
    });
    drop_pages("large");
    timed("sequential read, cold", || read_whole("large", &mut buffer));
    timed("sequential read, warm", || read_whole("large", &mut buffer));
    let offsets: Vec<u64> =
        (0..scale.random_writes).map(|_| numbers.below((scale.large_file / SMALL_FILE) as u64) * 4096).collect();
    timed("random writes", || {
        let file = open("large", OFlags::WRONLY);
        for &offset in &offsets {
            assert_eq!(rustix::io::pwrite(&file, &buffer[..SMALL_FILE], offset).unwrap(), SMALL_FILE);
        }
    });
}

fn small_files(count: usize) {
    let names: Vec<String> = (0..count).map(|index| format!("small/file-{index:05}")).collect();
    let moved: Vec<String> = (0..count).map(|index| format!("small/moved-{index:05}")).collect();
    let mut content = [0; SMALL_FILE];
    Numbers(2).fill(&mut content);
    std::fs::create_dir("small").unwrap();
    timed("create", || {
        for name in &names {
            let file = open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
            assert_eq!(rustix::io::write(&file, &content).unwrap(), SMALL_FILE);
        }
    });
    timed("first stat", || names.iter().for_each(|name| stat(name)));
    timed("second stat", || names.iter().for_each(|name| stat(name)));
    timed("small reads", || {
        for name in &names {
            let file = open(name, OFlags::RDONLY);
            assert_eq!(rustix::io::read(&file, &mut content).unwrap(), SMALL_FILE);
        }
    });
    timed("list", || assert_eq!(list("small"), count + 2));
    timed("rename", || {
        for (old, new) in names.iter().zip(&moved) {
            rustix::fs::rename(old, new).unwrap();
        }
    });
    timed("remove", || moved.iter().for_each(|name| rustix::fs::unlink(name).unwrap()));
}

fn open(name: &str, flags: OFlags) -> OwnedFd {
    rustix::fs::open(name, flags, Mode::from_raw_mode(0o600)).unwrap()
}

fn stat(name: &str) {
    let found = rustix::fs::statat(CWD, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    assert_eq!(found.st_size, SMALL_FILE as i64);
}

fn read_whole(name: &str, buffer: &mut [u8]) {
    let file = open(name, OFlags::RDONLY);
    while rustix::io::read(&file, &mut *buffer).unwrap() > 0 {}
}

/// Drops a file's pages from the kernel's cache; those of a tmpfs are the file, and stay.
fn drop_pages(name: &str) {
    let file = open(name, OFlags::RDONLY);
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

fn list(name: &str) -> usize {
    let folder = open(name, OFlags::RDONLY | OFlags::DIRECTORY);
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut count = 0;
    while let Some(entry) = entries.next() {
        entry.unwrap();
        count += 1;
    }
    count
}

/// That of every vault of the bench.
fn passphrase() -> Passphrase {
    Passphrase::new(Zeroizing::new(b"correct-horse-battery".to_vec())).unwrap()
}

/// A tar of small files of many sizes in some folders, as a source tree has them.
fn make_tar(path: &Path, files: u64, longest: u64) {
    let mut builder = tar::Builder::new(std::fs::File::create_new(path).unwrap());
    let mut numbers = Numbers(3);
    for index in 0..files {
        let mut content = vec![0; (longest / 40 + numbers.below(longest)) as usize];
        numbers.fill(&mut content);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000 + index);
        builder.append_data(&mut header, format!("folder-{}/file-{index}", index / 50), content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().sync_all().unwrap();
}

/// Marsaglia's xorshift64: the same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_ne_bytes()[..piece.len()]);
        }
    }
}
