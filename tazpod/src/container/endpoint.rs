//! Where the engine is: DOCKER_HOST, the context that `docker context use` chose, else the usual sockets. Only finds and reads; talks
//! to nobody.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ContainerError;

/// The engine's usual socket.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// How the engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`, in the clear.
    Tcp(String),
    /// `host:port`, with certificates.
    Tls(String, Certificates),
}

/// Files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Of the authority.
    pub ca: PathBuf,
    /// Ours.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    fn within(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), cert: folder.join("cert.pem"), key: folder.join("key.pem") }
    }
}

impl Endpoint {
    /// Whether others could read what is sent to it: another machine, and no TLS.
    pub fn is_in_the_clear(&self) -> bool {
        let Self::Tcp(address) = self else { return false };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        !is_here
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(socket) => write!(f, "{}", socket.display()),
            Self::Tcp(address) | Self::Tls(address, _) => f.write_str(address),
        }
    }
}

/// What says where the engine is.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY` or `DOCKER_TLS`
    pub tls: bool,
    /// `DOCKER_CERT_PATH`
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `~/.docker`
    pub config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`
    pub runtime: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let path = |name| std::env::var_os(name).filter(|text: &OsString| !text.is_empty()).map(PathBuf::from);
        Self {
            host: text("DOCKER_HOST"),
            context: text("DOCKER_CONTEXT"),
            tls: text("DOCKER_TLS_VERIFY").or_else(|| text("DOCKER_TLS")).is_some(),
            certificates: path("DOCKER_CERT_PATH"),
            config: path("DOCKER_CONFIG").or_else(|| crate::config::home().ok().map(|home| home.join(".docker"))),
            runtime: path("XDG_RUNTIME_DIR"),
        }
    }

    /// Finds the engine; tells too what said so.
    ///
    /// # Errors
    /// [`ContainerError::Endpoint`].
    pub fn find(&self) -> Result<(Endpoint, String), ContainerError> {
        if let Some(host) = &self.host {
            let certificates = self.certificates.clone().or_else(|| self.config.clone()).filter(|_| self.tls);
            let certificates = certificates.map(|folder| Certificates::within(&folder));
            return Ok((parse(host, certificates)?, "DOCKER_HOST".to_owned()));
        }
        match self.context.clone().or_else(|| self.chosen_context()) {
            Some(name) if name != "default" => Ok((self.of_context(&name)?, format!("the context '{name}'"))),
            _ => Ok((self.usual(), "the usual place".to_owned())),
        }
    }

    fn usual(&self) -> Endpoint {
        let rootless = self.runtime.as_ref().map(|runtime| runtime.join("docker.sock"));
        match rootless {
            Some(socket) if !Path::new(DEFAULT_SOCKET).exists() && socket.exists() => Endpoint::Unix(socket),
            _ => Endpoint::Unix(DEFAULT_SOCKET.into()),
        }
    }

    fn chosen_context(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(rename = "currentContext")]
            current: Option<String>,
        }
        let text = std::fs::read(self.config.as_ref()?.join("config.json")).ok()?;
        serde_json::from_slice::<File>(&text).ok()?.current.filter(|name| !name.is_empty())
    }

    fn of_context(&self, name: &str) -> Result<Endpoint, ContainerError> {
        let missing = || ContainerError::Endpoint(format!("the Docker context '{name}' cannot be read"));
        let folder = self.config.as_ref().ok_or_else(missing)?.join("contexts");
        let id = digest(name);
        let text = std::fs::read(folder.join("meta").join(&id).join("meta.json")).map_err(|_| missing())?;
        let meta: serde_json::Value = serde_json::from_slice(&text).map_err(|_| missing())?;
        let docker = &meta["Endpoints"]["docker"];
        let host = docker["Host"].as_str().filter(|host| !host.is_empty()).ok_or_else(missing)?;
        if docker["SkipTLSVerify"].as_bool() == Some(true) {
            let text = format!(
                "the Docker context '{name}' skips the check of the engine's certificate, which is not done here"
            );
            return Err(ContainerError::Endpoint(text));
        }
        let tls = folder.join("tls").join(&id).join("docker");
        parse(host, tls.is_dir().then(|| Certificates::within(&tls)))
    }
}

/// The folder of a context is named by the SHA-256 of its name.
fn digest(name: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(host: &str, certificates: Option<Certificates>) -> Result<Endpoint, ContainerError> {
    let (scheme, rest) = host.split_once("://").unwrap_or(("unix", host));
    let rest = rest.trim_end_matches('/');
    match (scheme, certificates) {
        ("unix", _) if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
        ("tcp" | "http", None) if !rest.is_empty() => Ok(Endpoint::Tcp(with_port(rest, 2375))),
        ("tcp" | "https", Some(files)) if !rest.is_empty() => Ok(Endpoint::Tls(with_port(rest, 2376), files)),
        ("https", None) => {
            let text = format!("{host} needs certificates: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH");
            Err(ContainerError::Endpoint(text))
        }
        ("ssh", _) => {
            let text =
                format!("{host}: engines are not reached over SSH; forward the socket with 'ssh -L' and name it");
            Err(ContainerError::Endpoint(text))
        }
        _ => Err(ContainerError::Endpoint(format!(
            "'{host}' is no place of an engine; write unix:///PATH or tcp://HOST:PORT"
        ))),
    }
}

fn with_port(address: &str, port: u16) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { address.to_owned() } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_context_and_that_before_the_usual_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().to_owned();
        std::fs::write(config.join("config.json"), r#"{"currentContext": "lab"}"#).unwrap();
        let id = digest("lab");
        let meta = config.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"lab","Endpoints":{"docker":{"Host":"tcp://lab:2376","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let mut here = Surroundings { config: Some(config.clone()), ..Surroundings::default() };
        assert_eq!(here.find().unwrap().0, Endpoint::Tcp("lab:2376".to_owned()));
        let tls = config.join("contexts/tls").join(&id).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        assert_eq!(here.find().unwrap().0, Endpoint::Tls("lab:2376".to_owned(), Certificates::within(&tls)));
        here.context = Some("gone".to_owned());
        assert!(here.find().is_err());
        here.host = Some("unix:///run/d.sock".to_owned());
        assert_eq!(here.find().unwrap(), (Endpoint::Unix("/run/d.sock".into()), "DOCKER_HOST".to_owned()));
        here.host = None;
        here.context = Some("default".to_owned());
        assert!(matches!(here.find().unwrap().0, Endpoint::Unix(_)));
    }

    #[test]
    fn hosts_are_read_and_what_is_not_supported_is_named() {
        let parsed = |host| parse(host, None);
        assert_eq!(parsed("tcp://10.0.0.1").unwrap(), Endpoint::Tcp("10.0.0.1:2375".to_owned()));
        for (host, is_in_the_clear) in [
            ("tcp://10.0.0.1", true),
            ("tcp://engine:2375", true),
            ("tcp://127.0.0.1:2375", false),
            ("tcp://[::1]:2375", false),
            ("tcp://localhost", false),
            ("unix:///run/d.sock", false),
        ] {
            assert_eq!(parsed(host).unwrap().is_in_the_clear(), is_in_the_clear, "{host}");
        }
        for wrong in ["ssh://host", "npipe:////./pipe/docker", "unix://relative", "https://h:1", "tcp://"] {
            assert!(matches!(parsed(wrong), Err(ContainerError::Endpoint(_))), "{wrong}");
        }
        let files = Certificates::within(Path::new("/c"));
        assert_eq!(parse("tcp://h", Some(files.clone())).unwrap(), Endpoint::Tls("h:2376".to_owned(), files));
    }
}
