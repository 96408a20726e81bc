//! What the kernel says is mounted: /proc/self/mountinfo, as proc_pid_mountinfo(5) describes it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type of our mounts.
pub const FS_TYPE: &str = "fuse.vaultfs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Unique as long as the mount lives; the next mount of anybody may get it afterwards.
    pub id: u64,
    /// `major:minor` of the file system; used again in the same way.
    pub device: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Type with subtype.
    pub fs_type: String,
    /// What is mounted: for ours, [`source_of`] their keeper.
    pub source: String,
}

impl MountEntry {
    /// Tells whether a keeper made this mount.
    pub fn is_of(&self, keeper_pid: u32) -> bool {
        self.fs_type == FS_TYPE && self.source == source_of(keeper_pid)
    }
}

/// Name of what a keeper mounts, by which its mounts are told from those of others that get the same id later.
pub fn source_of(keeper_pid: u32) -> String {
    format!("tazpod-{keeper_pid}")
}

/// Reads all mounts that this process sees.
///
/// # Errors
/// /proc cannot be read.
pub fn read() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The uppermost mount at a path, when there is one.
///
/// # Errors
/// /proc cannot be read.
pub fn at(dir: &Path) -> io::Result<Option<MountEntry>> {
    Ok(read()?.into_iter().rfind(|mount| mount.dir == dir))
}

/// Tells whether a mount of ours lies at a path and has nobody who serves it, as after a SIGKILL of its agent.
pub fn is_dead(dir: &Path) -> bool {
    let ours = at(dir).is_ok_and(|mount| mount.is_some_and(|mount| mount.fs_type == FS_TYPE));
    let outcome = rustix::fs::statfs(dir);
    ours && matches!(outcome, Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED))
}

fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Some(MountEntry {
        id: text(fields.first()?).parse().ok()?,
        device: text(fields.get(2)?),
        dir: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        fs_type: text(fields.get(dash + 1)?),
        source: text(fields.get(dash + 2)?),
    })
}

/// Spaces and their like are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits {
            Some(digits) => {
                out.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &after[3..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let text =
            b"36 35 98:0 /mnt1 /home/a\\040b\\134c rw,noatime master:1 shared:2 - fuse.vaultfs tazpod-71 rw\nbroken\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].id, mounts[0].device.as_str(), mounts[0].fs_type.as_str()), (36, "98:0", FS_TYPE));
        assert_eq!(mounts[0].dir, Path::new("/home/a b\\c"));
        assert!(mounts[0].is_of(71) && !mounts[0].is_of(7));
    }

    #[test]
    fn this_machine_has_a_root_mount() {
        assert!(at(Path::new("/")).unwrap().is_some());
    }
}
