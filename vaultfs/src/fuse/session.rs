//! The threads of one mount, from the kernel's INIT until it unmounts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};

use super::adapter::Adapter;
use super::mount::Mount;
use super::{Mounts, Visitors};

/// Largest write request, in bytes. The receive buffers keep what was last written: this bounds it, a thread each.
const MAX_WRITE: u32 = 128 * 1024;

/// What is asked of the kernel where it offers it. Not among them: the writeback cache (with two mounts it destroys
/// data), remote locks (the kernel keeps flock and POSIX locks, a mount each), `DONT_MASK` (it applies the umask).
const CAPABILITIES: [InitFlags; 9] = [
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

/// Answers INIT and starts the threads, which end when the kernel unmounts.
pub(super) fn start(mounts: &Arc<Mounts>, mount: &Arc<Mount>, fuse: OwnedFd) -> io::Result<()> {
    let options = mounts.options;
    let acl = match options.visitors {
        Visitors::Owner => SessionACL::Owner,
        Visitors::Everybody => SessionACL::All,
    };
    let mut config = Config::default();
    config.acl = acl;
    // One may be kept waiting while the kernel writes back what a notification drops.
    config.n_threads = Some(options.threads.max(2));
    let session = Session::from_fd(Adapter::new(mounts.clone(), mount.clone()), fuse, acl, config)?;
    let (mounts, mount) = (mounts.clone(), mount.clone());
    std::thread::Builder::new().name(format!("mount-{}", mount.id.0)).spawn(move || {
        if let Err(error) = session.run() {
            tracing::error!(%error, mount = mount.id.0, "serving a mount ended with an error");
        }
        mounts.remove(&mount);
    })?;
    Ok(())
}

/// Settles with the kernel what both can do.
pub(super) fn negotiate(config: &mut KernelConfig) {
    for capability in CAPABILITIES {
        if config.add_capabilities(capability).is_err() {
            tracing::debug!(?capability, "the kernel does not offer a capability");
        }
    }
    if config.set_max_write(MAX_WRITE).is_err() {
        tracing::debug!("the size of writes stays as it was");
    }
}
