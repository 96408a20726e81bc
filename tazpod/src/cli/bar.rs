//! Progress bars: on a terminal only, and transfers have one only when they take a while.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::remote::transfer::{Direction, Watcher};

/// What ends sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bar on the terminal of standard error, if it is one; `{bar}` and the like are indicatif's.
pub fn bar(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// Shows how far transfers are.
#[derive(Default)]
pub struct TransferBar {
    transfer: Mutex<Option<Transfer>>,
}

struct Transfer {
    direction: Direction,
    bytes: u64,
    begun: Instant,
    shown: Option<ProgressBar>,
}

impl TransferBar {
    /// `None`: there is no terminal.
    pub fn on_terminal() -> Option<Arc<dyn Watcher>> {
        io::stderr().is_terminal().then(|| Arc::new(Self::default()) as Arc<dyn Watcher>)
    }
}

impl Watcher for TransferBar {
    fn begin(&self, direction: Direction, bytes: u64) {
        *self.transfer.lock() = Some(Transfer { direction, bytes, begun: Instant::now(), shown: None });
    }

    fn reached(&self, bytes: u64) {
        if let Some(transfer) = &mut *self.transfer.lock() {
            transfer.reached(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.transfer.lock().take().and_then(|transfer| transfer.shown) {
            bar.finish_and_clear();
        }
    }
}

impl Transfer {
    fn reached(&mut self, bytes: u64) {
        let taken = self.begun.elapsed();
        if self.shown.is_none() && (taken < PATIENCE || bytes >= self.bytes) {
            return;
        }
        let bar = self.shown.get_or_insert_with(|| {
            let word = match self.direction {
                Direction::Out => "Sending",
                Direction::In => "Fetching",
            };
            let template = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
            let bar = bar(template).with_message(word).with_elapsed(taken);
            bar.set_length(self.bytes);
            bar
        });
        bar.set_position(bytes);
    }
}
