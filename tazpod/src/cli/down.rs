//! `tazpod down`

use crate::config::Plan;
use crate::container::{self, Engine, Patience};
use crate::error::CommandResult;
use crate::ui;

use super::development::host;
use super::ending::Ending;
use super::views::{self, ContainerNote};
use super::{Global, container_status, inside};

/// Stops and removes the development container. The project and the vault stay; what was changed elsewhere in it is lost.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ending: Ending,
    /// Removes the volumes as well that 'vault.inside' makes: that of the vault, when the archive here holds all that is in it, and that
    /// of the workspace with whatever is in it.
    #[arg(long)]
    volumes: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    // What was made under another name before the configuration changed goes too. What is untrusted names none.
    let notes = container_status::notes(&plan, &host()?);
    if notes.is_empty() {
        plan.container()?;
    }
    let engine = Engine::connect(Patience::Usual)?;
    let _turn = views::turn(&plan)?;
    let mut removed = false;
    for note in &notes {
        removed |= remove(&engine, &plan, note, arguments)?;
        views::withdraw(&plan, note)?;
    }
    if !removed {
        ui::say("There is no container");
    }
    Ok(())
}

fn remove(engine: &Engine, plan: &Plan, note: &ContainerNote, arguments: &Arguments) -> CommandResult<bool> {
    let Some(found) = container::find(engine, &note.name, &note.project)? else { return Ok(false) };
    arguments.ending.agree(engine, &found)?;
    inside::lock_for_removal(engine, &found, plan)?;
    let with_volumes = arguments.volumes && found.is_inside;
    if with_volumes {
        inside::require_brought_back(&found, plan)?;
    }
    container::stop(engine, &found)?;
    container::remove(engine, &found)?;
    ui::say(format!("Removed the container '{}'", found.name));
    if with_volumes {
        for name in container::inside::remove_volumes(engine, &found)? {
            ui::say(format!("Removed the volume {name}"));
        }
    }
    Ok(true)
}
