//! The socket between agent and keeper: one packet a message, perhaps with a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest packet, in bytes.
const PACKET_MAX: usize = 128 * 1024;

/// Makes a connected pair.
///
/// # Errors
/// The system gives no sockets.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message.
///
/// # Errors
/// The other side is gone, or the message is too large.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let data = serde_json::to_vec(message)?;
    if data.len() > PACKET_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet is too large"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&data)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message; `None` when the other side is gone.
///
/// # Errors
/// The socket fails, or the packet is none of `T`.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut data = vec![0; PACKET_MAX];
    let (len, descriptor) = receive_raw(socket, &mut data)?;
    if len == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&data[..len])?, descriptor)))
}

/// Receives bytes and the first descriptor that comes with them.
///
/// # Errors
/// The socket fails.
pub fn receive_raw(socket: impl AsFd, data: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(data)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => break outcome?,
        }
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            // Any after the first are closed here.
            descriptor = descriptor.or(descriptors.into_iter().next());
        }
    }
    Ok((received.bytes, descriptor))
}
