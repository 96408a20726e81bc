//! The operations: what they are, how they are drawn, and the system calls that they make below a folder.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::random::Random;

/// A path below the folder. Printed as Rust, an operation can be kept in a test.
type At = &'static str;

/// What rename does with what is there.
#[derive(Clone, Copy, Debug)]
pub enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    Mkdir(At, u32),
    Create(At, u32),
    Write {
        path: At,
        offset: u64,
        len: usize,
        fill: u8,
        append: bool,
    },
    Truncate(At, u64),
    Punch(At, u64, u64),
    Allocate {
        path: At,
        offset: u64,
        len: u64,
        keep_size: bool,
    },
    Symlink(At, At),
    Fifo(At),
    Unlink(At),
    Rmdir(At),
    Rename(At, At, Rename),
    Link(At, At),
    SetXattr(At, &'static str, usize, u32),
    RemoveXattr(At, &'static str),
    Chmod(At, u32),
    Utimes(At, i64, u32),
    CopyRange {
        from: At,
        to: At,
        from_offset: u64,
        to_offset: u64,
        len: usize,
    },
    /// Opens a file and keeps it.
    Hold(At),
    HeldWrite {
        index: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    HeldTruncate(usize, u64),
    HeldRead {
        index: usize,
        offset: u64,
        len: usize,
    },
    Release(usize),
    /// Closes the archive and opens it again; nothing is held after it.
    Reopen,
}

/// Draws an operation. Few names, so that they collide; offsets around the borders of pages.
pub fn random(random: &mut Random) -> Op {
    let (path, other) = (draw_path(random), draw_path(random));
    let (offset, len) = (draw_offset(random), 1 + random.below(9000) as usize);
    let fill = 1 + random.below(255) as u8;
    let index = random.below(3) as usize;
    let xattr = random.pick(&["user.x", "user.y", "user.z"]);
    match random.below(62) {
        0..=6 => Op::Mkdir(path, random.pick(&[0o700, 0o755, 0o2775])),
        7..=14 => Op::Create(path, random.pick(&[0o600, 0o644])),
        15..=19 => Op::Write { path, offset, len, fill, append: fill.is_multiple_of(4) },
        // Long enough to be answered before it is sealed.
        20 => Op::Write { path, offset, len: len + 70_000, fill, append: fill.is_multiple_of(4) },
        21..=23 => Op::Truncate(path, offset),
        24 => Op::Punch(path, offset, len as u64),
        25 => Op::Allocate { path, offset, len: len as u64, keep_size: fill.is_multiple_of(2) },
        26..=27 => Op::Symlink(other, path),
        28 => Op::Fifo(path),
        29..=32 => Op::Unlink(path),
        33..=35 => Op::Rmdir(path),
        36..=41 => Op::Rename(path, other, random.pick(&[Rename::Replace, Rename::NoReplace, Rename::Exchange])),
        42..=44 => Op::Link(path, other),
        45..=46 => Op::SetXattr(path, xattr, len % 400, random.pick(&[0, 0, 1, 2])),
        47 => Op::RemoveXattr(path, xattr),
        48 => Op::Chmod(path, random.below(0o10000) as u32),
        49 => Op::Utimes(path, random.below(1 << 34) as i64 - (1 << 33), random.below(1_000_000_000) as u32),
        50..=51 => Op::CopyRange { from: path, to: other, from_offset: offset, to_offset: draw_offset(random), len },
        52..=54 => Op::Hold(path),
        55..=56 => Op::HeldWrite { index, offset, len, fill },
        57 => Op::HeldTruncate(index, offset),
        58..=59 => Op::HeldRead { index, offset, len },
        60 => Op::Release(index),
        _ => Op::Reopen,
    }
}

fn draw_path(random: &mut Random) -> At {
    let depth = 1 + random.below(3);
    let names: Vec<&str> = (0..depth).map(|_| random.pick(&["a", "b", "c"])).collect();
    // Kept for the life of a test: an operation is then plain data.
    names.join("/").leak()
}

fn draw_offset(random: &mut Random) -> u64 {
    (random.below(10) * 4096 + random.below(5)).saturating_sub(2)
}

/// Does an operation below a folder; returns what the call returned.
pub fn apply(root: &Path, held: &mut Vec<OwnedFd>, operation: Op) -> Result<u64, Errno> {
    let at = |path: At| root.join(path);
    let done = |outcome: Result<(), Errno>| outcome.map(|()| 0);
    match operation {
        Op::Mkdir(path, mode) => done(rustix::fs::mkdir(at(path), Mode::from_raw_mode(mode))),
        Op::Create(path, mode) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK;
            rustix::fs::open(at(path), flags, Mode::from_raw_mode(mode)).map(|_| 0)
        }
        Op::Write { path, offset, len, fill, append } => {
            if append {
                let file = open(root, path, OFlags::WRONLY | OFlags::APPEND)?;
                return Ok(rustix::io::write(&file, &vec![fill; len])? as u64);
            }
            Ok(rustix::io::pwrite(open(root, path, OFlags::WRONLY)?, &vec![fill; len], offset)? as u64)
        }
        Op::Truncate(path, size) => done(rustix::fs::ftruncate(open(root, path, OFlags::WRONLY)?, size)),
        Op::Punch(path, offset, len) => {
            allocate(root, path, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, (offset, len))
        }
        Op::Allocate { path, offset, len, keep_size } => {
            let flags = if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
            allocate(root, path, flags, (offset, len))
        }
        Op::Symlink(target, path) => done(rustix::fs::symlink(target, at(path))),
        Op::Fifo(path) => done(rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from_raw_mode(0o640), 0)),
        Op::Unlink(path) => done(rustix::fs::unlink(at(path))),
        Op::Rmdir(path) => done(rustix::fs::rmdir(at(path))),
        Op::Rename(from, to, mode) => {
            let flags = match mode {
                Rename::Replace => RenameFlags::empty(),
                Rename::NoReplace => RenameFlags::NOREPLACE,
                Rename::Exchange => RenameFlags::EXCHANGE,
            };
            done(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags))
        }
        Op::Link(from, to) => done(rustix::fs::link(at(from), at(to))),
        Op::SetXattr(path, name, len, flags) => {
            done(rustix::fs::setxattr(at(path), name, &vec![7; len], XattrFlags::from_bits_retain(flags)))
        }
        Op::RemoveXattr(path, name) => done(rustix::fs::removexattr(at(path), name)),
        Op::Chmod(path, mode) => done(rustix::fs::chmod(at(path), Mode::from_raw_mode(mode))),
        Op::Utimes(path, secs, nanos) => set_time(root, path, secs, nanos),
        Op::CopyRange { from, to, from_offset, to_offset, len } => {
            let (from, to) = (open(root, from, OFlags::RDONLY)?, open(root, to, OFlags::WRONLY)?);
            let (mut from_at, mut to_at) = (from_offset, to_offset);
            Ok(rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len)? as u64)
        }
        Op::Hold(path) => {
            if held.len() < 3 {
                held.push(open(root, path, OFlags::RDWR)?);
            }
            Ok(held.len() as u64)
        }
        Op::HeldWrite { index, offset, len, fill } => match held.get(index) {
            Some(file) => Ok(rustix::io::pwrite(file, &vec![fill; len], offset)? as u64),
            None => Ok(0),
        },
        Op::HeldTruncate(index, size) => held.get(index).map_or(Ok(0), |file| done(rustix::fs::ftruncate(file, size))),
        Op::HeldRead { index, offset, len } => held.get(index).map_or(Ok(0), |file| read_sum(file, offset, len)),
        Op::Release(index) => {
            if index < held.len() {
                held.remove(index);
            }
            Ok(held.len() as u64)
        }
        Op::Reopen => Ok(0),
    }
}

/// Opens without waiting for the other end of a pipe.
fn open(root: &Path, path: At, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root.join(path), flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Whether it changes the time of change is left open by the manual, so that is set.
fn allocate(root: &Path, path: At, flags: FallocateFlags, (offset, len): (u64, u64)) -> Result<u64, Errno> {
    rustix::fs::fallocate(open(root, path, OFlags::WRONLY)?, flags, offset, len)?;
    set_time(root, path, 1_700_000_000, 5)
}

fn set_time(root: &Path, path: At, secs: i64, nanos: u32) -> Result<u64, Errno> {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, root.join(path), &times, AtFlags::empty()).map(|()| 0)
}

/// What is read, as a number that tells it from anything else.
fn read_sum(file: &OwnedFd, offset: u64, len: usize) -> Result<u64, Errno> {
    let mut bytes = vec![0; len];
    let read = rustix::io::pread(file, &mut bytes, offset)?;
    Ok(bytes[..read].iter().fold(read as u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())))
}
