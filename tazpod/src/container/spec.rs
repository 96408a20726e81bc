//! What a container is to be: pure, made of the configuration and of what is known of the host, and turned into what the engine takes.
//! By its hash a change of the configuration is noticed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountType, PortBinding,
};
use serde::Serialize;

use crate::config::{BindAccess, ContainerPlan, Network, Privilege};

use super::accounts::Account;
use super::error::ContainerError;
use super::shared::Place;

/// Where the views are inside.
pub const RUN: &str = "/run/tazpod";
/// Where the SSH agent's socket is inside.
const AGENT_SOCKET: &str = "/run/tazpod-ssh-agent";
/// Labels of ours.
pub const PROJECT_LABEL: &str = "tazpod.project";
pub const HASH_LABEL: &str = "tazpod.configuration";
pub const IMAGE_LABEL: &str = "tazpod.image";
pub const IMAGE_ID_LABEL: &str = "tazpod.image-id";
/// Counts up when the same configuration makes another container.
const GENERATION: u32 = 1;
/// What root inside may do: what installing packages takes, and no more. Nobody else has any of it.
const CAPABILITIES: &[&str] =
    &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];
/// The longest host name.
const HOST_NAME_MAX: usize = 63;

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
    views: PathBuf,
    shown: Vec<Shown>,
    ssh: Option<PathBuf>,
    ssh_agent: bool,
    /// Another one after each login: no change of the configuration.
    #[serde(skip)]
    agent_socket: Option<PathBuf>,
    environment: Vec<String>,
    dns: Vec<String>,
    cap_add: Vec<String>,
    security_opt: Vec<String>,
    sysctls: BTreeMap<String, String>,
    devices: Vec<[String; 3]>,
    ports: Vec<(String, Option<String>, String)>,
    labels: BTreeMap<String, String>,
    init: bool,
    generation: u32,
}

impl ContainerSpec {
    /// Makes it.
    ///
    /// # Errors
    /// [`ContainerError::Project`].
    pub fn new(plan: &ContainerPlan, host: &Host) -> Result<Self, ContainerError> {
        check_project(&plan.project, host)?;
        let is_vpn = plan.privileges.contains(&Privilege::Vpn);
        let is_own_namespace = plan.network != Network::Host;
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
            shown: shown(plan),
            ssh: plan.ssh.then(|| host.home.join(".ssh")).filter(|folder| folder.is_dir()),
            ssh_agent: plan.ssh_agent,
            agent_socket: host.agent_socket.clone().filter(|socket| plan.ssh_agent && socket.exists()),
            environment: environment(plan),
            dns: plan.dns.iter().map(ToString::to_string).collect(),
            cap_add: capabilities(plan),
            security_opt: security_options(plan),
            sysctls: if is_vpn && is_own_namespace { tunnel_settings() } else { BTreeMap::new() },
            devices: devices(plan),
            ports: plan.ports.iter().map(port).collect(),
            labels: plan.labels.clone(),
            init: plan.init,
            generation: GENERATION,
        })
    }

    /// What is told of it by a label: another configuration has another hash.
    pub fn hash(&self) -> String {
        use sha2::Digest;
        let text = serde_json::to_vec(self).expect("it is made of texts and numbers");
        sha2::Sha256::digest(&text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
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

    /// What the engine takes: for a user inside, of an image, with a version of its API.
    pub(super) fn body(
        &self,
        account: &Account,
        image: &str,
        base: &str,
        recursive_read_only: bool,
    ) -> ContainerCreateBody {
        let mut labels: HashMap<String, String> = self.labels.clone().into_iter().collect();
        labels.insert(PROJECT_LABEL.to_owned(), self.project.display().to_string());
        labels.insert(HASH_LABEL.to_owned(), self.hash());
        labels.insert(IMAGE_LABEL.to_owned(), self.image.clone());
        labels.insert(IMAGE_ID_LABEL.to_owned(), base.to_owned());
        let mut environment = self.environment.clone();
        if self.agent_socket.is_some() {
            environment.push(format!("SSH_AUTH_SOCK={AGENT_SOCKET}"));
        }
        ContainerCreateBody {
            hostname: Some(host_name(&self.name)),
            image: Some(image.to_owned()),
            user: Some(format!("{}:{}", account.uid, account.gid)),
            env: Some(environment),
            entrypoint: Some(vec!["sleep".to_owned()]),
            cmd: Some(vec!["infinity".to_owned()]),
            working_dir: Some(self.workdir.clone()),
            labels: Some(labels),
            exposed_ports: Some(self.ports.iter().map(|(inside, ..)| inside.clone()).collect()),
            host_config: Some(self.host_config(account, recursive_read_only)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, account: &Account, recursive_read_only: bool) -> HostConfig {
        let group_add = account.groups.iter().map(ToString::to_string).collect();
        HostConfig {
            mounts: Some(self.mounts(account, recursive_read_only)),
            network_mode: Some(self.network.clone()),
            dns: Some(self.dns.clone()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(self.cap_add.clone()),
            security_opt: Some(self.security_opt.clone()),
            sysctls: Some(self.sysctls.clone().into_iter().collect()),
            group_add: Some(group_add),
            devices: Some(self.devices.iter().map(device_mapping).collect()),
            port_bindings: Some(self.port_bindings()),
            init: Some(self.init),
            ..HostConfig::default()
        }
    }

    fn mounts(&self, account: &Account, recursive_read_only: bool) -> Vec<Mount> {
        let mut shown = self.shown.clone();
        let read_only = |source: &Path, target: String| Shown { source: source.to_owned(), target, read_only: true };
        shown.extend(self.ssh.as_ref().map(|folder| read_only(folder, format!("{}/.ssh", account.home))));
        shown.extend(self.agent_socket.as_ref().map(|socket| Shown {
            source: socket.clone(),
            target: AGENT_SOCKET.to_owned(),
            read_only: false,
        }));
        let mut mounts: Vec<Mount> = shown.iter().map(|shown| bind(shown, MountBindOptions::default())).collect();
        // Mounts that come later get in. Whether a view can be written is the view's own matter, so the folder alone is read-only.
        let options = MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RSLAVE),
            read_only_non_recursive: recursive_read_only.then_some(true),
            ..MountBindOptions::default()
        };
        mounts.push(bind(&read_only(&self.views, RUN.to_owned()), options));
        mounts
    }

    fn port_bindings(&self) -> HashMap<String, Option<Vec<PortBinding>>> {
        let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for (inside, address, outside) in &self.ports {
            let binding = PortBinding { host_ip: address.clone(), host_port: Some(outside.clone()) };
            bindings.entry(inside.clone()).or_default().get_or_insert_default().push(binding);
        }
        bindings
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
fn shown(plan: &ContainerPlan) -> Vec<Shown> {
    let folder = crate::config::PROJECT_FOLDER;
    let project = Shown { source: plan.project.clone(), target: plan.workspace.clone(), read_only: false };
    let own =
        Shown { source: plan.project.join(folder), target: format!("{}/{folder}", plan.workspace), read_only: true };
    let binds = plan.binds.iter().map(|bind| Shown {
        source: bind.source.clone(),
        target: bind.target.clone(),
        read_only: bind.access == BindAccess::ReadOnly,
    });
    [project, own].into_iter().chain(binds).collect()
}

fn environment(plan: &ContainerPlan) -> Vec<String> {
    let project = format!("HOST_CWD={}", plan.project.display());
    let given = plan.environment.iter().map(|(name, value)| format!("{name}={value}"));
    std::iter::once(project).chain(given).collect()
}

fn capabilities(plan: &ContainerPlan) -> Vec<String> {
    let mut names: Vec<String> = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(plan.privileges.contains(&Privilege::Vpn).then(|| "NET_ADMIN".to_owned()));
    names.extend(plan.privileges.contains(&Privilege::Sudo).then(|| "AUDIT_WRITE".to_owned()));
    names.extend(plan.cap_add.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Without a reason to gain privileges nobody inside can.
fn security_options(plan: &ContainerPlan) -> Vec<String> {
    let keeps = !plan.privileges.contains(&Privilege::Sudo);
    let own = keeps.then(|| "no-new-privileges".to_owned());
    own.into_iter().chain(plan.security_opt.iter().cloned()).collect()
}

/// As wg-quick wants them.
fn tunnel_settings() -> BTreeMap<String, String> {
    let settings = [("net.ipv4.conf.all.src_valid_mark", "1"), ("net.ipv6.conf.all.disable_ipv6", "0")];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn devices(plan: &ContainerPlan) -> Vec<[String; 3]> {
    let tunnel = || ["/dev/net/tun".to_owned(), "/dev/net/tun".to_owned(), "rwm".to_owned()];
    let own = plan.privileges.contains(&Privilege::Vpn).then(tunnel);
    let given = plan.devices.iter().map(|device| [device.source.clone(), device.target.clone(), device.access.clone()]);
    own.into_iter().chain(given).collect()
}

fn device_mapping([source, target, access]: &[String; 3]) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(source.clone()),
        path_in_container: Some(target.clone()),
        cgroup_permissions: Some(access.clone()),
    }
}

fn port(port: &crate::config::Port) -> (String, Option<String>, String) {
    (
        format!("{}/{}", port.inside, port.protocol),
        port.address.map(|address| address.to_string()),
        port.outside.to_string(),
    )
}

fn bind(shown: &Shown, options: MountBindOptions) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(shown.source.display().to_string()),
        target: Some(shown.target.clone()),
        read_only: Some(shown.read_only),
        bind_options: Some(options),
        ..Mount::default()
    }
}

fn host_name(name: &str) -> String {
    let fits = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '-' };
    let name: String = name.chars().take(HOST_NAME_MAX).map(fits).collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
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

    fn host_config(plan: &ContainerPlan, recursive: bool) -> HostConfig {
        let body = ContainerSpec::new(plan, &host()).unwrap().body(&account(), "derived", "sha256:1", recursive);
        assert_eq!(body.user.as_deref(), Some("1234:1235"));
        body.host_config.unwrap()
    }

    #[test]
    fn only_the_project_and_the_views_are_shown() {
        let mounts = host_config(&plan(), true).mounts.unwrap();
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
        let old = host_config(&plan(), false).mounts.unwrap();
        assert_eq!(old[2].bind_options.clone().unwrap().read_only_non_recursive, None);
    }

    #[test]
    fn privileges_are_least_unless_asked_for() {
        let plain = host_config(&plan(), true);
        assert_eq!(plain.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(plain.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert!(!plain.cap_add.unwrap().iter().any(|name| name.contains("ADMIN") || name.contains("NET_RAW")));
        let more = host_config(&ContainerPlan { privileges: vec![Privilege::Vpn, Privilege::Sudo], ..plan() }, true);
        assert!(more.cap_add.unwrap().contains(&"NET_ADMIN".to_owned()));
        assert_eq!(more.security_opt, Some(Vec::new()));
        assert_eq!(more.devices.unwrap()[0].path_on_host.as_deref(), Some("/dev/net/tun"));
        assert!(more.sysctls.unwrap().contains_key("net.ipv4.conf.all.src_valid_mark"));
    }

    #[test]
    fn a_change_changes_the_hash_and_a_new_login_does_not() {
        let hash = |plan: &ContainerPlan, host: &Host| ContainerSpec::new(plan, host).unwrap().hash();
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
            let outcome = ContainerSpec::new(&ContainerPlan { project: dir.into(), ..plan() }, &host());
            assert!(matches!(outcome, Err(ContainerError::Project { .. })), "{dir}");
        }
    }
}
