//! A second real S3 server (s3s-fs) of one test: it keeps objects as files and checks signatures and checksums, and two writers
//! at once are both told that they won.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

pub const ACCESS_KEY: &str = "AKIDOFTHETESTS";
pub const SECRET_KEY: &str = "secret of the tests";

pub struct S3sServer {
    child: Child,
    pub port: u16,
    _root: tempfile::TempDir,
}

impl S3sServer {
    /// Starts it and waits until it listens.
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("s3s-fs")
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .arg(root.path())
            .env("RUST_LOG", "off")
            .spawn()
            .expect("scripts/test installs s3s-fs, and puts it on the PATH");
        super::waiting::within(Duration::from_secs(20), "s3s-fs listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port, _root: root }
    }
}

impl Drop for S3sServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
