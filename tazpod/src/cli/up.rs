//! `tazpod up`

use crate::container::{self, ContainerError, Found, Mapped, State};
use crate::error::CommandResult;
use crate::inside::call::Side;
use crate::ui;

use super::development::Development;
use super::ending::Ending;
use super::views::{self, ContainerNote};
use super::{Global, inside};

/// Makes the development container, or starts it. It sees the vault while that is unlocked, whenever that is.
#[derive(clap::Args)]
pub struct Arguments {
    /// Removes the container first and makes it anew: what was changed in it outside of the project and the vault is lost.
    #[arg(long)]
    recreate: bool,
    /// Builds the image first, also when there is one.
    #[arg(long)]
    build: bool,
    #[command(flatten)]
    ending: Ending,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let development = Development::open(global)?;
    development.container.notes.iter().for_each(ui::warn);
    let _turn = views::turn(&development.plan)?;
    // Before anything is made: the name may be somebody else's.
    let found = development.find()?;
    let outcome = bring_up(&development, found, arguments);
    // Folders of views that nobody will see do not stay.
    if outcome.is_err() && matches!(development.find(), Ok(None)) {
        // The first error is the one to be told.
        let _ = views::withdraw(&development.plan, &note(&development, false));
    }
    outcome
}

fn bring_up(development: &Development, found: Option<Found>, arguments: &Arguments) -> CommandResult {
    development.prepare_place()?;
    development.make_identity_folders()?;
    if arguments.build
        && let Some(build) = &development.container.build
    {
        development.build(build)?;
    }
    match found {
        Some(found) if !arguments.recreate && !is_outdated(development, &found, arguments)? => {
            start(development, &found)?;
            // Of what is there, which may be older than the configuration.
            show_vault(development, found.is_inside)
        }
        found => {
            if let Some(found) = &found {
                arguments.ending.agree(&development.engine, found)?;
            }
            make(development, found.as_ref())
        }
    }
}

/// What was just built is to be used, and what was begun is to be whole.
fn is_outdated(development: &Development, found: &Found, arguments: &Arguments) -> CommandResult<bool> {
    Ok(found.is_unfinished() || arguments.build && found.has_other_image(&development.engine)?)
}

fn start(development: &Development, found: &Found) -> CommandResult {
    development.tell_changes(found)?;
    if found.state == State::Running {
        ui::say(format!("The container '{}' is running already; 'tazpod enter' opens a shell in it", found.name));
        return Ok(());
    }
    container::start(&development.engine, found)?;
    ui::say(format!("Started the container '{}'; 'tazpod enter' opens a shell in it", found.name));
    Ok(())
}

/// Makes it; the old one goes when everything for the new one is there.
fn make(development: &Development, old: Option<&Found>) -> CommandResult {
    let (engine, spec) = (&development.engine, &development.spec);
    let mapped = image(development)?;
    spec.missing(&development.container).into_iter().for_each(ui::warn);
    if !engine.is_local() {
        ui::warn(elsewhere(development));
    }
    if let Some(old) = old {
        inside::lock_for_removal(engine, old, &development.plan)?;
        container::stop(engine, old)?;
        container::remove(engine, old)?;
    }
    // The vault's agent and the engine work side by side.
    let (started, shown) = std::thread::scope(|scope| {
        let shown = scope.spawn(|| show_vault(development, spec.is_inside()));
        (start_new(development, &mapped), shown.join().expect("it does not panic"))
    });
    started.and(shown)?;
    check(development)?;
    if let Some(old) = old.filter(|old| old.made_of != mapped.image) {
        container::discard(engine, &old.made_of);
    }
    ui::say(format!(
        "The container '{}' is up, with {} as its user; 'tazpod enter' opens a shell in it",
        spec.name, mapped.account.name
    ));
    Ok(())
}

fn start_new(development: &Development, mapped: &Mapped) -> CommandResult {
    let (engine, spec) = (&development.engine, &development.spec);
    let made = container::create(engine, spec, mapped)?;
    for name in &made.covered {
        ui::warn(format!("~/{name} is in the image already and stays as it is; the vault is at /run/tazpod/secrets"));
    }
    Ok(container::start_new(engine, spec, &made)?)
}

/// What is seen inside when the engine is on another machine.
fn elsewhere(development: &Development) -> String {
    let (name, workspace) = (&development.spec.name, &development.spec.workspace);
    match development.spec.is_inside() {
        false => {
            "the engine is on another machine: folders of this one, and the vault, will not be seen inside".to_owned()
        }
        true => format!(
            "the engine is on another machine: folders of this one are not seen inside; {workspace} is the volume \
             {name}-workspace there, and stays when the container goes"
        ),
    }
}

/// Whether the image has what an unlock inside takes; a new container that is of no use goes again.
fn check(development: &Development) -> CommandResult {
    if !development.spec.is_inside() {
        return Ok(());
    }
    let Some(found) = development.find()? else { return Ok(()) };
    let side = Side::connect(found)?;
    side.check().inspect_err(|_| {
        // The first error is the one to be told.
        let _ = container::remove(&side.engine, &side.found);
    })
}

/// The image, built or pulled where there is none.
fn image(development: &Development) -> CommandResult<Mapped> {
    let (engine, spec) = (&development.engine, &development.spec);
    let begin = || {
        ui::say(format!("Looking into {}, and preparing it for your user where that is needed", spec.image));
    };
    if let Some(mapped) = container::map(engine, spec, begin)? {
        return Ok(mapped);
    }
    match &development.container.build {
        Some(build) => development.build(build)?,
        None => development.pull().map(drop)?,
    }
    let missing = || ContainerError::NoImage { image: spec.image.clone(), reason: "it is not there".to_owned() };
    Ok(container::map(engine, spec, begin)?.ok_or_else(missing)?)
}

/// Has its views mounted, now and after each unlock; nothing is mounted for one that has the vault inside.
fn show_vault(development: &Development, is_inside: bool) -> CommandResult {
    views::remember(&development.plan.archive, note(development, is_inside))?;
    views::mount_missing(&development.plan);
    Ok(())
}

fn note(development: &Development, is_inside: bool) -> ContainerNote {
    ContainerNote {
        name: development.container.name.clone(),
        project: development.container.project.clone(),
        place: development.place.folder().to_owned(),
        views: if is_inside { Vec::new() } else { views::of_container() },
        is_inside,
    }
}
