//! What a container is to be: pure, made of the configuration and of what is known of the host. By its hash a change of the
//! configuration is noticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{BindAccess, ContainerPlan, Network, Privilege};

use super::error::ContainerError;
use super::home::Link;
use super::inside::InsideSpec;
use super::shared::Place;
use super::short::short;

/// Counts up when the same configuration makes another container.
const GENERATION: u32 = 1;
/// What `sudo` and root inside may do where that is asked for: what installing packages takes.
const FOR_ROOT: &[&str] =
    &["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// What is known of the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The user who has the vault.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Their home.
    pub home: PathBuf,
    /// `$XDG_DATA_HOME`, or `~/.local/share`.
    pub data_home: PathBuf,
    /// `$SSH_AUTH_SOCK`
    pub agent_socket: Option<PathBuf>,
}

/// What the home inside is to have beside the vault.
#[derive(Clone, Debug, Default)]
pub struct HomePlan {
    /// Paths within the vault and their places below the home.
    pub bridges: Vec<(String, String)>,
    /// Folders below `.tazpod`, and of the same names below the home.
    pub identity: Vec<String>,
    /// Where the vault is unlocked inside: what the program there is configured with.
    pub configuration: Option<String>,
}

/// A folder, file or socket that is shown inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// On this machine.
    pub source: PathBuf,
    /// Inside.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What is wanted.
#[derive(Clone, Debug, Serialize)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// The image that is configured.
    pub image: String,
    /// The user that is configured.
    pub user: Option<String>,
    /// Whom that user is mapped to.
    pub uid: u32,
    /// And the group.
    pub gid: u32,
    /// The project's folder.
    pub project: PathBuf,
    /// Where shells begin.
    pub workdir: String,
    /// Where the project is inside.
    pub workspace: String,
    /// Name of the network, as the engine knows it.
    pub network: String,
    /// Makes a network with this size of packets.
    pub mtu: Option<u32>,
    /// The folder that views are mounted in.
    pub(super) views: PathBuf,
    pub(super) shown: Vec<Shown>,
    pub(super) links: Vec<Link>,
    pub(super) ssh: Option<PathBuf>,
    pub(super) ssh_agent: bool,
    /// Another one after each login: no change of the configuration.
    #[serde(skip)]
    pub(super) agent_socket: Option<PathBuf>,
    pub(super) environment: Vec<String>,
    pub(super) dns: Vec<String>,
    pub(super) cap_add: Vec<String>,
    pub(super) security_opt: Vec<String>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) devices: Vec<[String; 3]>,
    pub(super) ports: Vec<(String, Option<String>, String)>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) init: bool,
    /// Where the vault is unlocked inside: what that takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inside: Option<InsideSpec>,
    /// Folders of tools.
    #[serde(skip)]
    pub(super) identity: Vec<String>,
    generation: u32,
}

impl ContainerSpec {
    /// Makes it.
    ///
    /// # Errors
    /// [`ContainerError::Project`].
    pub fn new(plan: &ContainerPlan, host: &Host, home: &HomePlan) -> Result<Self, ContainerError> {
        check_project(&plan.project, host)?;
        let is_vpn = plan.privileges.contains(&Privilege::Vpn);
        let is_own_namespace = plan.network != Network::Host;
        let inside = home.configuration.clone().map(|configuration| InsideSpec::new(&plan.name, configuration));
        Ok(Self {
            name: plan.name.clone(),
            image: plan.image.clone(),
            user: plan.user.clone(),
            uid: host.uid,
            gid: host.gid,
            project: plan.project.clone(),
            workdir: plan.workdir.clone().unwrap_or_else(|| plan.workspace.clone()),
            workspace: plan.workspace.clone(),
            network: network_name(plan),
            mtu: plan.mtu,
            views: Place::of(&host.data_home, &plan.name).folder().to_owned(),
            shown: shown(plan, home),
            links: links(plan, home, inside.as_ref()),
            ssh: plan.ssh.then(|| host.home.join(".ssh")).filter(|folder| folder.is_dir()),
            ssh_agent: plan.ssh_agent,
            agent_socket: host.agent_socket.clone().filter(|socket| plan.ssh_agent && socket.exists()),
            environment: environment(plan),
            dns: plan.dns.iter().map(ToString::to_string).collect(),
            cap_add: capabilities(plan, inside.as_ref()),
            security_opt: security_options(plan, inside.as_ref()),
            sysctls: if is_vpn && is_own_namespace { tunnel_settings() } else { BTreeMap::new() },
            devices: devices(plan, inside.as_ref()),
            ports: plan.ports.iter().map(port).collect(),
            labels: plan.labels.clone(),
            init: plan.init,
            inside,
            identity: home.identity.clone(),
            generation: GENERATION,
        })
    }

    /// What is told of it by a label: another configuration has another hash.
    pub fn hash(&self) -> String {
        use sha2::Digest;
        let text = serde_json::to_vec(self).expect("it is made of texts and numbers");
        short(&sha2::Sha256::digest(&text))
    }

    /// Whether the vault is unlocked inside.
    pub fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    /// What was asked for and cannot be given now, for the user.
    pub fn missing(&self, plan: &ContainerPlan) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.ssh_agent && self.agent_socket.is_none() {
            missing
                .push("'container.ssh_agent' is set, and no SSH agent is running here (SSH_AUTH_SOCK): it is left out");
        }
        if plan.ssh && self.ssh.is_none() {
            missing.push("'container.ssh' is set, and there is no ~/.ssh: it is left out");
        }
        missing
    }
}

/// A container may write what it is shown: neither the home nor what this tool keeps may be in it.
fn check_project(project: &Path, host: &Host) -> Result<(), ContainerError> {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let refuse = |reason| Err(ContainerError::Project { dir: project.to_owned(), reason });
    if whole(&host.home).starts_with(project) {
        return refuse("it is, or holds, your home, with every key in it");
    }
    if whole(&host.data_home).starts_with(project) {
        return refuse("it holds the folder that vaults are mounted in");
    }
    Ok(())
}

fn network_name(plan: &ContainerPlan) -> String {
    match &plan.network {
        Network::Bridge => "default".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Nothing => "none".to_owned(),
        Network::Named(name) => name.clone(),
        Network::Own => format!("{}-network", plan.name),
    }
}

/// The project, over it `.tazpod` so that it can only be read (a file alone could be replaced by renaming its folder), and what is
/// configured.
fn shown(plan: &ContainerPlan, home: &HomePlan) -> Vec<Shown> {
    let folder = crate::config::PROJECT_FOLDER;
    let project = Shown { source: plan.project.clone(), target: plan.workspace.clone(), read_only: false };
    let own =
        Shown { source: plan.project.join(folder), target: format!("{}/{folder}", plan.workspace), read_only: true };
    let identity = home.identity.iter().map(|name| Shown {
        source: plan.project.join(folder).join(name),
        target: format!("{}/{folder}/{name}", plan.workspace),
        read_only: false,
    });
    let binds = plan.binds.iter().map(|bind| Shown {
        source: bind.source.clone(),
        target: bind.target.clone(),
        read_only: bind.access == BindAccess::ReadOnly,
    });
    [project, own].into_iter().chain(identity).chain(binds).collect()
}

fn links(plan: &ContainerPlan, home: &HomePlan, inside: Option<&InsideSpec>) -> Vec<Link> {
    let parts = home.bridges.iter().map(|(source, name)| Link::to_part(name.clone(), source));
    let folder = Path::new(&plan.workspace).join(crate::config::PROJECT_FOLDER);
    let identity = home.identity.iter().map(|name| Link { name: name.clone(), target: folder.join(name) });
    // Unlocked inside, the vault is mounted in that place itself.
    let vault = inside.is_none().then(Link::to_vault);
    vault.into_iter().chain(parts).chain(identity).collect()
}

fn environment(plan: &ContainerPlan) -> Vec<String> {
    let project = format!("HOST_CWD={}", plan.project.display());
    let given = plan.environment.iter().map(|(name, value)| format!("{name}={value}"));
    std::iter::once(project).chain(given).collect()
}

/// None but what is asked for.
fn capabilities(plan: &ContainerPlan, inside: Option<&InsideSpec>) -> Vec<String> {
    let of = |privilege: &Privilege| match privilege {
        Privilege::Sudo => FOR_ROOT,
        Privilege::Vpn => &["NET_ADMIN"],
    };
    let asked_for = plan.privileges.iter().flat_map(of).map(|name| (*name).to_owned());
    let own = inside.map(|_| InsideSpec::CAPABILITIES.map(str::to_owned));
    let mut names: Vec<String> =
        asked_for.chain(plan.cap_add.iter().cloned()).chain(own.into_iter().flatten()).collect();
    names.sort();
    names.dedup();
    names
}

/// Without a capability that anybody could gain nobody may gain privileges: root inside has none then, either. fusermount3 inside must.
fn security_options(plan: &ContainerPlan, inside: Option<&InsideSpec>) -> Vec<String> {
    let nothing_to_gain = plan.privileges.is_empty() && plan.cap_add.is_empty();
    let own = match inside {
        Some(_) => Some(InsideSpec::SECURITY_OPTION.to_owned()),
        None => nothing_to_gain.then(|| "no-new-privileges".to_owned()),
    };
    own.into_iter().chain(plan.security_opt.iter().cloned()).collect()
}

/// As wg-quick wants them.
fn tunnel_settings() -> BTreeMap<String, String> {
    let settings = [("net.ipv4.conf.all.src_valid_mark", "1"), ("net.ipv6.conf.all.disable_ipv6", "0")];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn devices(plan: &ContainerPlan, inside: Option<&InsideSpec>) -> Vec<[String; 3]> {
    let device = |name: &str| [name.to_owned(), name.to_owned(), "rwm".to_owned()];
    let tunnel = plan.privileges.contains(&Privilege::Vpn).then(|| device("/dev/net/tun"));
    let own = tunnel.into_iter().chain(inside.map(|_| device(InsideSpec::DEVICE)));
    let given = plan.devices.iter().map(|device| [device.source.clone(), device.target.clone(), device.access.clone()]);
    own.chain(given).collect()
}

fn port(port: &crate::config::Port) -> (String, Option<String>, String) {
    (
        format!("{}/{}", port.inside, port.protocol),
        port.address.map(|address| address.to_string()),
        port.outside.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use bollard::models::{HostConfig, MountBindOptionsPropagationEnum};

    use super::super::accounts::Account;
    use super::super::request::{Folders, ReadOnlyBinds};
    use super::*;

    fn host() -> Host {
        Host {
            uid: 1234,
            gid: 1235,
            home: "/home/me".into(),
            data_home: "/home/me/.local/share".into(),
            agent_socket: None,
        }
    }

    fn plan() -> ContainerPlan {
        ContainerPlan {
            project: "/home/me/p".into(),
            name: "p-lab".to_owned(),
            image: "i".to_owned(),
            build: None,
            user: None,
            ssh: false,
            ssh_agent: false,
            dns: Vec::new(),
            network: Network::Bridge,
            mtu: None,
            cap_add: Vec::new(),
            devices: Vec::new(),
            security_opt: Vec::new(),
            binds: Vec::new(),
            environment: BTreeMap::new(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            init: true,
            privileges: Vec::new(),
            workdir: None,
            workspace: "/workspace".to_owned(),
            notes: Vec::new(),
            inside: None,
        }
    }

    fn account() -> Account {
        Account {
            name: "me".to_owned(),
            uid: 1234,
            gid: 1235,
            home: "/home/me".to_owned(),
            shell: "/bin/sh".to_owned(),
            groups: vec![27],
        }
    }

    fn host_config(plan: &ContainerPlan, binds: ReadOnlyBinds) -> HostConfig {
        let spec = ContainerSpec::new(plan, &host(), &HomePlan::default()).unwrap();
        let body = spec.body(&account(), "derived", "sha256:1", binds, Folders::Binds);
        assert_eq!(body.user.as_deref(), Some("1234:1235"));
        body.host_config.unwrap()
    }

    #[test]
    fn only_the_project_and_the_views_are_shown() {
        let mounts = host_config(&plan(), ReadOnlyBinds::Recursive).mounts.unwrap();
        let seen: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.source.as_deref().unwrap(), mount.target.as_deref().unwrap(), mount.read_only.unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                ("/home/me/p", "/workspace", false),
                ("/home/me/p/.tazpod", "/workspace/.tazpod", true),
                ("/home/me/.local/share/tazpod/mnt/p-lab", "/run/tazpod", true),
            ]
        );
        let options = mounts[2].bind_options.clone().unwrap();
        assert_eq!(options.propagation, Some(MountBindOptionsPropagationEnum::RSLAVE));
        assert_eq!(options.read_only_non_recursive, Some(true));
        let old = host_config(&plan(), ReadOnlyBinds::Flat).mounts.unwrap();
        assert_eq!(old[2].bind_options.clone().unwrap().read_only_non_recursive, None);
    }

    #[test]
    fn privileges_are_least_unless_asked_for() {
        let plain = host_config(&plan(), ReadOnlyBinds::Recursive);
        assert_eq!(plain.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(plain.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!(plain.cap_add, Some(Vec::new()));
        let vpn = host_config(&ContainerPlan { privileges: vec![Privilege::Vpn], ..plan() }, ReadOnlyBinds::Recursive);
        assert_eq!(vpn.cap_add, Some(vec!["NET_ADMIN".to_owned()]));
        let more = host_config(
            &ContainerPlan { privileges: vec![Privilege::Vpn, Privilege::Sudo], ..plan() },
            ReadOnlyBinds::Recursive,
        );
        assert_eq!(more.cap_add.map(|names| names.len()), Some(FOR_ROOT.len() + 1));
        assert_eq!(more.security_opt, Some(Vec::new()));
        assert_eq!(more.devices.unwrap()[0].path_on_host.as_deref(), Some("/dev/net/tun"));
        assert!(more.sysctls.unwrap().contains_key("net.ipv4.conf.all.src_valid_mark"));
    }

    #[test]
    fn a_vault_that_is_unlocked_inside_takes_a_device_a_capability_and_a_volume() {
        let home = HomePlan { configuration: Some("x".to_owned()), ..HomePlan::default() };
        let spec = ContainerSpec::new(&plan(), &host(), &home).unwrap();
        let of = |folders| {
            let config = spec.body(&account(), "derived", "sha256:1", ReadOnlyBinds::Recursive, folders).host_config;
            let config = config.unwrap();
            assert_eq!(config.cap_add, Some(vec!["DAC_OVERRIDE".to_owned(), "SYS_ADMIN".to_owned()]));
            assert_eq!(config.cap_drop, Some(vec!["ALL".to_owned()]));
            assert_eq!(config.security_opt, Some(vec!["apparmor=unconfined".to_owned()]));
            assert_eq!(config.devices.unwrap()[0].path_on_host.as_deref(), Some("/dev/fuse"));
            let mounts = config.mounts.unwrap().into_iter();
            mounts.map(|mount| format!("{}:{}", mount.source.unwrap(), mount.target.unwrap())).collect::<Vec<_>>()
        };
        let volume = "p-lab-vault:/var/lib/tazpod".to_owned();
        let project = ["/home/me/p:/workspace".to_owned(), "/home/me/p/.tazpod:/workspace/.tazpod".to_owned()];
        assert_eq!(of(Folders::Binds), [project[0].clone(), project[1].clone(), volume.clone()]);
        assert_eq!(of(Folders::Volumes), ["p-lab-workspace:/workspace".to_owned(), volume]);
        for place in ["/var/lib/tazpod", "/workspace", "/home/me/.config/tazpod"] {
            assert!(spec.targets(&account()).contains(&place.to_owned()), "no link is put near {place}");
        }
        let other = HomePlan { configuration: Some("y".to_owned()), ..HomePlan::default() };
        assert_ne!(spec.hash(), ContainerSpec::new(&plan(), &host(), &other).unwrap().hash());
    }

    #[test]
    fn a_change_changes_the_hash_and_a_new_login_does_not() {
        let hash =
            |plan: &ContainerPlan, host: &Host| ContainerSpec::new(plan, host, &HomePlan::default()).unwrap().hash();
        let usual = hash(&plan(), &host());
        assert_eq!(usual, hash(&plan(), &host()));
        assert_ne!(usual, hash(&ContainerPlan { mtu: Some(1300), ..plan() }, &host()));
        assert_ne!(usual, hash(&plan(), &Host { uid: 1, ..host() }));
        let agent = ContainerPlan { ssh_agent: true, ..plan() };
        let there = Host { agent_socket: Some("/proc/self/exe".into()), ..host() };
        assert_eq!(hash(&agent, &host()), hash(&agent, &there));
    }

    #[test]
    fn a_project_that_holds_the_home_is_refused() {
        for dir in ["/home/me", "/home", "/", "/home/me/.local"] {
            let outcome =
                ContainerSpec::new(&ContainerPlan { project: dir.into(), ..plan() }, &host(), &HomePlan::default());
            assert!(matches!(outcome, Err(ContainerError::Project { .. })), "{dir}");
        }
    }
}
