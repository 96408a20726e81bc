//! Why something with the container failed. Every error tells what to do next.

use std::io;
use std::path::PathBuf;

use bollard::errors::Error;

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Nobody listens.
    #[error("no Docker engine answers at {place}")]
    NoEngine {
        /// Where it was looked for.
        place: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket may not be opened.
    #[error("the Docker engine at {0} may not be used by this user")]
    NoPermission(String),
    /// Somebody listens and says nothing.
    #[error("the Docker engine at {0} does not answer")]
    Silent(String),
    /// What says where the engine is cannot be used.
    #[error("{0}")]
    Endpoint(String),
    /// The engine refuses.
    #[error("the engine cannot {doing}: {reason}")]
    Refused {
        /// What was asked for.
        doing: String,
        /// Its words.
        reason: String,
    },
    /// There is no such image.
    #[error("the image {image} cannot be had: {reason}")]
    NoImage {
        /// Its name.
        image: String,
        /// The engine's words.
        reason: String,
    },
    /// A step of a build failed.
    #[error("the image cannot be built: {0}")]
    Build(String),
    /// What a build needs is not there.
    #[error("cannot read {}", .0.display())]
    Context(PathBuf, #[source] io::Error),
    /// A container of somebody else's.
    #[error("there is a container '{name}' already, and it is not of this project: {owner}")]
    NameTaken {
        /// Its name.
        name: String,
        /// What is known of its origin.
        owner: String,
    },
    /// A volume of somebody else's.
    #[error("there is a volume '{name}' already, and it is not of this project: {owner}")]
    VolumeTaken {
        /// Its name.
        name: String,
        /// What is known of its origin.
        owner: String,
    },
    /// The image lacks what an unlock inside takes.
    #[error("the vault cannot be unlocked in a container of {image}: {what}")]
    Lacking {
        /// The image.
        image: String,
        /// What it lacks.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// There is none.
    #[error("there is no container '{0}'")]
    NotThere(String),
    /// It is stopped.
    #[error("the container '{0}' is not running")]
    NotRunning(String),
    /// The views' folder lies on a mount whose mounts do not get into containers.
    #[error("what is mounted below {} would not be seen in containers: the mount at {} is private", dir.display(), mount.display())]
    NotShared {
        /// The folder.
        dir: PathBuf,
        /// The mount that it lies on.
        mount: PathBuf,
    },
    /// The project's folder would show more than a project.
    #[error("the folder {} cannot be shown to a container: {reason}", dir.display())]
    Project {
        /// The folder.
        dir: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The engine shifts the numbers of users.
    #[error("the engine gives users inside other numbers (userns-remap), so that none of them may see the vault")]
    RemapsUsers,
    /// Something of the image is in the way.
    #[error("{0}")]
    Image(String),
    /// The system refuses something.
    #[error("cannot {0}")]
    Io(String, #[source] io::Error),
}

impl ContainerError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoEngine { .. } => {
                "start Docker ('sudo systemctl start docker'), or say where it is with DOCKER_HOST or \
                 'docker context use'; 'tazpod doctor' tells what is there"
                    .to_owned()
            }
            Self::NoPermission(_) => {
                "run 'sudo usermod -aG docker $USER' and log in again, or install Docker without root \
                 ('dockerd-rootless-setuptool.sh install')"
                    .to_owned()
            }
            Self::Silent(_) => "look with 'docker info' whether it works; restart it where it does not".to_owned(),
            Self::Endpoint(_) => "'docker context ls' lists what there is; DOCKER_HOST goes before it".to_owned(),
            Self::Refused { .. } => {
                "look at the engine's log ('journalctl -u docker') where this does not say enough".to_owned()
            }
            Self::NoImage { .. } => {
                "check 'image' in .tazpod/config.yaml and the network; 'docker login' where the registry wants \
                 to know who asks"
                    .to_owned()
            }
            Self::Build(_) => "correct the Dockerfile, then 'tazpod build'".to_owned(),
            Self::Context(..) => "correct 'build' in .tazpod/config.yaml".to_owned(),
            Self::NameTaken { name, .. } => {
                format!(
                    "choose another 'container_name' in .tazpod/config.yaml, or 'docker rm {name}' when nobody needs it"
                )
            }
            Self::VolumeTaken { .. } => "choose another 'container_name' in .tazpod/config.yaml".to_owned(),
            Self::Lacking { remedy, .. } => remedy.clone(),
            Self::NotThere(_) => "'tazpod up' makes it".to_owned(),
            Self::NotRunning(_) => "'tazpod up' starts it".to_owned(),
            Self::NotShared { mount, .. } => format!(
                "run 'sudo mount --make-rshared {}', once after each start of this machine; systemd does that by itself",
                mount.display()
            ),
            Self::Project { .. } => "make the project in a folder of its own".to_owned(),
            Self::RemapsUsers => {
                "remove 'userns-remap' from /etc/docker/daemon.json, or use an engine without root".to_owned()
            }
            Self::Image(_) => "change the image, or name another one".to_owned(),
            Self::Io(..) => "look at the cause; nothing was changed in the vault".to_owned(),
        }
    }

    /// What the engine says, in words of ours where they are known.
    pub(super) fn of(doing: &str, error: Error) -> Self {
        let doing = doing.to_owned();
        match error {
            Error::DockerResponseServerError { message, .. } => Self::Refused { doing, reason: one_line(&message) },
            Error::DockerStreamError { error } => Self::Refused { doing, reason: one_line(&error) },
            Error::RequestTimeoutError => Self::Refused { doing, reason: "it took too long".to_owned() },
            error => {
                let mut reason = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    let text = cause.to_string();
                    if !reason.contains(&text) {
                        reason = format!("{reason}: {text}");
                    }
                    source = cause.source();
                }
                Self::Refused { doing, reason: one_line(&reason) }
            }
        }
    }
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine says that there is one already.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

fn one_line(text: &str) -> String {
    text.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
