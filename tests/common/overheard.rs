//! Stands between a program and an engine and keeps all that either says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A socket that leads to the engine.
pub struct Overheard {
    socket: PathBuf,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Overheard {
    /// Makes the socket, for everybody; `host` is the engine's, a socket too.
    pub fn new(socket: PathBuf, host: &str) -> Self {
        let engine = PathBuf::from(host.strip_prefix("unix://").expect("the engine is on this machine"));
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
        let overheard = Self { socket, said: Arc::default() };
        let said = overheard.said.clone();
        std::thread::spawn(move || listener.incoming().for_each(|near| connect(near.unwrap(), &engine, &said)));
        overheard
    }

    /// What `DOCKER_HOST` is to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Tells whether anybody said these bytes in one piece.
    pub fn holds(&self, bytes: &str) -> bool {
        self.said.lock().unwrap().windows(bytes.len()).any(|window| window == bytes.as_bytes())
    }
}

fn connect(near: UnixStream, engine: &Path, said: &Arc<Mutex<Vec<u8>>>) {
    let far = UnixStream::connect(engine).unwrap();
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (from, to, said) = (from.try_clone().unwrap(), to.try_clone().unwrap(), said.clone());
        std::thread::spawn(move || pass_on(from, to, &said));
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        said.lock().unwrap().extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // The other side may have hung up already.
    drop(to.shutdown(Shutdown::Write));
}
