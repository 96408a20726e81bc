//! The threads of one mount, from the kernel's INIT until it unmounts.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, KernelConfig, Session, SessionACL};

use super::adapter::Adapter;
use super::capabilities::{CAPABILITIES, MAX_WRITE};
use super::mount::Mount;
use super::{Mounts, Visitors};

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
