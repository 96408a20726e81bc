//! `tazpod vpn`

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, ExitStatus, Stdio};

use zeroize::Zeroizing;

use crate::config::{Plan, VpnPlace, VpnPlan};
use crate::container::{self, ContainerError, Engine, Patience, State};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::development::Development;
use super::{Global, inside, locked};

/// Takes the configuration from standard input into a file in memory, as wg-quick(8) wants one, and removes that afterwards.
const SCRIPT: &str = r#"set -eu
command -v wg-quick >/dev/null || exit 127
umask 077
folder=$(mktemp -d /dev/shm/tazpod-vpn.XXXXXX)
trap 'rm -rf "$folder"' EXIT
head -c "$2" > "$folder/$3.conf"
wg-quick "$1" "$folder/$3.conf" 2>&1"#;
/// The largest configuration, bytes.
const CONFIG_MAX: u64 = 1 << 20;
/// What the script ends with when there is no wg-quick.
const NO_PROGRAM: u8 = 127;

/// Opens or closes a tunnel by WireGuard: its configuration is the file of the vault that 'vpn.config' names.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, clap::Subcommand)]
enum What {
    /// Opens it, in the development container ('vpn.where: host': on this machine).
    Up,
    /// Closes it.
    Down,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let (plan, vpn) = global.plan_with(|plan| plan.vpn().cloned())?;
    let config = read_config(&plan, &vpn)?;
    let status = match vpn.place {
        VpnPlace::Container => in_container(global, arguments.what, &vpn, &config)?,
        VpnPlace::Host => on_host(arguments.what, &vpn, &config)?,
    };
    match (status, arguments.what) {
        (0, What::Up) => ui::say(format!("The tunnel {} is up", vpn.interface)),
        (0, What::Down) => ui::say(format!("The tunnel {} is down", vpn.interface)),
        (status, what) => return Err(failed(status, what, &vpn)),
    }
    Ok(())
}

/// The interface of the tunnel that is configured, where that is up and can be known at once.
pub fn open_tunnel(plan: &Plan) -> Option<String> {
    let vpn = plan.vpn().ok()?;
    let process = match vpn.place {
        VpnPlace::Host => "self".to_owned(),
        VpnPlace::Container => first_process(plan)?.to_string(),
    };
    // proc_pid_net(5): two lines of headings, then one for each interface.
    let devices = std::fs::read_to_string(format!("/proc/{process}/net/dev")).ok()?;
    let mut names = devices.lines().skip(2).filter_map(|line| line.split(':').next());
    names.any(|name| name.trim() == vpn.interface).then(|| vpn.interface.clone())
}

/// That of the container, while it runs on this machine.
fn first_process(plan: &Plan) -> Option<u32> {
    let wanted = plan.container().ok()?;
    let engine = Engine::connect(Patience::Short).ok().filter(Engine::is_local)?;
    container::find(&engine, &wanted.name, &wanted.project).ok()??.pid
}

fn failed(status: u8, what: What, vpn: &VpnPlan) -> CommandError {
    let (kind, place) = match vpn.place {
        VpnPlace::Container => (Status::Container, "the container's image"),
        VpnPlace::Host => (Status::Failure, "this machine"),
    };
    if status == NO_PROGRAM {
        return CommandError::new(kind, format!("there is no wg-quick in {place}"))
            .hint("it needs Debian's package wireguard-tools, or its like, and wireguard-go where the kernel has no WireGuard");
    }
    let text = format!("wg-quick cannot take {} {}: it ended with status {status}", vpn.interface, what.word());
    CommandError::new(kind, text).hint("its words are above; a container needs 'privileges: vpn' for a tunnel")
}

/// Reads it through the vault's own mount.
fn read_config(plan: &Plan, vpn: &VpnPlan) -> CommandResult<Zeroizing<Vec<u8>>> {
    let folder = locked::vault_folder(plan)?.ok_or_else(|| inside::locked_error(plan))?;
    let path = folder.join(&vpn.config);
    let mut config = Zeroizing::new(Vec::new());
    let read = File::open(&path).and_then(|file| file.take(CONFIG_MAX + 1).read_to_end(&mut config));
    match read {
        Ok(len) if len as u64 > CONFIG_MAX => {
            Err(CommandError::new(Status::Failure, format!("{} is no configuration of WireGuard", path.display())))
        }
        Ok(_) => Ok(config),
        Err(error) => Err(CommandError::caused(format!("cannot read {}", path.display()), &error)
            .hint("'vpn.config' names a file of the vault")),
    }
}

/// The script's arguments: what to do, the length of the configuration, the interface.
fn words(what: What, vpn: &VpnPlan, config: &[u8]) -> Vec<String> {
    ["sh", "-c", SCRIPT, "tazpod-vpn", what.word(), &config.len().to_string(), &vpn.interface]
        .map(str::to_owned)
        .to_vec()
}

fn in_container(global: &Global, what: What, vpn: &VpnPlan, config: &[u8]) -> CommandResult<u8> {
    let development = Development::open(global)?;
    let name = &development.container.name;
    let found = development.find()?.ok_or_else(|| ContainerError::NotThere(name.clone()))?;
    if found.state != State::Running {
        return Err(ContainerError::NotRunning(name.clone()).into());
    }
    let tell = |bytes: &[u8]| {
        // Nobody reads it any more: nothing to be done.
        let _ = std::io::stderr().write_all(bytes);
    };
    Ok(container::feed(&development.engine, &found, "root", words(what, vpn, config), config, tell)?)
}

fn on_host(what: What, vpn: &VpnPlan, config: &[u8]) -> CommandResult<u8> {
    let words = words(what, vpn, config);
    let as_root = if rustix::process::geteuid().is_root() {
        &words[..1]
    } else {
        &["sudo".to_owned(), "--".to_owned(), words[0].clone()][..]
    };
    let mut command = Command::new(&as_root[0]);
    command.args(&as_root[1..]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::from(std::io::stderr()));
    let ended = command.spawn().and_then(|mut child| {
        let mut pipe = child.stdin.take().expect("it is piped");
        match pipe.write_all(config) {
            // It ended before it had read all, and said why.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
            _ => drop(pipe),
        }
        child.wait()
    });
    let ended: ExitStatus =
        ended.map_err(|error| CommandError::caused(format!("cannot run {}", as_root[0]), &error))?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
