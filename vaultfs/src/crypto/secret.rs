//! Memory that the kernel neither swaps nor dumps. This and `page_room` are the only unsafe code of the library.

use std::io;
use std::ptr::NonNull;

use parking_lot::Mutex;
use zeroize::Zeroize;

use super::CryptoError;

/// Where a piece of secret memory comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretMemoryKind {
    /// `memfd_secret(2)`: not in the kernel's own address space, unreadable through ptrace, /proc and core dumps.
    MemfdSecret,
    /// `mlock(2)` with `MADV_DONTDUMP`: never swapped, never in a core.
    Locked,
    /// Ordinary memory with `MADV_DONTDUMP`, where the limit on locked memory allows no more: the caller warns.
    Ordinary,
}

impl SecretMemoryKind {
    /// Returns the name that status and logs show.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Locked => "locked",
            Self::Ordinary => "ordinary",
        }
    }
}

/// Pages that are kept for the next secret: mapping and unmapping one makes the kernel change its own address space on all
/// processors, several times in each commit.
const SPARES: usize = 8;

/// Wiped pages from `memfd_secret(2)`.
static SPARE_PAGES: Mutex<Vec<SparePage>> = Mutex::new(Vec::new());

struct SparePage {
    start: NonNull<u8>,
    /// Who mapped it: a forked child has the list, but not the page.
    process: u32,
}

// SAFETY: nobody uses the page while it is in the list.
unsafe impl Send for SparePage {}

/// A region of secret memory, zeroed when made and wiped when dropped. Whole pages: a few secrets, not many.
pub struct SecretMemory {
    start: NonNull<u8>,
    mapped: usize,
    len: usize,
    kind: SecretMemoryKind,
}

// SAFETY: the region is owned by this value alone, like a Box<[u8]>; access goes through &self and &mut self.
unsafe impl Send for SecretMemory {}
// SAFETY: as above; &self only reads.
unsafe impl Sync for SecretMemory {}

impl SecretMemory {
    /// Maps `len` bytes (at least one), zeroed, of the best kind that the system gives.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`]: not even ordinary memory.
    pub fn new(len: usize) -> Result<Self, CryptoError> {
        let page = rustix::param::page_size();
        let mapped = len.max(1).next_multiple_of(page);
        let spare = if mapped == page { take_spare() } else { None };
        let (start, kind) = match spare.or_else(|| map_secret(mapped)) {
            Some(start) => (start, SecretMemoryKind::MemfdSecret),
            None => map_ordinary(mapped).map_err(CryptoError::SecretMemory)?,
        };
        Ok(Self { start, mapped, len, kind })
    }

    /// Maps `len` random bytes, drawn from the kernel without a copy elsewhere.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`], [`CryptoError::Randomness`].
    pub fn random(len: usize) -> Result<Self, CryptoError> {
        let mut memory = Self::new(len)?;
        getrandom::fill(memory.bytes_mut()).map_err(|error| CryptoError::Randomness(error.into()))?;
        Ok(memory)
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `mapped >= len` readable bytes and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Returns the bytes for changing them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; &mut self makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Tells which kind of memory it is.
    pub fn kind(&self) -> SecretMemoryKind {
        self.kind
    }
}

impl Drop for SecretMemory {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        if self.kind == SecretMemoryKind::MemfdSecret && self.mapped == rustix::param::page_size() {
            let mut spares = SPARE_PAGES.lock();
            if spares.len() < SPARES {
                spares.push(SparePage { start: self.start, process: std::process::id() });
                return;
            }
        }
        // SAFETY: start and mapped are those of the mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}

fn take_spare() -> Option<NonNull<u8>> {
    let spare = SPARE_PAGES.lock().pop()?;
    (spare.process == std::process::id()).then_some(spare.start)
}

/// Maps memory from `memfd_secret(2)`; `None` where the kernel has it not, has it switched off, or a limit is reached.
fn map_secret(len: usize) -> Option<NonNull<u8>> {
    // SAFETY: the call takes flags only and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = libc::c_int::try_from(fd).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: fd was just returned by the kernel and is owned here; OwnedFd closes it, the mapping stays.
    let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
    rustix::fs::ftruncate(&fd, len as u64).ok()?;
    let flags = rustix::mm::MapFlags::SHARED;
    let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, access, flags, &fd, 0) }.ok()?;
    // The mapping is shared: a child of fork(2) that dropped its copy of the value would wipe the parent's secret.
    // SAFETY: the range is the mapping just made; the call only sets a property of it.
    unsafe { libc::madvise(start, len, libc::MADV_DONTFORK) };
    NonNull::new(start.cast())
}

fn map_ordinary(len: usize) -> io::Result<(NonNull<u8>, SecretMemoryKind)> {
    let flags = rustix::mm::MapFlags::PRIVATE;
    let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) }?;
    // SAFETY: the range is the mapping just made; the calls only set properties of it.
    let locked = unsafe {
        libc::madvise(start.cast(), len, libc::MADV_DONTDUMP);
        libc::madvise(start.cast(), len, libc::MADV_WIPEONFORK);
        libc::mlock(start.cast(), len) == 0
    };
    let kind = if locked { SecretMemoryKind::Locked } else { SecretMemoryKind::Ordinary };
    let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the kernel mapped address zero"))?;
    Ok((start, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordinary() -> SecretMemory {
        let (start, kind) = map_ordinary(4096).unwrap();
        SecretMemory { start, mapped: 4096, len: 100, kind }
    }

    /// Runs in a forked child, which must only use what is safe after fork(2), and returns its wait status.
    fn in_child(function: impl FnOnce() -> libc::c_int) -> libc::c_int {
        // SAFETY: the child calls `function`, which touches memory only, and _exit.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "{}", io::Error::last_os_error());
        if child == 0 {
            let status = function();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made; status is a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        status
    }

    #[test]
    fn it_is_zeroed_and_writable() {
        for mut memory in [SecretMemory::new(100).unwrap(), ordinary()] {
            assert_eq!(memory.bytes(), [0; 100]);
            memory.bytes_mut().copy_from_slice(&[7; 100]);
            assert_eq!(memory.bytes(), [7; 100]);
        }
    }

    #[test]
    fn a_page_comes_back_wiped_and_to_one_owner() {
        for round in 1..=3 * SPARES {
            let mut memories: Vec<_> = (0..round).map(|_| SecretMemory::new(4096).unwrap()).collect();
            assert!(memories.iter().all(|memory| memory.bytes() == [0; 4096]));
            for (number, memory) in memories.iter_mut().enumerate() {
                memory.bytes_mut().fill(number as u8 + 1);
            }
            for (number, memory) in memories.iter().enumerate() {
                assert_eq!(memory.bytes(), [number as u8 + 1; 4096]);
            }
        }
        assert!(SPARE_PAGES.lock().len() <= SPARES);
    }

    #[test]
    fn random_memory_is_not_twice_the_same() {
        assert_ne!(SecretMemory::random(32).unwrap().bytes(), SecretMemory::random(32).unwrap().bytes());
    }

    #[test]
    fn without_memfd_secret_it_is_locked_or_says_that_it_is_not() {
        assert_ne!(ordinary().kind(), SecretMemoryKind::MemfdSecret);
    }

    #[test]
    fn a_forked_child_gets_none_of_it() {
        let mut secret = SecretMemory::new(100).unwrap();
        secret.bytes_mut().fill(7);
        if secret.kind() == SecretMemoryKind::MemfdSecret {
            let status = in_child(|| libc::c_int::from(secret.bytes()[0]));
            assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "status {status:#x}");
        }
        let mut ordinary = ordinary();
        ordinary.bytes_mut().fill(7);
        assert_eq!(in_child(|| libc::c_int::from(ordinary.bytes()[0])), 0);
        assert_eq!((secret.bytes(), ordinary.bytes()), (&[7; 100][..], &[7; 100][..]));
    }

    #[test]
    fn nobody_reads_memfd_secret_through_proc() {
        use std::os::unix::fs::FileExt;
        let mut secret = SecretMemory::new(100).unwrap();
        secret.bytes_mut().fill(7);
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let read = memory.read_exact_at(&mut [0; 100], secret.bytes().as_ptr().addr() as u64);
        assert_eq!(read.is_err(), secret.kind() == SecretMemoryKind::MemfdSecret);
    }
}
