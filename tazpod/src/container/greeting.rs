//! What an engine says on a plain connection: the head of an answer, and by that the version of its API. Its ping comes from memory,
//! while for `/version` it runs other programs.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bollard::ClientVersion;

const PING: &[u8] = b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n";
const VERSION_HEADER: &str = "api-version";
/// More is no answer of an engine, bytes.
const HEAD_MAX: usize = 16 * 1024;

/// The version of an engine's API; `None`: it does not say (engines before API 1.40, and what is no engine).
///
/// # Errors
/// It does not answer in time, or hangs up.
pub(super) fn api_version(mut stream: UnixStream, patience: Duration) -> io::Result<Option<ClientVersion>> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(PING)?;
    Ok(version_in(&read_head(&mut stream)?))
}

/// Reads up to the empty line, byte by byte: what follows is somebody else's.
pub(super) fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn version_in(head: &str) -> Option<ClientVersion> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let (_, version) = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(VERSION_HEADER))?;
    let (major, minor) = version.trim().split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_and_nothing_is_read_past_the_head() {
        let mut answer = &b"HTTP/1.1 200 OK\r\nServer: x: y\r\nApi-Version: 1.41\r\n\r\nof the program"[..];
        let version = version_in(&read_head(&mut answer).unwrap()).unwrap();
        assert_eq!((version.major_version, version.minor_version), (1, 41));
        assert_eq!(answer, b"of the program");
        for head in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\nApi-Version: new\r\n\r\n", ""] {
            assert!(version_in(head).is_none(), "{head}");
        }
        assert!(read_head(&mut &b"HTTP/1.1 200"[..]).is_err(), "cut off");
    }
}
