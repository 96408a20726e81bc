//! `tazpod update`, which is `tazpod pull image`

use crate::container::Pulled;
use crate::error::CommandResult;
use crate::ui;

use super::Global;
use super::development::Development;

/// Pulls the container's image, and says whether it is a newer one; the same as 'tazpod pull image'.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(global: &Global, _arguments: &Arguments) -> CommandResult {
    pull_image(global)
}

/// Pulls it.
pub fn pull_image(global: &Global) -> CommandResult {
    let development = Development::open(global)?;
    let image = &development.container.image;
    match development.pull()? {
        Pulled::Same => ui::say(format!("{image} is what it was")),
        Pulled::New => ui::say(format!("{image} is a newer image now")),
    }
    if let Some(found) = development.find()?
        && found.has_other_image(&development.engine)?
    {
        ui::say(format!("'tazpod up --recreate' makes the container '{}' of it", found.name));
    }
    Ok(())
}
