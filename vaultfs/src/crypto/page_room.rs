//! Room for sealed pages. Pages of an ordinary heap come from the system one by one, when they are first touched: that takes
//! longer than to seal what is put into them. Here many come at once, and each that is free can go back alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

use parking_lot::Mutex;

use super::PAGE_SIZE;

/// Pages that come from the system together: 1 MiB.
const PAGES: usize = 256;
const REGION: usize = PAGES * PAGE_SIZE;

/// All there is: pages outlive whoever sealed them.
static ROOM: Mutex<Room> = Mutex::new(Room::new());

/// One page, wiped when dropped.
pub(super) struct RoomPage(NonNull<[u8; PAGE_SIZE]>);

// SAFETY: the page is owned by this value alone, like a Box<[u8; PAGE_SIZE]>; access goes through &self and &mut self.
unsafe impl Send for RoomPage {}
// SAFETY: as above; &self only reads.
unsafe impl Sync for RoomPage {}

impl RoomPage {
    /// Takes a page and copies bytes into it.
    pub fn holding(bytes: &[u8; PAGE_SIZE]) -> Self {
        let address = ROOM.lock().take();
        let mut page = Self(address);
        page.copy_from_slice(bytes);
        page
    }
}

impl Deref for RoomPage {
    type Target = [u8; PAGE_SIZE];

    fn deref(&self) -> &[u8; PAGE_SIZE] {
        // SAFETY: a page of a mapped region, which is zeroed or was written, and is this value's until it is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for RoomPage {
    fn deref_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        // SAFETY: as in `deref`; &mut self makes it the only access.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for RoomPage {
    fn drop(&mut self) {
        self.fill(0);
        ROOM.lock().put_back(self.0);
    }
}

/// Returns free pages to the system.
pub fn give_back_free_pages() {
    give_back(&ROOM);
}

/// Goes from region to region: whoever needs a page meanwhile waits for one of them at most.
fn give_back(room: &Mutex<Room>) {
    let starts = room.lock().begin_giving_back();
    for start in starts {
        if let Some(region) = room.lock().regions.get_mut(&start) {
            region.give_back(start);
        }
    }
}

struct Room {
    /// By address.
    regions: BTreeMap<usize, Region>,
    /// Addresses of those with free pages: the lowest is used first, so that the highest become free.
    with_free: BTreeSet<usize>,
    /// One that is free as a whole stays for the next pages.
    spare: Option<usize>,
}

/// Pages of one mapping, a bit each.
#[derive(Default)]
struct Region {
    used: Bits,
    /// Free pages that the system has back.
    returned: Bits,
}

impl Room {
    const fn new() -> Self {
        Self { regions: BTreeMap::new(), with_free: BTreeSet::new(), spare: None }
    }

    fn take(&mut self) -> NonNull<[u8; PAGE_SIZE]> {
        let start = self.with_free.first().copied().unwrap_or_else(|| self.add());
        let region = self.regions.get_mut(&start).expect("a region with free pages is there");
        let page = region.used.first_unset().expect("a region with free pages has one");
        region.used.set(page);
        region.returned.unset(page);
        self.spare.take_if(|spare| *spare == start);
        if region.used.first_unset().is_none() {
            self.with_free.remove(&start);
        }
        NonNull::new((start + page * PAGE_SIZE) as *mut [u8; PAGE_SIZE]).expect("no region is mapped at address zero")
    }

    fn put_back(&mut self, page: NonNull<[u8; PAGE_SIZE]>) {
        let address = page.as_ptr() as usize;
        let (&start, region) = self.regions.range_mut(..=address).next_back().expect("a page lies in a region");
        region.used.unset((address - start) / PAGE_SIZE);
        self.with_free.insert(start);
        match (region.used.is_empty(), self.spare) {
            (false, _) => {}
            (true, None) => self.spare = Some(start),
            (true, Some(_)) => self.remove(start),
        }
    }

    fn add(&mut self) -> usize {
        let start = map();
        self.regions.insert(start, Region::default());
        self.with_free.insert(start);
        start
    }

    fn remove(&mut self, start: usize) {
        self.regions.remove(&start);
        self.with_free.remove(&start);
        // SAFETY: the region is whole and mapped, and no page of it is anybody's.
        unsafe { libc::munmap(start as *mut libc::c_void, REGION) };
    }

    /// Returns what is free as a whole, and tells where else something is free.
    fn begin_giving_back(&mut self) -> Vec<usize> {
        if let Some(spare) = self.spare.take() {
            self.remove(spare);
        }
        self.with_free.iter().copied().collect()
    }
}

impl Region {
    /// Returns what is free to the system, in as few pieces as it lies in: whole pages of the system's, which may be larger.
    fn give_back(&mut self, start: usize) {
        let together = rustix::param::page_size().div_ceil(PAGE_SIZE);
        let mut run = 0..0;
        for first in (0..PAGES).step_by(together) {
            let mut pages = first..first + together;
            if pages.any(|page| self.used.has(page)) {
                self.give_back_run(start, run);
                run = 0..0;
            } else {
                run = if run.is_empty() { first } else { run.start }..first + together;
            }
        }
        self.give_back_run(start, run);
    }

    fn give_back_run(&mut self, start: usize, run: Range<usize>) {
        if run.clone().all(|page| self.returned.has(page)) {
            return;
        }
        let address = (start + run.start * PAGE_SIZE) as *mut libc::c_void;
        // SAFETY: the pages lie in a mapped region and are nobody's; the next who takes one finds it zeroed.
        if unsafe { libc::madvise(address, run.len() * PAGE_SIZE, libc::MADV_DONTNEED) } == 0 {
            run.for_each(|page| self.returned.set(page));
        }
    }
}

/// Maps a region and has the system fill it with pages at once, where it can (Linux 5.14). Not with huge ones: to find and clear one has
/// taken several times as long as the same in small pages, and where pages of it went back it would be made whole again.
fn map() -> usize {
    let flags = rustix::mm::MapFlags::PRIVATE;
    let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let Ok(start) = (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), REGION, access, flags) }) else {
        let layout = std::alloc::Layout::from_size_align(REGION, PAGE_SIZE).expect("a region is far below the limit");
        std::alloc::handle_alloc_error(layout)
    };
    for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_POPULATE_WRITE] {
        // SAFETY: the range is the mapping just made. Where the advice is not taken, pages come when they are touched.
        unsafe { libc::madvise(start.cast(), REGION, advice) };
    }
    start as usize
}

#[derive(Default)]
struct Bits([u64; PAGES / 64]);

impl Bits {
    fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] & (1 << (bit % 64)) != 0
    }

    fn set(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn unset(&mut self, bit: usize) {
        self.0[bit / 64] &= !(1 << (bit % 64));
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn first_unset(&self) -> Option<usize> {
        let (index, word) = self.0.iter().enumerate().find(|(_, word)| **word != u64::MAX)?;
        Some(index * 64 + word.trailing_ones() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The room is one for all tests of a process, which run beside each other in it.

    fn page(mark: u8) -> RoomPage {
        RoomPage::holding(&[mark; PAGE_SIZE])
    }

    #[test]
    fn pages_are_their_owners_alone_whatever_comes_and_goes() {
        let mut numbers = 1_u64;
        let mut pages: Vec<(u8, RoomPage)> = Vec::new();
        for step in 0..20_000_u32 {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (numbers >> 33) as usize;
            // By turns more come than go, and the other way round: over several regions.
            if pages.is_empty() || draw % 100 < if (step / 4000) % 2 == 0 { 70 } else { 30 } {
                let mark = draw as u8;
                pages.push((mark, page(mark)));
            } else {
                let (mark, page) = pages.swap_remove(draw % pages.len());
                assert!(page.iter().all(|byte| *byte == mark), "another owner wrote into a page");
            }
            if step % 1000 == 0 {
                give_back_free_pages();
            }
        }
        assert!(pages.len() > PAGES, "they fill more than one region");
        assert!(pages.iter().all(|(mark, page)| page.iter().all(|byte| byte == mark)));
    }

    #[test]
    fn what_is_free_goes_back_to_the_system_page_by_page() {
        let room = Mutex::new(Room::new());
        let pages: Vec<_> = (0..3 * PAGES).map(|_| room.lock().take()).collect();
        let resident = |page: NonNull<[u8; PAGE_SIZE]>| {
            let mut state = 0_u8;
            // SAFETY: the page is mapped, or the call fails; `state` has room for one page's.
            let told = unsafe { libc::mincore(page.as_ptr().cast(), PAGE_SIZE, &mut state) };
            told == 0 && state & 1 == 1
        };
        let regions = || room.lock().regions.len();
        assert_eq!(regions(), 3);
        // Alone, and in runs that go on to where a region ends.
        let is_kept = |index: usize| index < 100 && index.is_multiple_of(2) || index.is_multiple_of(97);
        let (kept, freed): (Vec<_>, Vec<_>) = pages.into_iter().enumerate().partition(|(index, _)| is_kept(*index));
        freed.iter().for_each(|(_, page)| room.lock().put_back(*page));
        assert!(freed.iter().all(|(_, page)| resident(*page)), "they stay for whoever comes next");
        give_back(&room);
        assert!(!freed.iter().any(|(_, page)| resident(*page)) && kept.iter().all(|(_, page)| resident(*page)));
        // They serve again.
        let again: Vec<_> = freed.iter().map(|_| room.lock().take()).collect();
        assert_eq!(regions(), 3);
        // Of regions that are free as a whole one stays, until what is free is given back.
        kept.iter().map(|(_, page)| *page).chain(again).for_each(|page| room.lock().put_back(page));
        assert_eq!(regions(), 1);
        give_back(&room);
        assert!(regions() == 0 && room.lock().with_free.is_empty());
    }
}
