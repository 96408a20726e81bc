//! The images that `init` offers: their Dockerfiles are within this program and are written into the project, where they are its
//! owner's to change.

use std::path::Path;

use super::init::{make_folder, write_new};
use super::trust;
use crate::config::{self, PROJECT_FOLDER};
use crate::error::CommandResult;

/// Where the Dockerfile is, below the project's `.tazpod`.
const FOLDER: &str = "image";
const NAMES: [&str; 2] = ["base", "kubernetes"];

/// An answer to the question for the container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// No container.
    None,
    /// One of ours, built here.
    Ours(&'static str),
    /// Any other one, pulled.
    Named(String),
}

impl Image {
    /// What somebody answered.
    pub fn of(text: &str) -> Self {
        match (text, NAMES.into_iter().find(|name| *name == text)) {
            // Who says no to a container means no image of that name.
            ("" | "none" | "None" | "no" | "No" | "n" | "N", _) => Self::None,
            (_, Some(name)) => Self::Ours(name),
            (other, None) => Self::Named(other.to_owned()),
        }
    }

    /// What is taken when nobody says anything: one of ours where there is an engine to build it.
    pub fn usual() -> &'static str {
        let has_engine = std::env::var_os("DOCKER_HOST").is_some() || Path::new("/var/run/docker.sock").exists();
        if has_engine { "base" } else { "none" }
    }

    /// The lines of the configuration.
    pub fn config_text(&self) -> String {
        match self {
            Self::None => {
                "# The development container's image: then 'tazpod up' makes it, and 'tazpod enter' is a shell in it.\n\
                           # image: NAME\n"
                    .to_owned()
            }
            Self::Ours(name) => format!(
                "# The development container: 'tazpod up' builds its image and makes it, 'tazpod enter' is a shell in it.\n\
                 image: tazpod-{name}\nbuild:\n  dockerfile: {PROJECT_FOLDER}/{FOLDER}/Dockerfile\n  \
                 context: {PROJECT_FOLDER}/{FOLDER}\n"
            ),
            Self::Named(name) => format!(
                "# The development container: 'tazpod up' makes it, 'tazpod enter' is a shell in it.\nimage: {}\n",
                serde_json::Value::from(name.as_str())
            ),
        }
    }

    /// Writes the Dockerfile of one of ours, and trusts it.
    pub fn write(&self, project: &Path) -> CommandResult {
        let Self::Ours(name) = self else { return Ok(()) };
        let text = match *name {
            "kubernetes" => include_str!("../../../images/kubernetes/Dockerfile"),
            _ => include_str!("../../../images/base/Dockerfile"),
        };
        let folder = project.join(PROJECT_FOLDER).join(FOLDER);
        make_folder(&folder)?;
        let file = folder.join("Dockerfile");
        write_new(&file, text)?;
        trust::remember(&config::canonical(&file)?, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_an_image_or_none() {
        assert_eq!(Image::of(""), Image::None);
        assert_eq!(Image::of("none"), Image::None);
        assert_eq!(Image::of("kubernetes"), Image::Ours("kubernetes"));
        assert_eq!(Image::of("debian:12"), Image::Named("debian:12".to_owned()));
    }
}
