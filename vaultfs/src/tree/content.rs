//! The content of one file: sealed pages in a sparse table. Sealing happens in callers, mostly outside the tree's lock.

use std::ops::Range;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use zeroize::Zeroizing;

use crate::crypto::{PAGE_SIZE, PageCipher, SealedPage};

use super::TreeError;

const PAGE: u64 = PAGE_SIZE as u64;

/// One page of a file. What a page does not hold up to [`PAGE_SIZE`] reads as zeros.
#[derive(Clone)]
pub(super) enum Page {
    /// Sealed bytes, shared with snapshots.
    Sealed(Arc<SealedPage>),
    /// Reserved by `fallocate` and never written: counts as a whole page, reads as zeros.
    Reserved,
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Page::Sealed(left), Page::Sealed(right)) => Arc::ptr_eq(left, right),
            (Page::Reserved, Page::Reserved) => true,
            _ => false,
        }
    }
}

impl Page {
    fn cost(&self) -> u64 {
        match self {
            Page::Sealed(page) => page.len() as u64,
            Page::Reserved => PAGE,
        }
    }

    /// Opens the page into the front of `out` and zeroes the rest; returns how many bytes the page holds.
    pub fn open_padded(&self, cipher: &PageCipher<'_>, out: &mut [u8; PAGE_SIZE]) -> Result<usize, TreeError> {
        match self {
            Page::Sealed(page) => {
                let held = page.len();
                cipher.open(page, &mut out[..held]).map_err(|_| TreeError::Sealing)?;
                out[held..].fill(0);
                Ok(held)
            }
            Page::Reserved => {
                out.fill(0);
                Ok(0)
            }
        }
    }
}

/// The pages of a file and its logical size. Pages past the size exist only as reservations.
#[derive(Clone, Default)]
pub(super) struct Content {
    pages: OrdMap<u64, Page>,
    size: u64,
    allocated: u64,
}

/// Prepared changes of a content, to be applied under the tree's lock in one step.
#[derive(Default)]
pub(super) struct ContentPatch {
    /// Pages to be replaced, or removed where there is none.
    pages: Vec<(u64, Option<Page>)>,
    /// A whole range of pages to be removed, before `pages` are put in.
    removed: Option<Range<u64>>,
    /// The new size, when it changes.
    size: Option<u64>,
}

impl ContentPatch {
    /// Lets the file grow to `end`, unless it is longer already.
    pub fn extend_to(&mut self, content: &Content, end: u64) {
        self.size = (end > content.size).then_some(end);
    }

    /// Puts the pages into a patch of [`Content::prepare_long_write`] that lie in `data` as a whole.
    pub fn seal_whole_pages(&mut self, cipher: &PageCipher<'_>, offset: u64, data: &[u8]) {
        for ((_, page), (_, _, piece)) in self.pages.iter_mut().zip(pieces(offset, data)) {
            if piece.len() == PAGE_SIZE {
                *page = Some(Page::Sealed(Arc::new(cipher.seal(piece))));
            }
        }
    }
}

impl Content {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes held or reserved.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Checks the counter against the pages.
    #[cfg(test)]
    pub fn assert_counted(&self) {
        assert_eq!(self.allocated, self.pages.iter().map(|(_, page)| page.cost()).sum::<u64>());
    }

    pub fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// Puts in a page of a file that is being loaded.
    pub fn insert(&mut self, index: u64, page: SealedPage) {
        self.put(index, Some(Page::Sealed(Arc::new(page))));
    }

    /// A page that holds bytes.
    pub fn sealed(&self, index: u64) -> Option<&Page> {
        self.pages.get(&index).filter(|page| matches!(page, Page::Sealed(_)))
    }

    /// All pages that hold bytes, in order.
    pub fn sealed_pages(&self) -> impl Iterator<Item = (u64, &SealedPage)> {
        self.pages.iter().filter_map(|(&index, page)| match page {
            Page::Sealed(page) => Some((index, &**page)),
            Page::Reserved => None,
        })
    }

    /// Bytes that [`Content::allocated`] will be once the patch is applied.
    pub fn allocated_after(&self, patch: &ContentPatch) -> u64 {
        let removed =
            patch.removed.clone().map_or(0, |range| self.pages.range(range).map(|(_, page)| page.cost()).sum());
        let mut allocated = self.allocated - removed;
        for (index, page) in &patch.pages {
            let gone = patch.removed.as_ref().is_some_and(|range| range.contains(index));
            let old = if gone { 0 } else { self.pages.get(index).map_or(0, Page::cost) };
            allocated = allocated - old + page.as_ref().map_or(0, Page::cost);
        }
        allocated
    }

    pub fn size_after(&self, patch: &ContentPatch) -> u64 {
        patch.size.unwrap_or(self.size)
    }

    /// Applies a patch, which is left with the pages that went: dropping them wipes them, which takes its time.
    pub fn apply(&mut self, patch: &mut ContentPatch) {
        let removed: Vec<u64> =
            patch.removed.take().map_or(Vec::new(), |range| self.pages.range(range).map(|(&index, _)| index).collect());
        let removed: Vec<_> = removed.into_iter().map(|index| (index, self.put(index, None))).collect();
        for (index, page) in &mut patch.pages {
            *page = self.put(*index, page.take());
        }
        patch.pages.extend(removed);
        if let Some(size) = patch.size {
            self.size = size;
        }
    }

    /// Puts a page in, or takes it away; returns the one that was there.
    fn put(&mut self, index: u64, page: Option<Page>) -> Option<Page> {
        let added = page.as_ref().map_or(0, Page::cost);
        let old = match page {
            Some(page) => self.pages.insert(index, page),
            None => self.pages.remove(&index),
        };
        self.allocated = self.allocated - old.as_ref().map_or(0, Page::cost) + added;
        old
    }

    /// Takes the pages that a read needs, to be opened later without any lock.
    pub fn slice(&self, offset: u64, len: usize) -> ContentSlice {
        let end = offset.saturating_add(len as u64).min(self.size).max(offset);
        let first = offset / PAGE;
        let last = end.div_ceil(PAGE);
        let pages = self.pages.range(first..last.max(first)).map(|(&index, page)| (index, page.clone())).collect();
        ContentSlice { pages, offset, end }
    }

    /// The next offset at or after `offset` with data (`data`) or without (`!data`), below the size.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (&index, _) = self.pages.range(offset / PAGE..).next()?;
        let found = (index * PAGE).max(offset);
        (found < self.size).then_some(found)
    }

    /// The next offset at or after `offset` that lies in a hole; the end of the file is one.
    pub fn next_hole(&self, offset: u64) -> u64 {
        let mut index = offset / PAGE;
        for (&present, _) in self.pages.range(index..) {
            if present != index {
                break;
            }
            index += 1;
        }
        (index * PAGE).max(offset).min(self.size)
    }

    /// The pages below the size that hold other data than in an earlier state, and those that held data and are holes now.
    pub fn changed_pages(&self, earlier: &Self) -> (Vec<u64>, Vec<u64>) {
        let (mut changed, mut holes) = (Vec::new(), Vec::new());
        let end = self.size.div_ceil(PAGE);
        for item in earlier.pages.diff(&self.pages) {
            match item {
                DiffItem::Add(&index, Page::Sealed(_)) | DiffItem::Update { new: (&index, Page::Sealed(_)), .. } => {
                    changed.push(index);
                }
                DiffItem::Remove(&index, Page::Sealed(_)) | DiffItem::Update { new: (&index, _), .. } => {
                    holes.push(index);
                }
                DiffItem::Add(..) | DiffItem::Remove(..) => {}
            }
        }
        changed.retain(|&index| index < end);
        holes.retain(|&index| index < end);
        (changed, holes)
    }

    /// Seals `data` at `offset` over what is there.
    pub fn prepare_write(&self, cipher: &PageCipher<'_>, offset: u64, data: &[u8]) -> Result<ContentPatch, TreeError> {
        let mut patch = self.prepare_long_write(cipher, offset, data)?;
        patch.seal_whole_pages(cipher, offset, data);
        Ok(patch)
    }

    /// Prepares [`Content::prepare_write`] as far as it can fail: [`ContentPatch::seal_whole_pages`] does the rest.
    /// Whole pages are reservations until then, which cost the same.
    pub fn prepare_long_write(
        &self,
        cipher: &PageCipher<'_>,
        offset: u64,
        data: &[u8],
    ) -> Result<ContentPatch, TreeError> {
        let mut patch = ContentPatch::default();
        for (index, start, piece) in pieces(offset, data) {
            let is_whole = piece.len() == PAGE_SIZE;
            let page = if is_whole { Page::Reserved } else { self.seal_piece(cipher, index, start, piece)? };
            patch.pages.push((index, Some(page)));
        }
        patch.extend_to(self, offset + data.len() as u64);
        Ok(patch)
    }

    /// Seals `data` at `offset` over what is there, as it comes from an archive: zeros at the end of a page are not held. So nothing
    /// counts for more than it did when it was written, nor than when it is written and read again.
    pub fn prepare_load(&self, cipher: &PageCipher<'_>, offset: u64, data: &[u8]) -> Result<ContentPatch, TreeError> {
        let mut patch = ContentPatch::default();
        for (index, start, piece) in pieces(offset, data) {
            let end = index * PAGE + piece.len() as u64;
            let old = self.pages.get(&index);
            let is_all = start == 0 && (old.is_none() || piece.len() == PAGE_SIZE || end == self.size);
            let page = if is_all {
                seal_held(cipher, piece)
            } else {
                let mut plain = Zeroizing::new([0; PAGE_SIZE]);
                overlay(cipher, old, (start, piece), &mut plain)?;
                seal_held(cipher, &*plain)
            };
            patch.pages.push((index, page));
        }
        Ok(patch)
    }

    /// Seals a part of a page over what is there.
    fn seal_piece(&self, cipher: &PageCipher<'_>, index: u64, start: usize, piece: &[u8]) -> Result<Page, TreeError> {
        let old = self.pages.get(&index);
        if start == 0 && old.is_none_or(|page| matches!(page, Page::Sealed(page) if page.len() <= piece.len())) {
            return Ok(Page::Sealed(Arc::new(cipher.seal(piece))));
        }
        let mut plain = Zeroizing::new([0; PAGE_SIZE]);
        let held = overlay(cipher, old, (start, piece), &mut plain)?;
        let reserved = matches!(old, Some(Page::Reserved));
        // A reserved page stays charged as a whole one, so that later writes into it cannot fail for lack of room.
        let end = if reserved { PAGE_SIZE } else { held.max(start + piece.len()) };
        Ok(Page::Sealed(Arc::new(cipher.seal(&plain[..end]))))
    }

    /// Prepares a new size: what lies beyond is dropped, and the last page is cut so that growing later reads zeros.
    pub fn prepare_resize(&self, cipher: &PageCipher<'_>, size: u64) -> Result<ContentPatch, TreeError> {
        let mut patch = ContentPatch { size: Some(size), ..ContentPatch::default() };
        if size < self.size {
            patch.removed = Some(size.div_ceil(PAGE)..u64::MAX);
            self.cut_page(cipher, size / PAGE, (size % PAGE) as usize, &mut patch)?;
        }
        Ok(patch)
    }

    /// Prepares a hole in a range; the size stays.
    pub fn prepare_hole(&self, cipher: &PageCipher<'_>, range: Range<u64>) -> Result<ContentPatch, TreeError> {
        let mut patch = ContentPatch::default();
        let (first, last) = (range.start.div_ceil(PAGE), range.end / PAGE);
        if first < last {
            patch.removed = Some(first..last);
        }
        let head = range.start / PAGE;
        let tail = range.end / PAGE;
        if head == tail {
            self.zero_within(cipher, head, (range.start % PAGE) as usize, (range.end % PAGE) as usize, &mut patch)?;
            return Ok(patch);
        }
        if !range.start.is_multiple_of(PAGE) {
            self.zero_within(cipher, head, (range.start % PAGE) as usize, PAGE_SIZE, &mut patch)?;
        }
        if !range.end.is_multiple_of(PAGE) {
            self.zero_within(cipher, tail, 0, (range.end % PAGE) as usize, &mut patch)?;
        }
        Ok(patch)
    }

    /// Prepares reservations for all pages of a range that hold nothing yet.
    pub fn prepare_reserve(&self, range: Range<u64>, size: Option<u64>) -> ContentPatch {
        let indices = range.start / PAGE..range.end.div_ceil(PAGE);
        let missing = indices.filter(|index| !self.pages.contains_key(index));
        ContentPatch {
            pages: missing.map(|index| (index, Some(Page::Reserved))).collect(),
            removed: None,
            size: size.filter(|&size| size > self.size),
        }
    }

    /// Keeps the first `keep` bytes of a page, dropping what comes after.
    fn cut_page(
        &self,
        cipher: &PageCipher<'_>,
        index: u64,
        keep: usize,
        patch: &mut ContentPatch,
    ) -> Result<(), TreeError> {
        let Some(page) = self.pages.get(&index).filter(|_| keep > 0) else { return Ok(()) };
        let Page::Sealed(sealed) = page else { return Ok(()) };
        if sealed.len() <= keep {
            return Ok(());
        }
        let mut plain = Zeroizing::new([0; PAGE_SIZE]);
        page.open_padded(cipher, &mut plain)?;
        patch.pages.push((index, Some(Page::Sealed(Arc::new(cipher.seal(&plain[..keep]))))));
        Ok(())
    }

    fn zero_within(
        &self,
        cipher: &PageCipher<'_>,
        index: u64,
        start: usize,
        end: usize,
        patch: &mut ContentPatch,
    ) -> Result<(), TreeError> {
        let Some(page @ Page::Sealed(_)) = self.pages.get(&index) else { return Ok(()) };
        let mut plain = Zeroizing::new([0; PAGE_SIZE]);
        let held = page.open_padded(cipher, &mut plain)?;
        if start >= held {
            return Ok(());
        }
        // Zeros at the end of a page need not be held.
        let kept = if end >= held { start } else { held };
        plain[start..end].fill(0);
        patch.pages.push((index, (kept > 0).then(|| Page::Sealed(Arc::new(cipher.seal(&plain[..kept]))))));
        Ok(())
    }
}

/// Opens what a page holds into `plain`, which is zeroed, and puts a piece over it; returns how many bytes it held before. Into the caller's
/// room: a returned one would leave a copy.
fn overlay(
    cipher: &PageCipher<'_>,
    old: Option<&Page>,
    (start, piece): (usize, &[u8]),
    plain: &mut [u8; PAGE_SIZE],
) -> Result<usize, TreeError> {
    let held = old.map_or(Ok(0), |page| page.open_padded(cipher, plain))?;
    plain[start..start + piece.len()].copy_from_slice(piece);
    Ok(held)
}

/// Seals the bytes of a page without the zeros at their end; `None` when there are no others.
fn seal_held(cipher: &PageCipher<'_>, bytes: &[u8]) -> Option<Page> {
    let held = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    Some(Page::Sealed(Arc::new(cipher.seal(&bytes[..held]))))
}

/// Cuts bytes of a file where pages begin: the page, where in it, and the bytes.
fn pieces(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, usize, &[u8])> {
    let (mut position, mut rest) = (offset, data);
    std::iter::from_fn(move || {
        let start = (position % PAGE) as usize;
        let (piece, after) = rest.split_at(rest.len().min(PAGE_SIZE - start));
        let cut = (position / PAGE, start, piece);
        (position, rest) = (position + piece.len() as u64, after);
        (!piece.is_empty()).then_some(cut)
    })
}

/// Pages taken out of a content for one read.
pub(super) struct ContentSlice {
    pages: Vec<(u64, Page)>,
    offset: u64,
    end: u64,
}

impl ContentSlice {
    /// Opens the pages into `out` and returns how many bytes were filled.
    pub fn open(&self, cipher: &PageCipher<'_>, out: &mut [u8]) -> Result<usize, TreeError> {
        let len = (self.end - self.offset) as usize;
        let out = &mut out[..len];
        let mut filled = 0;
        for (index, page) in &self.pages {
            let page_start = index * PAGE;
            let from = page_start.max(self.offset);
            let to = (page_start + PAGE).min(self.end);
            if from >= to {
                continue;
            }
            let (start, end) = ((from - self.offset) as usize, (to - self.offset) as usize);
            out[filled..start].fill(0);
            copy_from_page(page, cipher, (from - page_start) as usize, &mut out[start..end])?;
            filled = end;
        }
        out[filled..].fill(0);
        Ok(len)
    }
}

/// Copies bytes of a page from `start` on; opens straight into `out` where the page fits.
fn copy_from_page(page: &Page, cipher: &PageCipher<'_>, start: usize, out: &mut [u8]) -> Result<(), TreeError> {
    match page {
        Page::Sealed(sealed) if start == 0 && sealed.len() <= out.len() => {
            let (held, rest) = out.split_at_mut(sealed.len());
            cipher.open(sealed, held).map_err(|_| TreeError::Sealing)?;
            rest.fill(0);
        }
        Page::Sealed(_) => {
            let mut plain = Zeroizing::new([0; PAGE_SIZE]);
            page.open_padded(cipher, &mut plain)?;
            out.copy_from_slice(&plain[start..start + out.len()]);
        }
        Page::Reserved => out.fill(0),
    }
    Ok(())
}
