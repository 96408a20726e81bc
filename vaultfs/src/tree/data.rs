//! Content: reading, writing, holes. Changes take the inode's write gate, seal outside the tree's lock, and are put in
//! place in one step, so that a reader or a snapshot sees all of a write or nothing.

use std::cell::Cell;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::PageCipher;

use super::attributes::kill_suid_sgid;
use super::content::{Content, ContentPatch};
use super::inode::Node;
use super::{AllocateMode, Ino, SeekTarget, Stat, Tree, TreeError, WriteOptions};

/// Bytes that `copy_range` moves at a time.
const COPY_STEP: u64 = 256 * 1024;

/// Bytes from which on a writer does not wait until they are sealed: it takes longer than to wake it.
const LONG_WRITE: usize = 64 * 1024;

impl Tree {
    /// Fills `out` from `offset` on; returns how many bytes there were.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::IsFolder`], [`TreeError::Invalid`] (not a file), [`TreeError::Sealing`].
    pub fn read(&self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize, TreeError> {
        let slice = self.state.read().file(ino)?.content.slice(offset, out.len());
        self.sealer.with_cipher(|cipher| slice.open(cipher, out))
    }

    /// Writes all of `data` or nothing.
    ///
    /// # Errors
    /// As for [`Tree::read`], [`TreeError::NoSpace`], [`TreeError::FileTooLarge`].
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], options: WriteOptions) -> Result<Stat, TreeError> {
        self.change_content(
            ino,
            |content, cipher| {
                let offset = self.place_of_write(content, offset, data.len(), options)?;
                content.prepare_write(cipher, offset, data)
            },
            |_| {},
            options.kill_suid_sgid,
        )
    }

    /// The same, and `answer` is called when it can fail no more. Where there are many bytes that is before they are sealed, so
    /// that the writer goes on meanwhile. The tree's lock is held until they are in place: nobody sees the file without them,
    /// and others wait some 0.4 ms for each MiB. `answer` must be quick and must not call the tree; it is not called on errors.
    ///
    /// # Errors
    /// As for [`Tree::write`].
    pub fn write_answering(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        options: WriteOptions,
        answer: impl FnOnce(),
    ) -> Result<(), TreeError> {
        if data.len() < LONG_WRITE {
            self.write(ino, offset, data, options)?;
            answer();
            return Ok(());
        }
        let place = Cell::new(offset);
        self.change_content(
            ino,
            |content, cipher| {
                place.set(self.place_of_write(content, offset, data.len(), options)?);
                content.prepare_long_write(cipher, place.get(), data)
            },
            |patch| {
                answer();
                self.sealer.with_cipher(|cipher| patch.seal_whole_pages(cipher, place.get(), data));
            },
            options.kill_suid_sgid,
        )?;
        Ok(())
    }

    /// Tells where a write goes, if a file may grow that far.
    fn place_of_write(
        &self,
        content: &Content,
        offset: u64,
        len: usize,
        options: WriteOptions,
    ) -> Result<u64, TreeError> {
        let offset = if options.append { content.size() } else { offset };
        let end = offset.checked_add(len as u64).ok_or(TreeError::FileTooLarge)?;
        self.state.read().check_logical(content.size(), end.max(content.size()))?;
        Ok(offset)
    }

    /// Cuts or extends a file.
    ///
    /// # Errors
    /// As for [`Tree::write`].
    pub(super) fn resize(&self, ino: Ino, size: u64) -> Result<Stat, TreeError> {
        self.change_content(ino, |content, cipher| content.prepare_resize(cipher, size), |_| {}, false)
    }

    /// Reserves, zeroes or frees a range, as fallocate(2).
    ///
    /// # Errors
    /// As for [`Tree::write`]; [`TreeError::Invalid`] for an empty range.
    pub fn allocate(&self, ino: Ino, offset: u64, len: u64, mode: AllocateMode) -> Result<(), TreeError> {
        let end = offset.checked_add(len).ok_or(TreeError::FileTooLarge)?;
        if len == 0 {
            return Err(TreeError::Invalid);
        }
        self.change_content(
            ino,
            |content, cipher| {
                let range = offset..end;
                match mode {
                    AllocateMode::Extend | AllocateMode::KeepSize => {
                        let size = (mode == AllocateMode::Extend).then_some(end);
                        self.check_reservation(content, end)?;
                        Ok(content.prepare_reserve(range, size))
                    }
                    AllocateMode::PunchHole | AllocateMode::ZeroRangeKeepSize => content.prepare_hole(cipher, range),
                    AllocateMode::ZeroRange => {
                        let mut patch = content.prepare_hole(cipher, range)?;
                        patch.extend_to(content, end);
                        Ok(patch)
                    }
                }
            },
            |_| {},
            false,
        )?;
        Ok(())
    }

    /// Refuses a reservation that cannot fit before a page of it is prepared.
    fn check_reservation(&self, content: &Content, end: u64) -> Result<(), TreeError> {
        let state = self.state.read();
        state.check_logical(content.size(), end.max(content.size()))?;
        if end > state.options.size_limit { Err(TreeError::NoSpace) } else { Ok(()) }
    }

    /// Finds data or a hole at or after `offset`.
    ///
    /// # Errors
    /// [`TreeError::NoData`]: `offset` is past the end, or only a hole follows.
    pub fn seek(&self, ino: Ino, offset: u64, target: SeekTarget) -> Result<u64, TreeError> {
        let state = self.state.read();
        let content = &state.file(ino)?.content;
        if offset >= content.size() {
            return Err(TreeError::NoData);
        }
        match target {
            SeekTarget::Data => content.next_data(offset).ok_or(TreeError::NoData),
            SeekTarget::Hole => Ok(content.next_hole(offset)),
        }
    }

    /// Copies a range between files, or within one; returns how many bytes there were to copy.
    ///
    /// # Errors
    /// As for [`Tree::read`] and [`Tree::write`]; what was copied before an error stays, and its length is returned then.
    pub fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64, TreeError> {
        let mut buffer = Zeroizing::new(vec![0; len.min(COPY_STEP) as usize]);
        let mut copied = 0;
        while copied < len {
            let step = (len - copied).min(COPY_STEP) as usize;
            let read = self.read(from, from_offset + copied, &mut buffer[..step])?;
            if read == 0 {
                break;
            }
            match self.write(to, to_offset + copied, &buffer[..read], WriteOptions::default()) {
                Ok(_) => copied += read as u64,
                Err(_) if copied > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    /// Prepares a change of content without the tree's lock, then puts it in place. `complete` is called in between, with the
    /// lock, when nothing can fail any more.
    fn change_content(
        &self,
        ino: Ino,
        prepare: impl FnOnce(&Content, &PageCipher<'_>) -> Result<ContentPatch, TreeError>,
        complete: impl FnOnce(&mut ContentPatch),
        kill: bool,
    ) -> Result<Stat, TreeError> {
        let gate = self.state.read().file(ino)?.write_gate.clone();
        let _gate = gate.lock();
        // Nobody else changes the content while the gate is held; the table is shared, not copied.
        let content = self.state.read().file(ino)?.content.clone();
        let mut patch = self.sealer.with_cipher(|cipher| prepare(&content, cipher))?;
        let (size, allocated) = (content.size_after(&patch), content.allocated_after(&patch));
        let old = (content.size(), content.allocated());
        drop(content);
        self.change(|state| {
            state.file(ino)?;
            state.check_logical(old.0, size)?;
            state.check_growth(allocated.saturating_sub(old.1), 0)?;
            let now = state.stamp();
            let inode = state.inode_mut(ino)?;
            let Node::File(file) = &mut inode.node else { return Err(TreeError::Invalid) };
            complete(&mut patch);
            Arc::make_mut(&mut file.content).apply(&mut patch);
            inode.mtime = now;
            inode.ctime = now;
            if kill {
                kill_suid_sgid(inode);
            }
            let stat = inode.stat(ino);
            state.recount((old.1, allocated), (old.0, size));
            Ok(stat)
        })
    }
}
