//! What the engine takes: a specification, for a user inside, of an image. Pure.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountType, PortBinding,
};

use super::accounts::Account;
use super::inside;
use super::spec::{ContainerSpec, Shown};

/// Where the views are inside.
pub const RUN: &str = "/run/tazpod";
/// Where the SSH agent's socket is inside.
const AGENT_SOCKET: &str = "/run/tazpod-ssh-agent";
/// Labels of ours.
pub const PROJECT_LABEL: &str = "tazpod.project";
pub const HASH_LABEL: &str = "tazpod.configuration";
pub const IMAGE_LABEL: &str = "tazpod.image";
pub const IMAGE_ID_LABEL: &str = "tazpod.image-id";
pub const INSIDE_LABEL: &str = "tazpod.inside";
/// The longest host name.
const HOST_NAME_MAX: usize = 63;

/// How far down a read-only bind is so, unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnlyBinds {
    /// All mounts below it, too.
    Recursive,
    /// It alone.
    Flat,
}

/// Whether the engine sees this machine's folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folders {
    /// It does.
    Binds,
    /// It is on another machine: volumes of its own take their place.
    Volumes,
}

impl ContainerSpec {
    /// What the engine takes: for a user inside, of an image, with a version of its API.
    pub(super) fn body(
        &self,
        account: &Account,
        image: &str,
        base: &str,
        binds: ReadOnlyBinds,
        folders: Folders,
    ) -> ContainerCreateBody {
        let mut labels: HashMap<String, String> = self.labels.clone().into_iter().collect();
        labels.insert(PROJECT_LABEL.to_owned(), self.project.display().to_string());
        labels.insert(HASH_LABEL.to_owned(), self.hash());
        labels.insert(IMAGE_LABEL.to_owned(), self.image.clone());
        labels.insert(IMAGE_ID_LABEL.to_owned(), base.to_owned());
        let mut environment = self.environment.clone();
        if self.inside.is_some() {
            labels.insert(INSIDE_LABEL.to_owned(), "true".to_owned());
            environment.extend(inside::environment());
        }
        if self.agent_socket.is_some() && self.has_binds(folders) {
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
            host_config: Some(self.host_config(account, binds, folders)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, account: &Account, binds: ReadOnlyBinds, folders: Folders) -> HostConfig {
        let group_add = account.groups.iter().map(ToString::to_string).collect();
        HostConfig {
            mounts: Some(self.mounts(account, binds, folders)),
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

    /// Where something is mounted or written inside, beside the views, whatever folders the engine sees.
    pub(super) fn targets(&self, account: &Account) -> Vec<String> {
        let inside = self.inside.iter().flat_map(|_| inside::places(&self.workspace, account));
        self.shown_to(account).into_iter().map(|shown| shown.target).chain(inside).collect()
    }

    fn has_binds(&self, folders: Folders) -> bool {
        self.inside.is_none() || folders == Folders::Binds
    }

    fn shown_to(&self, account: &Account) -> Vec<Shown> {
        let mut shown = self.shown.clone();
        shown.extend(self.ssh.as_ref().map(|folder| read_only(folder, format!("{}/.ssh", account.home))));
        shown.extend(self.agent_socket.as_ref().map(|socket| Shown {
            source: socket.clone(),
            target: AGENT_SOCKET.to_owned(),
            read_only: false,
        }));
        shown
    }

    fn mounts(&self, account: &Account, binds: ReadOnlyBinds, folders: Folders) -> Vec<Mount> {
        let volumes = |inside: &inside::InsideSpec| inside.volumes(&self.project, &self.workspace, folders);
        let volumes = self.inside.as_ref().map(volumes).unwrap_or_default();
        if !self.has_binds(folders) {
            return volumes;
        }
        let shown = self.shown_to(account);
        let mut mounts: Vec<Mount> = shown.iter().map(|shown| bind(shown, MountBindOptions::default())).collect();
        if self.inside.is_some() {
            mounts.extend(volumes);
            return mounts;
        }
        // Mounts that come later get in. Whether a view can be written is the view's own matter, so the folder alone is read-only.
        let options = MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RSLAVE),
            read_only_non_recursive: (binds == ReadOnlyBinds::Recursive).then_some(true),
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

fn device_mapping([source, target, access]: &[String; 3]) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(source.clone()),
        path_in_container: Some(target.clone()),
        cgroup_permissions: Some(access.clone()),
    }
}

fn read_only(source: &Path, target: String) -> Shown {
    Shown { source: source.to_owned(), target, read_only: true }
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
