//! Serves a scratch vault at a mount point, as root and for every user: for test suites that want a real mount.
//!
//! `serve_tree MOUNTPOINT [THREADS]` serves until standard input ends; each line of it prints how many requests of which
//! kind there were since the line before.

#![expect(clippy::unwrap_used, reason = "a tool for tests fails by panicking")]

#[expect(dead_code, reason = "the tests take more of it")]
#[path = "../../tests/vaultfs/mount_support.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use support::{Fixture, OPTIONS};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use vaultfs::fuse::{Access, ServeOptions, View};

/// Counts what the adapter says of each request.
#[derive(Clone, Default)]
struct RequestCounter(Arc<Mutex<BTreeMap<String, u64>>>);

impl RequestCounter {
    fn print_and_reset(&self) {
        let counts = std::mem::take(&mut *self.0.lock());
        let shown: Vec<String> = counts.iter().map(|(operation, count)| format!("{operation} {count}")).collect();
        println!("{} requests: {}", counts.values().sum::<u64>(), shown.join(", "));
    }
}

impl Visit for &RequestCounter {
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "operation" {
            *self.0.lock().entry(value.to_owned()).or_default() += 1;
        }
    }
}

impl Subscriber for RequestCounter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn event(&self, event: &Event<'_>) {
        match *event.metadata().level() {
            Level::TRACE => event.record(&mut &*self),
            Level::ERROR | Level::WARN => eprintln!("{event:?}"),
            _ => {}
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let point = PathBuf::from(arguments.next().expect("usage: serve_tree MOUNTPOINT [THREADS]"));
    let threads = arguments.next().map_or(OPTIONS.threads, |count| count.parse().unwrap());
    let counter = RequestCounter::default();
    tracing::subscriber::set_global_default(counter.clone()).unwrap();
    let mut fixture = Fixture::new(ServeOptions { threads, ..OPTIONS });
    // An absolute path replaces the scratch folder.
    fixture.mount(std::path::absolute(point).unwrap().to_str().unwrap(), View::whole(Access::ReadWrite));
    for _ in std::io::stdin().lines() {
        counter.print_and_reset();
    }
}
