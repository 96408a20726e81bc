//! Who is connected to the agent's socket. When there is no room for one more, who has not asked for anything goes; who has
//! asked may stay as long as it likes. Knows no requests.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Clients that are served at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to ask for something, when others wait for its place; less than those have patience.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often room for one more is looked for.
const ROOM_AGAIN: Duration = Duration::from_millis(20);

/// All connections.
#[derive(Default)]
pub struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// By number, which rises: the oldest come first.
    held: BTreeMap<u64, Held>,
    next: u64,
}

struct Held {
    since: Instant,
    /// The stream of one that has not asked for anything yet, to be ended by.
    silent: Option<UnixStream>,
}

/// The place of one connection, free again when this goes.
pub struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// Waits until there is room for one more: hanging up on it would look like a vault that is locked.
    pub fn wait_for_room(&self) {
        while !self.has_room() {
            std::thread::sleep(ROOM_AGAIN);
        }
    }

    /// Tells whether there is room; if not, the longest silent one is ended, and there soon is.
    fn has_room(&self) -> bool {
        let mut table = self.0.lock();
        if table.held.len() < CONNECTIONS_MAX {
            return true;
        }
        let mut overdue = table.held.values_mut().filter(|held| held.since.elapsed() >= SILENCE_MAX);
        if let Some(silent) = overdue.find_map(|held| held.silent.take()) {
            // Only its requests end: one that has just come whole is answered yet. It may have hung up already.
            let _ = silent.shutdown(Shutdown::Read);
        }
        false
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn enter(self: &Arc<Self>, stream: &UnixStream) -> io::Result<Place> {
        let held = Held { since: Instant::now(), silent: Some(stream.try_clone()?) };
        let mut table = self.0.lock();
        let number = table.next;
        table.next += 1;
        table.held.insert(number, held);
        Ok(Place { connections: self.clone(), number })
    }
}

impl Place {
    /// To be told when a whole request has come.
    pub fn has_asked(&self) {
        if let Some(held) = self.connections.0.lock().held.get_mut(&self.number) {
            held.silent = None;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.0.lock().held.remove(&self.number);
    }
}
