//! An image that has a container's links in its user's home already, made once of the mapped one: an upload into each new container
//! costs as much as half its start. What is shown in the home, or a volume there, belongs to the container: then links are placed there.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::ImageInspect;
use bollard::query_parameters::ListImagesOptionsBuilder;

use super::accounts::Account;
use super::engine::Engine;
use super::error::ContainerError;
use super::home;
use super::mapping::{self, Mapped, with_files};
use super::spec::ContainerSpec;

/// The image that a linked one is of.
const OF_LABEL: &str = "tazpod.mapped";
/// The names of links whose place was taken, as JSON.
const COVERED_LABEL: &str = "tazpod.covered";
/// Counts up when the links of an image would be placed otherwise.
const GENERATION: u32 = 1;

/// Where the links are that a container's home is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Links {
    /// In the image; these names but not, since something of the image is in their places.
    InImage(Vec<String>),
    /// Nowhere yet.
    Missing,
}

/// The linked image of a base, if it was made already and can be used. An engine that shifts numbers, or that works without root, keeps
/// its images apart: what is found here was made for how it works now.
pub(super) fn find(
    engine: &Engine,
    spec: &ContainerSpec,
    base: &ImageInspect,
) -> Result<Option<Mapped>, ContainerError> {
    let name = name(spec, base);
    let Some(image) = mapping::inspect(engine, &name)? else { return Ok(None) };
    let known = mapping::account_of(&image).zip(mapping::label(&image, COVERED_LABEL));
    Ok(known.filter(|(account, _)| is_apart(spec, base, account)).and_then(|(account, covered)| {
        let links = Links::InImage(serde_json::from_str(covered).ok()?);
        Some(Mapped { image: name, base: base.id.clone().unwrap_or_default(), account, links })
    }))
}

/// Makes it of a mapped one, where links can be in an image.
pub(super) fn make(
    engine: &Engine,
    spec: &ContainerSpec,
    base: &ImageInspect,
    mapped: Mapped,
) -> Result<Mapped, ContainerError> {
    if !is_apart(spec, base, &mapped.account) {
        return Ok(mapped);
    }
    let image = name(spec, base);
    let covered = with_files(engine, &mapped.image, |files| {
        let covered = home::place(engine, files.container(), &mapped.account, &spec.links)?;
        let list = serde_json::to_string(&covered).expect("it is made of texts");
        let labels = [(OF_LABEL.to_owned(), mapped.image.clone()), (COVERED_LABEL.to_owned(), list)];
        files.commit(&mapped.account, &image, &mapped.base, labels)?;
        Ok(covered)
    })?;
    Ok(Mapped { image, links: Links::InImage(covered), ..mapped })
}

/// The image that a linked one is of; `None`: it is no linked one, or is not there.
pub(super) fn made_of(engine: &Engine, image: &str) -> Option<String> {
    mapping::label(&mapping::inspect(engine, image).ok()??, OF_LABEL).map(str::to_owned)
}

/// Whether there are linked images of an image. Where nobody knows, there are.
pub(super) fn has_linked(engine: &Engine, image: &str) -> bool {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{OF_LABEL}={image}")])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    engine.ask(engine.docker.list_images(Some(options))).map_or(true, |found| !found.is_empty())
}

fn name(spec: &ContainerSpec, base: &ImageInspect) -> String {
    let links: Vec<_> = spec.links.iter().map(|link| format!("{}\0{}", link.name, link.target.display())).collect();
    let further = format!("\n{GENERATION}\0{}", links.join("\0"));
    mapping::name(spec, base.id.as_deref().unwrap_or_default(), &further)
}

/// Whether nothing that is mounted in a container comes near a link.
fn is_apart(spec: &ContainerSpec, base: &ImageInspect, account: &Account) -> bool {
    let volumes = base.config.as_ref().and_then(|config| config.volumes.as_ref());
    let mut targets = spec.targets(account).into_iter().chain(volumes.into_iter().flatten().cloned());
    let home = Path::new(&account.home);
    let places: Vec<_> = spec.links.iter().map(|link| home.join(&link.name)).collect();
    targets.all(|target| {
        let target = Path::new(&target);
        let is_plain = target.components().all(|part| part != std::path::Component::ParentDir);
        is_plain && places.iter().all(|place| !place.starts_with(target) && !target.starts_with(place))
    })
}
