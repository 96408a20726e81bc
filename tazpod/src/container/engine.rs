//! The connection to the engine: found, tried within a bounded time, its API's version agreed on.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use tokio::runtime::Runtime;

use super::endpoint::{Endpoint, Surroundings};
use super::error::ContainerError;
use super::greeting;
use super::request::{Folders, ReadOnlyBinds};

/// Seconds that one request may take until its answer begins: a commit of a large home takes its time.
const REQUEST_SECS: u64 = 600;

/// How long the engine may take to answer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For commands that need it.
    Usual,
    /// For those that only tell how it stands.
    Short,
}

impl Patience {
    fn time(self) -> Duration {
        match self {
            Self::Usual => Duration::from_secs(10),
            Self::Short => Duration::from_secs(1),
        }
    }
}

/// What kind of engine it is.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its version, for people.
    pub version: String,
    /// The version of the API that is spoken.
    pub api: String,
    /// Whether it runs without root: root inside is this user then.
    pub is_rootless: bool,
    /// Whether it gives containers other numbers of users.
    pub remaps_users: bool,
}

/// An engine that answers.
pub struct Engine {
    pub(super) docker: Docker,
    pub(super) endpoint: Endpoint,
    runtime: Runtime,
    origin: String,
}

impl Engine {
    /// Finds the engine and says hello.
    ///
    /// # Errors
    /// [`ContainerError::NoEngine`], [`ContainerError::NoPermission`], [`ContainerError::Silent`], [`ContainerError::Endpoint`].
    pub fn connect(patience: Patience) -> Result<Self, ContainerError> {
        let (endpoint, origin) = Surroundings::here().find()?;
        let version = match &endpoint {
            Endpoint::Unix(socket) => greet(socket, patience)?,
            Endpoint::Tcp(_) | Endpoint::Tls(..) => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ContainerError::Io("start the connection".to_owned(), error))?;
        let docker = runtime.block_on(agree(&endpoint, version, patience))?;
        let docker = match patience {
            Patience::Usual => docker,
            Patience::Short => docker.with_timeout(patience.time()),
        };
        Ok(Self { docker, endpoint, runtime, origin })
    }

    /// Where it is, and what says so.
    pub fn place(&self) -> String {
        format!("{} ({})", self.endpoint, self.origin)
    }

    /// Where it is, whatever says so.
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// Whether others could read what is sent to it.
    pub fn is_in_the_clear(&self) -> bool {
        self.endpoint.is_in_the_clear()
    }

    /// Whether it runs on this machine, as far as can be known.
    pub fn is_local(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    /// What kind of engine it is.
    ///
    /// # Errors
    /// [`ContainerError::Refused`].
    pub fn facts(&self) -> Result<Facts, ContainerError> {
        let info = self.wait("tell about itself", self.docker.info())?;
        let options = info.security_options.unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
        Ok(Facts {
            version: info.server_version.unwrap_or_default(),
            api: self.docker.client_version().to_string(),
            is_rootless: has("name=rootless"),
            remaps_users: has("name=userns"),
        })
    }

    /// Read-only binds are so all the way down from version 1.44 of the API.
    pub(super) fn read_only_binds(&self) -> ReadOnlyBinds {
        let version = self.docker.client_version();
        match (version.major_version, version.minor_version) {
            (1, ..44) | (0, _) => ReadOnlyBinds::Flat,
            _ => ReadOnlyBinds::Recursive,
        }
    }

    /// Whether it sees this machine's folders, as far as can be known.
    pub(super) fn folders(&self) -> Folders {
        if self.is_local() { Folders::Binds } else { Folders::Volumes }
    }

    /// The same engine with a runtime of its own, for another thread.
    pub(super) fn clone_for_thread(&self) -> Result<Self, ContainerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ContainerError::Io("start the connection".to_owned(), error))?;
        Ok(Self { docker: self.docker.clone(), endpoint: self.endpoint.clone(), runtime, origin: self.origin.clone() })
    }

    /// Waits for an answer.
    pub(super) fn wait<T>(
        &self,
        doing: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ContainerError> {
        self.ask(answer).map_err(|error| ContainerError::of(doing, error))
    }

    /// The same for whoever looks at the error.
    pub(super) fn ask<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}

/// Asks an engine of this machine for the version of its API.
fn greet(socket: &Path, patience: Patience) -> Result<Option<ClientVersion>, ContainerError> {
    let place = || socket.display().to_string();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ContainerError::NoPermission(place()),
        _ => ContainerError::NoEngine { place: place(), source },
    })?;
    greeting::api_version(stream, patience.time()).or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(ContainerError::Silent(place())),
        // What is wrong is told by what follows.
        _ => Ok(None),
    })
}

/// Opens the connection with the newest version of the API that both sides know.
async fn agree(
    endpoint: &Endpoint,
    version: Option<ClientVersion>,
    patience: Patience,
) -> Result<Docker, ContainerError> {
    let place = endpoint.to_string();
    if let Some(version) = version {
        let newest = if version < *API_DEFAULT_VERSION { &version } else { API_DEFAULT_VERSION };
        return open(endpoint, newest).map_err(|error| cannot_reach(&place, error));
    }
    let docker = open(endpoint, API_DEFAULT_VERSION).map_err(|error| cannot_reach(&place, error))?;
    match tokio::time::timeout(patience.time(), docker.negotiate_version()).await {
        Err(_) => Err(ContainerError::Silent(place)),
        Ok(outcome) => outcome.map_err(|error| cannot_reach(&place, error)),
    }
}

fn open(endpoint: &Endpoint, version: &ClientVersion) -> Result<Docker, Error> {
    match endpoint {
        Endpoint::Unix(socket) => {
            Docker::connect_with_unix(&format!("unix://{}", socket.display()), REQUEST_SECS, version)
        }
        Endpoint::Tcp(address) => Docker::connect_with_http(&format!("tcp://{address}"), REQUEST_SECS, version),
        Endpoint::Tls(address, files) => Docker::connect_with_ssl(
            &format!("tcp://{address}"),
            &files.key,
            &files.cert,
            &files.ca,
            REQUEST_SECS,
            version,
        ),
    }
}

fn cannot_reach(place: &str, error: Error) -> ContainerError {
    let ContainerError::Refused { reason, .. } = ContainerError::of("be reached", error) else {
        return ContainerError::Silent(place.to_owned());
    };
    ContainerError::NoEngine { place: place.to_owned(), source: io::Error::other(reason) }
}
