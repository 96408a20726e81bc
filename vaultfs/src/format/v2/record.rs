//! Records: what the plaintext of a segment is made of.

use crate::entry::{Attributes, Change, DATA_MAX, InodeId, InodeKind, Timestamp};

use super::cursor::Cursor;
use super::deflate::Deflater;
use super::{Chain, Head, SHARED_MAX, Sequence, SharedHead};

/// The end of the records.
pub(super) const END: u8 = 0;
pub(super) const COMMIT: u8 = 1;
pub(super) const INODE: u8 = 2;
pub(super) const DATA: u8 = 3;
pub(super) const TARGET: u8 = 4;
pub(super) const LINK: u8 = 5;
pub(super) const UNLINK: u8 = 6;
pub(super) const SET_XATTR: u8 = 7;
pub(super) const REMOVE_XATTR: u8 = 8;
pub(super) const HOLE: u8 = 9;
pub(super) const DROP: u8 = 10;
pub(super) const ANCESTORS: u8 = 11;
pub(super) const HEADER: u8 = 12;
pub(super) const SHARED: u8 = 13;

/// Bytes of a record before its body: type and length.
const FRAME_LEN: usize = 5;

/// Bytes of a head: number and chain value.
const HEAD_LEN: usize = 40;

/// Bytes of one head in a record of shared heads.
const SHARED_LEN: usize = 8 + HEAD_LEN;

/// Bytes of a short text at most.
const SHORT_TEXT_MAX: usize = 255;

/// The longest body of a record, in bytes, by its type.
pub(super) const fn body_max(kind: u8) -> usize {
    match kind {
        ANCESTORS => 1 << 20,
        SHARED => SHARED_MAX * SHARED_LEN,
        _ => DATA_MAX + 1024,
    }
}

/// Names a machine: 16 random bytes that it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MachineId(pub [u8; 16]);

/// Heads that a merge brought together.
pub type ParentList = Vec<Head>;

/// Who made a commit, when, with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Nanoseconds since the Unix epoch.
    pub time_nanos: i64,
    /// The machine.
    pub machine: MachineId,
    /// Its name, cut to 255 bytes.
    pub host: String,
    /// Of the program, cut to 255 bytes.
    pub version: String,
    /// The second parent of a merge; at most one.
    pub merged: ParentList,
}

/// One record.
#[derive(Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// The first of every segment.
    Commit(CommitInfo),
    /// Of a checkpoint: segments before it, oldest first.
    Ancestors(Vec<Head>),
    /// SHA-256 of the header that the archive has from here on.
    Header([u8; 32]),
    /// Heads that other machines may know, in rising order: all of the last year in a checkpoint, in a delta those that came since.
    Shared(Vec<SharedHead>),
    /// A piece of the tree.
    Change(Change<'a>),
}

impl Record<'_> {
    /// Appends type, length and body.
    pub(super) fn encode(&self, out: &mut Vec<u8>, deflater: &mut Deflater) {
        out.push(self.kind());
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Commit(info) => put_commit(out, info),
            Self::Ancestors(heads) => heads.iter().for_each(|head| put_head(out, head)),
            Self::Header(digest) => out.extend_from_slice(digest),
            Self::Shared(heads) => heads.iter().for_each(|shared| put_shared(out, shared)),
            Self::Change(change) => put_change(out, change, deflater),
        }
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Bytes that [`Record::encode`] appends at most.
    pub(super) fn len_max(&self) -> usize {
        let body = match self {
            Self::Commit(info) => 2 * SHORT_TEXT_MAX + 64 + info.merged.len() * HEAD_LEN,
            Self::Ancestors(heads) => heads.len() * HEAD_LEN,
            Self::Header(digest) => digest.len(),
            Self::Shared(heads) => heads.len() * SHARED_LEN,
            Self::Change(change) => match change {
                Change::Target(bytes) | Change::RemoveXattr(bytes) | Change::Data { bytes, .. } => bytes.len() + 16,
                Change::SetXattr { name, value } => name.len() + value.len() + 1,
                Change::Unlink { name, .. } | Change::Link { name, .. } => name.len() + 32,
                Change::Inode { .. } | Change::Hole { .. } | Change::Drop(_) => 80,
            },
        };
        FRAME_LEN + body
    }

    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Commit(_) => COMMIT,
            Self::Ancestors(_) => ANCESTORS,
            Self::Header(_) => HEADER,
            Self::Shared(_) => SHARED,
            Self::Change(change) => match change {
                Change::Inode { .. } => INODE,
                Change::Target(_) => TARGET,
                Change::Hole { .. } => HOLE,
                Change::Data { .. } => DATA,
                Change::SetXattr { .. } => SET_XATTR,
                Change::RemoveXattr(_) => REMOVE_XATTR,
                Change::Unlink { .. } => UNLINK,
                Change::Link { .. } => LINK,
                Change::Drop(_) => DROP,
            },
        }
    }
}

fn put_head(out: &mut Vec<u8>, head: &Head) {
    out.extend_from_slice(&head.sequence.0.to_le_bytes());
    out.extend_from_slice(&head.chain.0);
}

fn put_shared(out: &mut Vec<u8>, shared: &SharedHead) {
    out.extend_from_slice(&shared.time_secs.to_le_bytes());
    put_head(out, &shared.head);
}

fn put_commit(out: &mut Vec<u8>, info: &CommitInfo) {
    out.extend_from_slice(&info.time_nanos.to_le_bytes());
    out.extend_from_slice(&info.machine.0);
    put_text(out, &info.host);
    put_text(out, &info.version);
    out.push(info.merged.len() as u8);
    info.merged.iter().for_each(|head| put_head(out, head));
}

/// A text of at most 255 bytes, cut where a character ends.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = text.floor_char_boundary(SHORT_TEXT_MAX);
    out.push(len as u8);
    out.extend_from_slice(&text.as_bytes()[..len]);
}

fn put_change(out: &mut Vec<u8>, change: &Change<'_>, deflater: &mut Deflater) {
    match change {
        Change::Inode { id, kind, attributes } => put_inode(out, id, kind, attributes),
        Change::Target(target) => out.extend_from_slice(target),
        Change::Hole { offset, length } => {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
        Change::Data { offset, bytes } => {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            let small = deflater.deflate(bytes);
            out.push(u8::from(small.is_some()));
            out.extend_from_slice(small.unwrap_or(bytes));
        }
        Change::SetXattr { name, value } => {
            out.push(name.len() as u8);
            out.extend_from_slice(name);
            out.extend_from_slice(value);
        }
        Change::RemoveXattr(name) => out.extend_from_slice(name),
        Change::Unlink { parent, name } => {
            out.extend_from_slice(&parent.0);
            out.extend_from_slice(name);
        }
        Change::Link { parent, id, name } => {
            out.extend_from_slice(&parent.0);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(name);
        }
        Change::Drop(id) => out.extend_from_slice(&id.0),
    }
}

fn put_inode(out: &mut Vec<u8>, id: &InodeId, kind: &InodeKind, attributes: &Attributes) {
    let (kind, size, rdev): (u8, u64, u64) = match *kind {
        InodeKind::Folder => (1, 0, 0),
        InodeKind::File { size } => (2, size, 0),
        InodeKind::Symlink => (3, 0, 0),
        InodeKind::Fifo => (4, 0, 0),
        InodeKind::Socket => (5, 0, 0),
        InodeKind::CharDevice { rdev } => (6, 0, rdev),
        InodeKind::BlockDevice { rdev } => (7, 0, rdev),
    };
    out.extend_from_slice(&id.0);
    out.push(kind);
    out.extend_from_slice(&attributes.mode.to_le_bytes());
    for time in [attributes.mtime, attributes.ctime] {
        out.extend_from_slice(&time.secs.to_le_bytes());
        out.extend_from_slice(&time.nanos.to_le_bytes());
    }
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&rdev.to_le_bytes());
}

/// Reads the body of a record; `None` when it is not what its type says. `inflate` makes of compressed content exactly so many bytes.
pub(super) fn decode<'a>(
    kind: u8,
    body: &'a [u8],
    inflate: impl FnOnce(&'a [u8], usize) -> Option<&'a [u8]>,
) -> Option<Record<'a>> {
    let mut cursor = Cursor(body);
    let change = match kind {
        COMMIT => return take_commit(cursor).map(Record::Commit),
        ANCESTORS => return take_ancestors(cursor).map(Record::Ancestors),
        HEADER => {
            let digest = cursor.array()?;
            return cursor.end(Record::Header(digest));
        }
        SHARED => return take_shared(cursor).map(Record::Shared),
        INODE => return take_inode(cursor).map(Record::Change),
        TARGET => Change::Target(cursor.rest()),
        HOLE => Change::Hole { offset: cursor.u64()?, length: cursor.u64()? },
        DATA => take_data(&mut cursor, inflate)?,
        SET_XATTR => {
            let len = cursor.u8()?;
            Change::SetXattr { name: cursor.take(len.into())?, value: cursor.rest() }
        }
        REMOVE_XATTR => Change::RemoveXattr(cursor.rest()),
        UNLINK => Change::Unlink { parent: InodeId(cursor.array()?), name: cursor.rest() },
        LINK => Change::Link { parent: InodeId(cursor.array()?), id: InodeId(cursor.array()?), name: cursor.rest() },
        DROP => Change::Drop(InodeId(cursor.array()?)),
        _ => return None,
    };
    cursor.end(Record::Change(change))
}

fn take_head(cursor: &mut Cursor<'_>) -> Option<Head> {
    Some(Head { sequence: Sequence(cursor.u64()?), chain: Chain(cursor.array()?) })
}

fn take_commit(mut cursor: Cursor<'_>) -> Option<CommitInfo> {
    let (time_nanos, machine) = (cursor.i64()?, MachineId(cursor.array()?));
    let (host, version) = (cursor.short_text()?.to_owned(), cursor.short_text()?.to_owned());
    let merged = match cursor.u8()? {
        0 => Vec::new(),
        1 => vec![take_head(&mut cursor)?],
        _ => return None,
    };
    cursor.end(CommitInfo { time_nanos, machine, host, version, merged })
}

fn take_ancestors(mut cursor: Cursor<'_>) -> Option<Vec<Head>> {
    let mut heads: Vec<Head> = Vec::with_capacity(cursor.0.len() / HEAD_LEN);
    while !cursor.0.is_empty() {
        let head = take_head(&mut cursor)?;
        if heads.last().is_some_and(|last| last.sequence >= head.sequence) {
            return None;
        }
        heads.push(head);
    }
    Some(heads)
}

fn take_shared(mut cursor: Cursor<'_>) -> Option<Vec<SharedHead>> {
    let mut heads: Vec<SharedHead> = Vec::with_capacity(cursor.0.len() / SHARED_LEN);
    while !cursor.0.is_empty() {
        let shared = SharedHead { time_secs: cursor.i64()?, head: take_head(&mut cursor)? };
        if heads.last().is_some_and(|last| last.head >= shared.head) {
            return None;
        }
        heads.push(shared);
    }
    (heads.len() <= SHARED_MAX).then_some(heads)
}

fn take_inode(mut cursor: Cursor<'_>) -> Option<Change<'static>> {
    let (id, kind, mode) = (InodeId(cursor.array()?), cursor.u8()?, cursor.u32()?);
    let (mtime, ctime) = (take_time(&mut cursor)?, take_time(&mut cursor)?);
    let (size, rdev) = (cursor.u64()?, cursor.u64()?);
    let kind = match (kind, size, rdev) {
        (1, 0, 0) => InodeKind::Folder,
        (2, size, 0) => InodeKind::File { size },
        (3, 0, 0) => InodeKind::Symlink,
        (4, 0, 0) => InodeKind::Fifo,
        (5, 0, 0) => InodeKind::Socket,
        (6, 0, rdev) => InodeKind::CharDevice { rdev },
        (7, 0, rdev) => InodeKind::BlockDevice { rdev },
        _ => return None,
    };
    if mode > 0o7777 {
        return None;
    }
    cursor.end(Change::Inode { id, kind, attributes: Attributes { mode, mtime, ctime } })
}

fn take_time(cursor: &mut Cursor<'_>) -> Option<Timestamp> {
    let time = Timestamp { secs: cursor.i64()?, nanos: cursor.u32()? };
    (time.nanos < 1_000_000_000).then_some(time)
}

fn take_data<'a>(
    cursor: &mut Cursor<'a>,
    inflate: impl FnOnce(&'a [u8], usize) -> Option<&'a [u8]>,
) -> Option<Change<'a>> {
    let (offset, length, encoding) = (cursor.u64()?, cursor.u32()? as usize, cursor.u8()?);
    let body = cursor.rest();
    if !(1..=DATA_MAX).contains(&length) {
        return None;
    }
    let bytes = match encoding {
        0 if body.len() == length => body,
        1 => inflate(body, length)?,
        _ => return None,
    };
    Some(Change::Data { offset, bytes })
}

/// The compressed content of a record that has some, and how many bytes it says that it makes, at most [`DATA_MAX`].
pub(super) fn packed(kind: u8, body: &[u8]) -> Option<(&[u8], usize)> {
    let mut packed = None;
    if kind == DATA {
        let note = |bytes, length| {
            packed = Some((bytes, length));
            None
        };
        let _ = take_data(&mut Cursor(body), note);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::v2::deflate::Inflater;

    fn nothing(_: &[u8], _: usize) -> Option<&[u8]> {
        None
    }

    fn records() -> Vec<Record<'static>> {
        let head = |sequence| Head { sequence: Sequence(sequence), chain: Chain([7; 32]) };
        let time = |secs| Timestamp { secs, nanos: 999_999_999 };
        let attributes = Attributes { mode: 0o7777, mtime: time(-5), ctime: time(1 << 40) };
        let (id, parent) = (InodeId([1; 16]), InodeId::ROOT);
        let info = CommitInfo {
            time_nanos: -3,
            machine: MachineId([9; 16]),
            host: "é".repeat(127),
            version: "1".into(),
            merged: vec![head(4)],
        };
        let mut records = vec![
            Record::Commit(CommitInfo { merged: Vec::new(), ..info.clone() }),
            Record::Commit(CommitInfo { version: "2".repeat(255), ..info.clone() }),
            Record::Commit(info),
            Record::Ancestors(vec![head(1), head(2)]),
            Record::Header([3; 32]),
            Record::Shared(vec![
                SharedHead { time_secs: -4, head: head(9) },
                SharedHead { time_secs: i64::MIN, head: Head { chain: Chain([8; 32]), ..head(9) } },
            ]),
        ];
        let kinds = [
            InodeKind::Folder,
            InodeKind::File { size: u64::MAX },
            InodeKind::Symlink,
            InodeKind::Fifo,
            InodeKind::Socket,
            InodeKind::CharDevice { rdev: 259 },
            InodeKind::BlockDevice { rdev: u64::MAX },
        ];
        records.extend(kinds.map(|kind| Record::Change(Change::Inode { id, kind, attributes })));
        records.extend(
            [
                Change::Target(b"../target"),
                Change::Hole { offset: 3, length: u64::MAX },
                Change::Data { offset: 9, bytes: b"secret" },
                Change::Data { offset: 9, bytes: &[0; DATA_MAX] },
                Change::SetXattr { name: b"user.a", value: b"" },
                Change::RemoveXattr(b"user.a"),
                Change::Unlink { parent, name: b"\xff" },
                Change::Link { parent, id, name: b"name" },
                Change::Drop(id),
            ]
            .map(Record::Change),
        );
        records
    }

    #[test]
    fn records_come_back_and_no_cut_of_them_does() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::default());
        for record in records() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes, &mut deflater);
            assert!(bytes.len() <= record.len_max(), "type {} is longer than it may be", record.kind());
            let (kind, body) = (bytes[0], &bytes[5..]);
            assert_eq!(u32::from_le_bytes(bytes[1..5].try_into().unwrap()) as usize, body.len());
            assert!(
                decode(kind, body, |bytes, length| inflater.inflate(bytes, length)) == Some(record.clone()),
                "type {kind}"
            );
            let is_open_ended = matches!(kind, TARGET | SET_XATTR | REMOVE_XATTR | UNLINK | LINK | ANCESTORS | SHARED);
            for cut in (0..body.len()).filter(|_| !is_open_ended) {
                assert!(
                    decode(kind, &body[..cut], |bytes, length| inflater.inflate(bytes, length)).is_none(),
                    "type {kind} cut at {cut}"
                );
            }
        }
        assert!(decode(14, b"", nothing).is_none());
    }

    #[test]
    fn shared_heads_rise_and_are_not_too_many() {
        let body = |numbers: &[u64]| {
            let mut body = Vec::new();
            for &number in numbers {
                let head = Head { sequence: Sequence(number), chain: Chain([1; 32]) };
                put_shared(&mut body, &SharedHead { time_secs: 5, head });
            }
            body
        };
        let many: Vec<u64> = (0..SHARED_MAX as u64).collect();
        for sound in [&[][..], &[3], &[3, 4], &many] {
            assert!(
                matches!(decode(SHARED, &body(sound), nothing), Some(Record::Shared(heads)) if heads.len() == sound.len())
            );
        }
        let too_many: Vec<u64> = (0..=SHARED_MAX as u64).collect();
        for wrong in [&[3, 3][..], &[4, 3], &too_many] {
            assert!(decode(SHARED, &body(wrong), nothing).is_none());
        }
        assert!(decode(SHARED, &body(&[3])[1..], nothing).is_none());
    }
}
