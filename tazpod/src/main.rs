//! The command-line tool `tazpod`: unlocks an encrypted vault as an ordinary folder.

mod agent;
mod calendar;
mod cli;
mod config;
mod container;
mod environment;
mod error;
mod inside;
mod path_key;
mod remote;
mod signals;
mod sync;
mod ui;

use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: plaintext passes through many buffers that are not ours.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let hidden = agent::run_hidden_process(std::env::args_os());
    hidden.or_else(|| container::run_hidden_process(std::env::args_os())).unwrap_or_else(cli::run)
}
