//! The development container: keys of the old tool's file (`image`, `container_name`, `user`, `build`) and the section `container:`.
//! All of it counts only from a trusted file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::container_values::{self as values, Bind, Device, Network, Port, Privilege};
use super::file::{ConfigFile, scalar};
use super::{ConfigError, expand_home};

/// Where the project is inside, where nothing else is said.
const DEFAULT_WORKSPACE: &str = "/workspace";
/// The key that has the vault unlocked inside.
pub(super) const INSIDE: &str = "vault.inside";

/// `build:` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BuildSection {
    dockerfile: Option<PathBuf>,
    context: Option<PathBuf>,
}

/// `container:` as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerSection {
    ssh: bool,
    ssh_agent: bool,
    dns: Vec<Text>,
    network: Option<Text>,
    #[serde(deserialize_with = "scalar")]
    mtu: Option<String>,
    cap_add: Vec<Text>,
    devices: Vec<Text>,
    security_opt: Vec<Text>,
    binds: Vec<Text>,
    environment: BTreeMap<String, Text>,
    ports: Vec<Text>,
    labels: BTreeMap<String, Text>,
    init: Option<bool>,
    #[serde(deserialize_with = "one_or_many")]
    privileges: Vec<Text>,
    workdir: Option<Text>,
    workspace: Option<Text>,
}

/// A text, also where a number or a yes is written without quotes.
#[derive(Clone, Debug)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(value) => Ok(Self(value.to_string())),
            other => match scalar(other).map_err(serde::de::Error::custom)? {
                Some(text) => Ok(Self(text)),
                None => Err(serde::de::Error::custom("a text is missing")),
            },
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Text>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::Null => Value::Array(Vec::new()),
        list @ Value::Array(_) => list,
        one => Value::Array(vec![one]),
    };
    Vec::deserialize(value).map_err(serde::de::Error::custom)
}

/// How the image is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildPlan {
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// The folder that is sent to the engine.
    pub context: PathBuf,
}

/// The container as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// The project's folder.
    pub project: PathBuf,
    /// The container's name.
    pub name: String,
    /// The image that it is made of; what is built gets this name.
    pub image: String,
    /// How the image is built; `None`: it is pulled.
    pub build: Option<BuildPlan>,
    /// Name of the user inside; `None`: whom the image names.
    pub user: Option<String>,
    /// Whether `~/.ssh` is shown inside, so that it can only be read.
    pub ssh: bool,
    /// Whether the SSH agent is forwarded.
    pub ssh_agent: bool,
    /// Name servers; empty: the engine's.
    pub dns: Vec<IpAddr>,
    /// The network.
    pub network: Network,
    /// Makes a network of its own with this size of packets.
    pub mtu: Option<u32>,
    /// Capabilities beyond ours.
    pub cap_add: Vec<String>,
    /// Devices.
    pub devices: Vec<Device>,
    /// As the engine takes them.
    pub security_opt: Vec<String>,
    /// Further folders.
    pub binds: Vec<Bind>,
    /// Environment. It shows in `docker inspect`.
    pub environment: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Whether an init of the engine's is process 1.
    pub init: bool,
    /// What it may do more than others.
    pub privileges: Vec<Privilege>,
    /// Where shells begin; `None`: the workspace.
    pub workdir: Option<String>,
    /// Where the project is inside.
    pub workspace: String,
    /// What of the file means nothing here, for the user.
    pub notes: Vec<String>,
    /// Whether the vault is unlocked inside: `env:` as it is written then.
    pub inside: Option<BTreeMap<String, Value>>,
}

/// The keys that count only from a trusted file.
pub fn keys(file: &ConfigFile) -> Vec<&'static str> {
    let mut keys = Vec::new();
    keys.extend(file.image.as_ref().map(|_| "image"));
    keys.extend(file.container_name.as_ref().map(|_| "container_name"));
    keys.extend(file.user.as_ref().map(|_| "user"));
    keys.extend(file.build.as_ref().map(|_| "build"));
    keys.extend(file.container.as_ref().map(|_| "container"));
    keys.extend(file.vault.inside.filter(|inside| *inside).map(|_| INSIDE));
    keys
}

/// Makes the plan; relative paths begin at `base`. `None`: the file names neither an image nor a way to build one.
///
/// # Errors
/// [`ConfigError::Value`], [`ConfigError::NoHome`].
pub fn resolve(file: &ConfigFile, base: &Path, project: &Path) -> Result<Option<ContainerPlan>, ConfigError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let build = file.build.as_ref().map(|build| build_plan(build, base)).transpose()?.flatten();
    let (image, section) = (given(&file.image), file.container.clone().unwrap_or_default());
    let inside = file.vault.inside == Some(true);
    if image.is_none() && build.is_none() {
        let reason = "it is set, and there is no container: 'image' or 'build' is missing".to_owned();
        return if inside { Err(ConfigError::Value { key: INSIDE, reason }) } else { Ok(None) };
    }
    let name = match given(&file.container_name) {
        Some(name) => values::name("container_name", name)?,
        None => default_name(project),
    };
    let image = match image {
        Some(image) => values::image(image)?,
        None => format!("tazpod/{}", name.to_lowercase()),
    };
    let user = given(&file.user).map(|user| values::user(&user)).transpose()?;
    let mtu = section.mtu.as_deref().map(values::mtu).transpose()?;
    let network = values::network(section.network.as_ref().map(|text| text.0.as_str()), mtu)?;
    let path = |key, text: &Option<Text>| text.as_ref().map(|text| values::inside(key, &text.0)).transpose();
    Ok(Some(ContainerPlan {
        project: project.to_owned(),
        name,
        image,
        build,
        user,
        ssh: section.ssh,
        ssh_agent: section.ssh_agent,
        dns: each(&section.dns, values::dns)?,
        network,
        mtu,
        cap_add: each(&section.cap_add, values::capability)?,
        devices: each(&section.devices, values::device)?,
        security_opt: each(&section.security_opt, values::security_opt)?,
        binds: each(&section.binds, |text| values::bind(text, base))?,
        environment: values::environment(texts(section.environment))?,
        ports: each(&section.ports, values::port)?,
        labels: values::labels(texts(section.labels))?,
        init: section.init.unwrap_or(true),
        privileges: each(&section.privileges, values::privilege)?,
        workdir: path("container.workdir", &section.workdir)?,
        workspace: path("container.workspace", &section.workspace)?.unwrap_or_else(|| DEFAULT_WORKSPACE.to_owned()),
        notes: notes(file)?,
        inside: inside.then(|| file.env.clone().unwrap_or_default()),
    }))
}

fn each<T>(texts: &[Text], read: impl Fn(&str) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
    texts.iter().map(|text| read(text.0.trim())).collect()
}

fn texts(map: BTreeMap<String, Text>) -> BTreeMap<String, String> {
    map.into_iter().map(|(key, text)| (key, text.0)).collect()
}

fn build_plan(section: &BuildSection, base: &Path) -> Result<Option<BuildPlan>, ConfigError> {
    let given = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let (dockerfile, context) = (given(&section.dockerfile), given(&section.context));
    if dockerfile.is_none() && context.is_none() {
        return Ok(None);
    }
    let context = base.join(expand_home(&context.unwrap_or_else(|| ".".into()))?);
    let dockerfile = match dockerfile {
        Some(dockerfile) => base.join(expand_home(&dockerfile)?),
        None => context.join("Dockerfile"),
    };
    let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
    Ok(Some(BuildPlan { dockerfile: whole(dockerfile), context: whole(context) }))
}

/// `<folder>-lab`, as the old tool calls it.
fn default_name(project: &Path) -> String {
    let folder = project.file_name().unwrap_or_default().to_string_lossy();
    let fits = |char: char| if char.is_ascii_alphanumeric() || "_.-".contains(char) { char } else { '-' };
    let name: String = folder.chars().map(fits).collect();
    match name.trim_start_matches(['_', '.', '-']) {
        "" => "tazpod-lab".to_owned(),
        name => format!("{name}-lab"),
    }
}

/// What the old tool knew and this one does not.
fn notes(file: &ConfigFile) -> Result<Vec<String>, ConfigError> {
    match &file.mode {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode.is_empty() || mode == "docker" => {}
        Some(mode) => {
            let reason =
                format!("{mode} is not there: containers are made by Docker only; write 'docker' or remove it");
            return Err(ConfigError::Value { key: "mode", reason });
        }
    }
    let mut notes = Vec::new();
    if file.ghost_mode == Some(Value::Bool(true)) {
        notes.push("'ghost_mode' has no effect: the vault is in memory only, always".to_owned());
    }
    if file.features.as_ref().and_then(|features| features.get("debug")) == Some(&Value::Bool(true)) {
        notes.push("'features.debug' has no effect: use the flag --debug".to_owned());
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BindAccess;

    fn plan(text: &str) -> Result<Option<ContainerPlan>, ConfigError> {
        let (file, unknown) = ConfigFile::parse(text).unwrap();
        assert_eq!(unknown, Vec::<String>::new(), "{text}");
        resolve(&file, Path::new("/p/My Lab"), Path::new("/p/My Lab"))
    }

    #[test]
    fn a_file_of_the_old_tool_makes_its_container() {
        let text = "mode: docker\nimage: registry/tazpod:latest\ncontainer_name: lab\nuser: taz\nghost_mode: true\n\
                    features: {debug: true}\nbuild: {dockerfile: '', context: ''}\n";
        let plan = plan(text).unwrap().unwrap();
        assert_eq!((plan.name.as_str(), plan.image.as_str()), ("lab", "registry/tazpod:latest"));
        assert_eq!((plan.user.as_deref(), plan.build.clone()), (Some("taz"), None));
        assert_eq!((plan.workspace.as_str(), plan.init, plan.ssh), ("/workspace", true, false));
        assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
        assert_eq!(plan.dns, Vec::<IpAddr>::new());
    }

    #[test]
    fn the_section_is_read_whole() {
        let text = "image: i\ncontainer:\n  ssh: true\n  dns: [9.9.9.9, '::1']\n  mtu: 1300\n  cap_add: [net_admin]\n  \
                    devices: ['/dev/net/tun']\n  binds: ['data:/data:ro']\n  environment: {A: 1, B: yes, C: text}\n  \
                    ports: [8080, '127.0.0.1:5353:53/udp']\n  labels: {a: b}\n  init: false\n  privileges: vpn\n  workdir: /w\n";
        let plan = plan(text).unwrap().unwrap();
        assert_eq!(plan.name, "My-Lab-lab");
        assert_eq!(plan.network, Network::Own);
        assert_eq!((plan.cap_add, plan.privileges), (vec!["NET_ADMIN".to_owned()], vec![Privilege::Vpn]));
        let bind = Bind { source: "/p/My Lab/data".into(), target: "/data".into(), access: BindAccess::ReadOnly };
        assert_eq!(plan.binds, [bind]);
        assert_eq!(plan.environment["A"], "1");
        assert_eq!((plan.ports.len(), plan.ports[1].protocol.as_str()), (2, "udp"));
    }

    #[test]
    fn nothing_and_nonsense_are_told_apart() {
        assert_eq!(plan("container: {ssh: true}").unwrap(), None);
        assert_eq!(plan("build: {dockerfile: D}").unwrap().unwrap().image, "tazpod/my-lab-lab");
        for (wrong, key) in [
            ("mode: lxc", "mode"),
            ("container_name: 'a b'", "container_name"),
            ("user: '-x'", "user"),
            ("container: {mtu: 9}", "container.mtu"),
            ("container: {mtu: 1400, network: host}", "container.mtu"),
            ("container: {dns: [example.org]}", "container.dns"),
            ("container: {cap_add: ['a b']}", "container.cap_add"),
            ("container: {devices: [tun]}", "container.devices"),
            ("container: {binds: [/a]}", "container.binds"),
            ("container: {binds: ['/a:/run/tazpod']}", "container.binds"),
            ("container: {binds: ['~:/home/me']}", "container.binds"),
            ("container: {binds: ['/:/host']}", "container.binds"),
            ("container: {environment: {'A=': x}}", "container.environment"),
            ("container: {ports: ['80:eighty']}", "container.ports"),
            ("container: {ports: ['0']}", "container.ports"),
            ("container: {privileges: all}", "container.privileges"),
            ("container: {workspace: here}", "container.workspace"),
            ("container: {labels: {tazpod.project: /x}}", "container.labels"),
        ] {
            match plan(&format!("image: i\n{wrong}\n")) {
                Err(ConfigError::Value { key: found, .. }) => assert_eq!(found, key, "{wrong}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
