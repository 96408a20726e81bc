//! `tazpod down`

use crate::container::{self, Engine, Patience};
use crate::error::CommandResult;
use crate::ui;

use super::development::host;
use super::ending::Ending;
use super::views::{self, ContainerNote};
use super::{Global, container_status};

/// Stops and removes the development container. The project and the vault stay; what was changed elsewhere in it is lost.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ending: Ending,
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
        removed |= remove(&engine, note, &arguments.ending)?;
        views::withdraw(&plan, note)?;
    }
    if !removed {
        ui::say("There is no container");
    }
    Ok(())
}

fn remove(engine: &Engine, note: &ContainerNote, ending: &Ending) -> CommandResult<bool> {
    let Some(found) = container::find(engine, &note.name, &note.project)? else { return Ok(false) };
    ending.agree(engine, &found)?;
    container::stop(engine, &found)?;
    container::remove(engine, &found)?;
    ui::say(format!("Removed the container '{}'", found.name));
    Ok(true)
}
