//! What clients ask of an unlocked vault's past: its commits, files as they were, the way back, and whether all is well. The
//! file is read beside whatever is served: the archive is held only while a way to its bytes is taken.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use vaultfs::entry::{EntryKind, EntryPath};
use vaultfs::tree::PathChange;
use vaultfs::vault::{self, CheckReport, PastEntry, Vault, Verdict};

use super::failure::causes;
use super::frames::{self, FrameWriter};
use super::protocol::{Answer, Failure};
use super::server::{Server, entry_path};

/// Replaced files that are named; of more only the number is told.
const REPLACED_SHOWN: usize = 20;

/// One commit. The names are those of `tazpod log --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// Its number.
    pub number: u64,
    /// Nanoseconds since the epoch.
    pub time_nanos: i64,
    /// Name of the machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// The oldest that the archive holds: what it changed is not known.
    pub oldest: bool,
    /// The passphrase or the recipients were changed.
    pub new_header: bool,
    /// Entries after it.
    pub entries: u64,
    /// What it changed.
    pub changes: Vec<Change>,
}

/// What happened to a path. Names that are not UTF-8 are made printable.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "lowercase")]
pub enum Change {
    /// It came.
    Created {
        /// Within the vault.
        path: String,
    },
    /// It holds something else.
    Changed {
        /// Within the vault.
        path: String,
    },
    /// It was moved.
    Renamed {
        /// Where it was.
        from: String,
        /// Where it is.
        path: String,
    },
    /// It went.
    Deleted {
        /// Within the vault.
        path: String,
    },
}

/// What was put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// Entries, folders included.
    pub entries: u64,
    /// How many files were replaced.
    pub replaced: u64,
    /// The first of them.
    pub replaced_paths: Vec<String>,
    /// The commit that holds what was there before.
    pub before: u64,
}

/// What a check found. The names are those of `tazpod check --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// `sound`, `torn`, `damaged`, `rolled-back`, `other-vault` or `unknown-key`.
    pub status: String,
    /// Version of the format.
    pub format: String,
    /// Segments that are sound, from the first on.
    pub segments: u64,
    /// Commits since the checkpoint.
    pub commits: u64,
    /// Bytes that were looked at and are sound.
    pub bytes: u64,
    /// Files in the last sound state.
    pub files: u64,
    /// Entries in it, the root included.
    pub entries: u64,
    /// The oldest commit.
    pub oldest: Option<u64>,
    /// The last sound commit.
    pub head: Option<u64>,
    /// Its chain value.
    pub chain: Option<String>,
    /// Where it is damaged or cut off.
    pub offset: Option<u64>,
    /// The number of the commit that should be there.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub reason: Option<String>,
    /// The commit that this machine has seen, where the archive does not follow from it.
    pub seen: Option<u64>,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl From<&vault::Commit> for Commit {
    fn from(commit: &vault::Commit) -> Self {
        Self {
            number: commit.number,
            time_nanos: commit.info.time_nanos,
            host: commit.info.host.clone(),
            version: commit.info.version.clone(),
            oldest: commit.is_oldest,
            new_header: commit.is_new_header,
            entries: commit.entries,
            changes: commit.changes.iter().map(Change::from).collect(),
        }
    }
}

impl From<&PathChange> for Change {
    fn from(change: &PathChange) -> Self {
        let text = |path: &EntryPath| match path.is_root() {
            true => ".".to_owned(),
            false => String::from_utf8_lossy(path.as_bytes()).into_owned(),
        };
        match change {
            PathChange::Created(path) => Self::Created { path: text(path) },
            PathChange::Changed(path) => Self::Changed { path: text(path) },
            PathChange::Renamed { from, to } => Self::Renamed { from: text(from), path: text(to) },
            PathChange::Deleted(path) => Self::Deleted { path: text(path) },
        }
    }
}

impl From<&vault::Restored> for Restored {
    fn from(restored: &vault::Restored) -> Self {
        let text = |path: &EntryPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        Self {
            entries: restored.entries,
            replaced: restored.replaced.len() as u64,
            replaced_paths: restored.replaced.iter().take(REPLACED_SHOWN).map(text).collect(),
            before: restored.before,
        }
    }
}

impl Checked {
    /// Puts what was found into words.
    pub fn new(report: &CheckReport) -> Self {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (mut offset, mut sequence, mut reason, mut seen) = (None, None, None, None);
        let status = match &report.verdict {
            Verdict::Sound => "sound",
            Verdict::Torn { offset: at, .. } => {
                offset = Some(*at);
                "torn"
            }
            Verdict::Damaged { offset: at, sequence: number, reason: what } => {
                (offset, sequence, reason) = (Some(*at), Some(*number), Some(what.clone()));
                "damaged"
            }
            Verdict::RolledBack { seen: number, .. } => {
                seen = Some(*number);
                "rolled-back"
            }
            Verdict::OtherVault => "other-vault",
            Verdict::UnknownMaster => "unknown-key",
        };
        Self {
            status: status.to_owned(),
            format: if report.segments == 0 && report.verdict == Verdict::Sound { "v1" } else { "v2" }.to_owned(),
            segments: report.segments,
            commits: report.commits,
            bytes: report.bytes,
            files: report.files,
            entries: report.entries,
            oldest: report.oldest,
            head: report.head.map(|(number, _)| number),
            chain: report.head.map(|(_, chain)| hex(&chain)),
            offset,
            sequence,
            reason,
            seen,
        }
    }
}

impl Server {
    pub(super) fn log(&self, path: Option<Vec<u8>>, stream: &mut UnixStream) -> io::Result<()> {
        let begun = path.map(|path| entry_path(&path)).transpose();
        let begun = begun.and_then(|path| Ok((path, self.vault.log().map_err(|error| Failure::from(&error))?)));
        let (path, history) = match begun {
            Ok(begun) => begun,
            Err(failure) => return frames::write(stream, &Answer::Failed(failure)),
        };
        stream_out(stream, Answer::Stream, |output| {
            let mut take = |commit: &vault::Commit| write_line(output, &Commit::from(commit));
            history.commits(path.as_ref(), &mut take).map_err(|error| Failure::from(&error)).map(|()| Answer::Done)
        })
    }

    pub(super) fn show(&self, number: u64, path: &[u8], stream: &mut UnixStream) -> io::Result<()> {
        let past = entry_path(path).and_then(|path| find(&self.vault, number, &path));
        match past {
            Err(failure) => frames::write(stream, &Answer::Failed(failure)),
            Ok(past) => {
                let begin = if past.kind() == EntryKind::Folder { Answer::Listing } else { Answer::Stream };
                stream_out(stream, begin, |output| write_past(&past, output).map(|()| Answer::Done))
            }
        }
    }

    pub(super) fn restore(&self, number: u64, path: &[u8], to: Option<&[u8]>) -> Result<Restored, Failure> {
        if self.read_only {
            return Err(Failure::Other("the vault is read-only".to_owned()));
        }
        let (path, to) = (entry_path(path)?, to.map(entry_path).transpose()?);
        let outcome = self.vault.restore(number, &path, to.as_ref()).map_err(|error| Failure::from(&error));
        self.mounts.invalidate_all();
        let restored = Restored::from(&outcome?);
        self.save()?;
        Ok(restored)
    }

    pub(super) fn check(&self, stream: &mut UnixStream) -> io::Result<()> {
        stream_out(stream, Answer::Stream, |output| {
            let mut tell = |done, total| {
                write_line(output, &Progress { done, total })?;
                output.flush()
            };
            let report = self.vault.check(&mut tell).map_err(|error| Failure::from(&error))?;
            Ok(Answer::Checked(Box::new(Checked::new(&report))))
        })
    }
}

/// Finds what was at a path after a commit.
pub fn find(vault: &Vault, number: u64, path: &EntryPath) -> Result<PastEntry, Failure> {
    vault.log().and_then(|history| history.at(number, path)).map_err(|error| Failure::from(&error))
}

/// Writes the content of a file, or what is in a folder, a line a name, folders with a slash behind them.
pub fn write_past(past: &PastEntry, output: &mut dyn Write) -> Result<(), Failure> {
    if past.kind() != EntryKind::Folder {
        return past.write_content(output).map_err(|error| Failure::from(&error));
    }
    let mut write = || {
        past.list().iter().try_for_each(|(name, kind)| {
            output.write_all(name)?;
            output.write_all(if *kind == EntryKind::Folder { b"/\n" } else { b"\n" })
        })
    };
    write().map_err(|error| Failure::Other(causes(Some(&error)).join(": ")))
}

fn write_line<T: Serialize>(output: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line)
}

/// Answers with frames, and at their end with how it went.
fn stream_out(
    stream: &mut UnixStream,
    begin: Answer,
    work: impl FnOnce(&mut FrameWriter<UnixStream>) -> Result<Answer, Failure>,
) -> io::Result<()> {
    frames::write(stream, &begin)?;
    let mut writer = FrameWriter::new(stream.try_clone()?);
    let outcome = work(&mut writer);
    writer.finish()?;
    frames::write(stream, &outcome.unwrap_or_else(Answer::Failed))
}
