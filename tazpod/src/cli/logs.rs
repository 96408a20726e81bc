//! `tazpod logs`

use crate::container::{self, ContainerError, Follow};
use crate::error::CommandResult;

use super::Global;
use super::development::Development;

/// Shows what the container's first process printed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Goes on until the container ends.
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<u32>,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let development = Development::open(global)?;
    let name = development.container.name.clone();
    let found = development.find()?.ok_or(ContainerError::NotThere(name))?;
    let tail = arguments.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let follow = if arguments.follow { Follow::Yes } else { Follow::No };
    let (mut out, mut errors) = (std::io::stdout(), std::io::stderr());
    Ok(container::logs(&development.engine, &found, &tail, follow, &mut out, &mut errors)?)
}
