//! The processes that hold an unlocked vault, and the way to them: an agent with the content and the keys, a keeper beside
//! it that mounts and cleans up. Knows no command line, no Docker, no S3.

pub mod auto_lock;
pub mod bridges;
mod caller;
pub mod client;
mod confine;
mod conflicts;
mod connections;
mod covered;
pub mod failure;
mod first_mount;
mod frames;
mod fusermount;
mod holders;
pub mod joining;
mod keeper;
mod keys;
pub mod leases;
mod link;
mod lock;
pub mod machine;
mod memory;
pub mod mountinfo;
pub mod notice;
mod packets;
pub mod past;
pub mod paths;
mod process;
pub mod protocol;
mod secrets;
mod server;
pub mod stale;
pub mod start;
pub mod syncing;
pub mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Argument that makes the program a keeper.
const KEEPER: &str = "__keeper";
/// Argument that makes the program an agent.
const AGENT: &str = "__agent";

/// Runs the process that a hidden argument asks for; `None`: the arguments are an ordinary command's. To be called before
/// anything else reads the arguments or starts a thread.
pub fn run_hidden_process(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let role = arguments.nth(1)?;
    let level = arguments.next().unwrap_or_default();
    match role.to_str()? {
        KEEPER => {
            start_log(&level);
            Some(keeper::main(&level, arguments.collect()))
        }
        AGENT => {
            let keeper_pid = arguments.next()?.to_str()?.parse().ok()?;
            start_log(&level);
            Some(process::main(keeper_pid))
        }
        _ => None,
    }
}

/// Writes what this project logs to standard error, which is the vault's log file; what its libraries log may hold what they
/// sign and send. What cannot be written (the disk is full) is lost: by default the subscriber says so on standard error, and
/// ends the process when that fails too.
fn start_log(level: &OsString) {
    let level = level.to_str().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    let ours = Targets::new().with_target("tazpod", level).with_target("vaultfs", level);
    let format =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false);
    tracing_subscriber::registry().with(format.with_filter(ours)).init();
}
