//! Values of the container's keys: each is read once, and told with its key, the reason and what to write instead.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::{ConfigError, expand_home, home};

/// What no bind may cover: where the vault's views are.
const RUN: &str = "/run/tazpod";

/// The network of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The engine's.
    Bridge,
    /// The machine's.
    Host,
    /// None at all.
    Nothing,
    /// One that exists.
    Named(String),
    /// One that is made for the container.
    Own,
}

/// A folder or file of the machine that is shown inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On this machine, absolute.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: String,
    /// What can be done with it there.
    pub access: BindAccess,
}

/// What can be done with a bind inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindAccess {
    /// Reading only.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// On this machine.
    pub source: String,
    /// Inside.
    pub target: String,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Address of this machine; `None`: all.
    pub address: Option<IpAddr>,
    /// Port of this machine.
    pub outside: u16,
    /// Port inside.
    pub inside: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What a container may do more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Making and routing tunnels: NET_ADMIN and /dev/net/tun.
    Vpn,
    /// Programs with set-uid, such as sudo.
    Sudo,
}

type Read<T> = Result<T, ConfigError>;

fn wrong<T>(key: &'static str, reason: impl Into<String>) -> Read<T> {
    Err(ConfigError::Value { key, reason: reason.into() })
}

/// A name that the engine takes.
pub fn name(key: &'static str, text: String) -> Read<String> {
    let begins = text.starts_with(|char: char| char.is_ascii_alphanumeric());
    let fits = text.len() > 1 && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char));
    if begins && fits {
        return Ok(text);
    }
    wrong(key, format!("'{text}' is no name: use letters, digits, '_', '.' and '-', and begin with a letter or digit"))
}

/// A reference to an image.
pub fn image(text: String) -> Read<String> {
    let fits = |char: char| char.is_ascii_alphanumeric() || "_.-/:@".contains(char);
    if text.starts_with(|char: char| char.is_ascii_alphanumeric()) && text.chars().all(fits) {
        return Ok(text);
    }
    wrong(
        "image",
        format!("'{text}' is no name of an image; write one like debian:12 or registry.example.org/team/lab:1"),
    )
}

/// A user's name.
pub fn user(text: &str) -> Read<String> {
    let begins = text.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '_');
    if begins && text.len() <= 32 && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char)) {
        return Ok(text.to_owned());
    }
    wrong("user", format!("'{text}' is no name of a user; write the name of the user inside, without a group"))
}

pub fn mtu(text: &str) -> Read<u32> {
    match text.parse() {
        Ok(mtu @ 576..=65535) => Ok(mtu),
        _ => wrong("container.mtu", format!("'{text}' is no size of packets; write a number from 576 to 65535")),
    }
}

pub fn network(text: Option<&str>, mtu: Option<u32>) -> Read<Network> {
    let network = match text {
        None | Some("") => Network::Bridge,
        Some("bridge") => Network::Bridge,
        Some("host") => Network::Host,
        Some("none") => Network::Nothing,
        Some(other) => Network::Named(name("container.network", other.to_owned())?),
    };
    match (mtu, network) {
        (None, network) => Ok(network),
        (Some(_), Network::Bridge) => Ok(Network::Own),
        (Some(_), _) => wrong("container.mtu", "it makes a network of its own; remove it, or 'container.network'"),
    }
}

pub fn dns(text: &str) -> Read<IpAddr> {
    let hint = || format!("'{text}' is no address; write the address of a name server, like 9.9.9.9");
    text.parse().or_else(|_| wrong("container.dns", hint()))
}

pub fn capability(text: &str) -> Read<String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if !name.is_empty() && name.chars().all(|char| char.is_ascii_uppercase() || char == '_') {
        return Ok(name.to_owned());
    }
    wrong("container.cap_add", format!("'{text}' is no capability; write one like NET_ADMIN"))
}

pub fn device(text: &str) -> Read<Device> {
    const KEY: &str = "container.devices";
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default().to_owned();
    let (target, access) = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => (source.clone(), "rwm"),
        (Some(target), None, _) if target.starts_with('/') => (target.to_owned(), "rwm"),
        (Some(access), None, _) => (source.clone(), access),
        (Some(target), Some(access), None) => (target.to_owned(), access),
        _ => return wrong(KEY, format!("'{text}' has too many parts; write /dev/NAME[:/dev/NAME[:rwm]]")),
    };
    let fits = source.starts_with("/dev/") && target.starts_with('/') && is_access(access);
    if fits {
        return Ok(Device { source, target, access: access.to_owned() });
    }
    wrong(KEY, format!("'{text}' is no device; write /dev/NAME[:/dev/NAME[:rwm]]"))
}

fn is_access(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| "rwm".contains(char))
}

pub fn security_opt(text: &str) -> Read<String> {
    if text.contains(['=', ':']) || text == "no-new-privileges" {
        return Ok(text.to_owned());
    }
    wrong("container.security_opt", format!("'{text}' is none; write one like apparmor=unconfined"))
}

/// A further folder. Never the home, which holds all keys, nor the views' place.
pub fn bind(text: &str, base: &Path) -> Read<Bind> {
    const KEY: &str = "container.binds";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source, target] | [source, target, "rw"] => (source, target, BindAccess::ReadWrite),
        [source, target, "ro"] => (source, target, BindAccess::ReadOnly),
        _ => return wrong(KEY, format!("'{text}' is none; write SOURCE:/TARGET or SOURCE:/TARGET:ro")),
    };
    let source = base.join(expand_home(Path::new(source))?);
    let source = source.canonicalize().unwrap_or(source);
    if home().is_ok_and(|home| home.canonicalize().unwrap_or(home).starts_with(&source)) {
        return wrong(
            KEY,
            format!("'{text}' would show your whole home inside, with every key; name a folder within it"),
        );
    }
    if !source.is_absolute() {
        return wrong(KEY, format!("'{text}' does not begin with a path; write /SOURCE:/TARGET"));
    }
    let target = inside(KEY, target)?;
    if Path::new(&target).starts_with(RUN) || Path::new(RUN).starts_with(&target) {
        return wrong(KEY, format!("'{text}' would cover {RUN}, where the vault is; choose another target"));
    }
    Ok(Bind { source, target, access })
}

/// A path inside.
pub fn inside(key: &'static str, text: &str) -> Read<String> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.is_absolute() && plain && path != Path::new("/") {
        return Ok(path.components().collect::<PathBuf>().to_string_lossy().into_owned());
    }
    wrong(key, format!("'{text}' is no path inside the container; write one like /workspace"))
}

pub fn environment(map: BTreeMap<String, String>) -> Read<BTreeMap<String, String>> {
    let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0', ' ']);
    match map.iter().find(|(name, value)| !is_name(name) || value.contains('\0')) {
        None => Ok(map),
        Some((name, _)) => {
            wrong("container.environment", format!("'{name}' is no name of a variable; write NAME: value"))
        }
    }
}

pub fn labels(map: BTreeMap<String, String>) -> Read<BTreeMap<String, String>> {
    match map.keys().find(|label| label.starts_with("tazpod.") || label.is_empty()) {
        None => Ok(map),
        Some(label) => {
            wrong("container.labels", format!("'{label}' cannot be set: labels of this tool begin so; use another"))
        }
    }
}

pub fn port(text: &str) -> Read<Port> {
    const HINT: &str = "write OUTSIDE:INSIDE, ADDRESS:OUTSIDE:INSIDE or PORT, and perhaps /udp after it";
    let fail = || wrong("container.ports", format!("'{text}' is no port; {HINT}"));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (address, pair) = match numbers.rsplitn(3, ':').collect::<Vec<_>>()[..] {
        [port] => (None, (number(port), number(port))),
        [inside, outside] => (None, (number(outside), number(inside))),
        [inside, outside, address] => {
            let Ok(address) = address.trim_matches(['[', ']']).parse() else { return fail() };
            (Some(address), (number(outside), number(inside)))
        }
        _ => return fail(),
    };
    match pair {
        (Some(outside), Some(inside)) if matches!(protocol, "tcp" | "udp" | "sctp") => {
            Ok(Port { address, outside, inside, protocol: protocol.to_owned() })
        }
        _ => fail(),
    }
}

pub fn privilege(text: &str) -> Read<Privilege> {
    match text {
        "vpn" => Ok(Privilege::Vpn),
        "sudo" => Ok(Privilege::Sudo),
        _ => wrong("container.privileges", format!("'{text}' is unknown; write 'vpn', 'sudo' or both, or remove it")),
    }
}
