//! The few system calls that have no safe wrapper, and what makes a process hard to look into.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Makes standard input /dev/null.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn detach_stdin() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?)
}

/// Makes standard output /dev/null.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn detach_stdout() -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?)
}

/// Keeps other processes of the same user from reading this one's memory, and the kernel from writing it to a core file.
///
/// # Errors
/// The kernel refuses.
pub fn hide() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    Ok(())
}

/// The same, and gives up the right to gain privileges, for itself and what it starts: fusermount3 does not mount then.
///
/// # Errors
/// The kernel refuses.
pub fn harden() -> io::Result<()> {
    hide()?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Returns whole pages that were freed to the system, from all heaps of the allocator.
pub fn give_back_freed_memory() {
    // SAFETY: it takes the allocator's own locks and touches only what is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns a socket that gets a byte for each signal that asks the process to end; they end it no longer by themselves.
///
/// # Errors
/// Out of descriptors.
pub fn ending_signals() -> io::Result<UnixStream> {
    let (signals, raised) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
    }
    Ok(signals)
}

/// Takes a descriptor that was inherited from the caller of this program.
///
/// # Errors
/// `InvalidInput`: it is not open, or it is one that this program opened itself.
pub fn inherited_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only used for two system calls, which fail for one that is not open, and nothing else of this
    // program closes descriptors that it did not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    // All that this program opens itself is closed on exec; what survived one was inherited.
    if fcntl_getfd(descriptor).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
        return Ok(fcntl_dupfd_cloexec(descriptor, 3)?);
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// The process group of a thread; `None`: it is gone, or its group cannot be seen from here. (rustix takes for granted that it can.)
pub fn group_of(thread: u32) -> Option<i32> {
    let thread = i32::try_from(thread).ok().filter(|thread| *thread > 0)?;
    // SAFETY: it takes a number and gives one.
    let group = unsafe { libc::getpgid(thread) };
    (group > 0).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_in_the_group_of_its_process_and_others_may_be_unknown() {
        let of_this_thread = || group_of(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        let own = Some(rustix::process::getpgrp().as_raw_nonzero().get());
        assert_eq!(group_of(std::process::id()), own);
        assert_eq!(std::thread::spawn(of_this_thread).join().unwrap(), own);
        assert_ne!(group_of(1), own);
        assert_eq!([group_of(0), group_of(u32::MAX), group_of(i32::MAX.unsigned_abs())], [None; 3]);
    }
}
