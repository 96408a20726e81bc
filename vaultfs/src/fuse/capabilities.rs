//! What is asked of the kernel at INIT. A file of its own because the null server of the benchmark includes it too: the
//! comparison is fair only with the same flags.

use fuser::InitFlags;

/// Largest write request, in bytes, and the most that Linux sends (256 pages). A thread holds one while it answers it, and wipes it
/// then.
pub(super) const MAX_WRITE: u32 = 1024 * 1024;

/// What is asked of the kernel where it offers it. Not among them: the writeback cache (with two mounts it destroys
/// data), remote locks (the kernel keeps flock and POSIX locks, a mount each), `DONT_MASK` (it applies the umask).
pub(super) const CAPABILITIES: [InitFlags; 9] = [
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_ASYNC_DIO,
    // An inode's target never changes.
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_MAX_PAGES,
];
