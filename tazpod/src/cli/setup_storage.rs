//! `tazpod setup-storage`

use std::io::Write;

use crate::config::{RemotePlace, S3Place};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::{Conditions, policy};
use crate::ui;

use super::Global;
use super::remote_access::{RemoteAccess, plans, unsafe_place};

/// Makes the bucket or folder that the configuration names, and finds out whether two machines can use it at once.
///
/// Prints the policy that a user of the bucket needs on standard output.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only prints the policies: what 'setup-storage' needs, and what is needed every day. Nothing goes over the network.
    #[arg(long)]
    policy: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    if arguments.policy {
        return match plans(global)?.1.place {
            RemotePlace::S3(place) => print_policies(&place),
            RemotePlace::Directory(_) => Err(CommandError::new(Status::Usage, "a folder needs no policy")),
        };
    }
    let access = RemoteAccess::open(global)?;
    access.remote.make_storage()?.iter().for_each(ui::say);
    match access.probe()? {
        Conditions::Kept => ui::say("Two machines can use it at once: neither overwrites the other"),
        Conditions::KeptInOneRequest => ui::say(
            "Two machines can use it at once: neither overwrites the other (large archives go in one request, since the \
             store is careless with parts)",
        ),
        Conditions::Broken(reason) => return Err(unsafe_place(&access.remote.place(), &reason)),
    }
    match &access.plan.place {
        RemotePlace::S3(place) => {
            ui::say("A user of the bucket needs this policy:");
            print(&policy::everyday(place))
        }
        RemotePlace::Directory(_) => Ok(()),
    }
}

fn print_policies(place: &S3Place) -> CommandResult {
    ui::say("For 'tazpod setup-storage', once:");
    print(&policy::with_setup(place))?;
    ui::say("For every day:");
    print(&policy::everyday(place))
}

fn print(policy: &serde_json::Value) -> CommandResult {
    writeln!(std::io::stdout(), "{policy:#}")
        .map_err(|error| CommandError::caused("the policy cannot be printed", &error))
}
