//! `tazpod doctor`

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vaultfs::crypto::{SecretMemory, SecretMemoryKind};

use crate::agent::paths;
use crate::config;
use crate::container::{ContainerError, Engine, Patience};
use crate::error::CommandResult;

use super::{Global, inside};

/// Looks whether this machine has all that is needed, and says what to do where it has not.
#[derive(clap::Args)]
pub struct Arguments {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// Something optional is missing.
    Note,
    /// Unlocking will not work.
    Bad,
}

struct Check {
    name: &'static str,
    outcome: Outcome,
    found: String,
    remedy: Option<String>,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let own = [
        fuse(),
        fusermount(),
        user_allow_other(),
        mount_place(global),
        runtime_folder(),
        locked_memory(),
        docker(),
        aws(),
    ];
    let checks: Vec<Check> = own.into_iter().chain(unlock_inside(global)).collect();
    let mut out = std::io::stdout().lock();
    let text = if arguments.json { to_json(&checks) } else { to_text(&checks) };
    // Nobody reads it any more: nothing to be done.
    let _ = writeln!(out, "{text}");
    let bad = checks.iter().any(|check| check.outcome == Outcome::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, outcome: Outcome::Good, found: found.into(), remedy: None }
}

fn flawed(name: &'static str, outcome: Outcome, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, outcome, found: found.into(), remedy: Some(remedy.into()) }
}

fn fuse() -> Check {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    match opened.map_err(|error| error.kind()) {
        Ok(_) => good("FUSE", "/dev/fuse can be used"),
        Err(std::io::ErrorKind::PermissionDenied) => {
            flawed("FUSE", Outcome::Bad, "/dev/fuse may not be opened", "run 'sudo chmod 666 /dev/fuse'")
        }
        Err(_) => flawed(
            "FUSE",
            Outcome::Bad,
            "/dev/fuse is missing",
            "run 'sudo modprobe fuse'; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
        ),
    }
}

fn fusermount() -> Check {
    const NAME: &str = "fusermount3";
    let remedy = "install the package fuse3: 'sudo apt-get install fuse3'";
    let Some(path) = find_program(NAME) else { return flawed(NAME, Outcome::Bad, "it is missing", remedy) };
    let found = path.display().to_string();
    let set_uid = std::fs::metadata(&path).is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o4000 != 0);
    if set_uid || rustix::process::geteuid().is_root() {
        return good(NAME, found);
    }
    flawed(NAME, Outcome::Bad, format!("{found} is not set-uid root"), "run 'sudo apt-get install --reinstall fuse3'")
}

fn user_allow_other() -> Check {
    const NAME: &str = "user_allow_other";
    let text = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let allowed = text.lines().any(|line| line.trim() == NAME);
    good(NAME, if allowed { "set in /etc/fuse.conf, but not used" } else { "not set, and not needed" })
}

/// Ubuntu confines fusermount3 from 25.04 on.
fn mount_place(global: &Global) -> Check {
    const NAME: &str = "mount point";
    let Ok(plan) = global.plan() else { return good(NAME, "no project here") };
    let mount = plan.mount.display().to_string();
    let confined = Path::new("/etc/apparmor.d/fusermount3").exists();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = [config::home().ok(), Some("/mnt".into()), Some("/tmp".into()), runtime];
    let allowed = places.into_iter().flatten().any(|place| plan.mount.starts_with(place));
    if confined && !allowed {
        let remedy = "AppArmor allows fusermount3 to mount below the home, /mnt, /tmp and the runtime folder: choose another \
                      place with --mount, or extend /etc/apparmor.d/local/fusermount3";
        return flawed(NAME, Outcome::Bad, mount, remedy);
    }
    good(NAME, mount)
}

fn runtime_folder() -> Check {
    const NAME: &str = "runtime folder";
    match paths::runtime_folder() {
        Ok(folder) if std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| folder.starts_with(dir)) => {
            good(NAME, folder.display().to_string())
        }
        Ok(folder) => flawed(
            NAME,
            Outcome::Note,
            format!("there is no XDG_RUNTIME_DIR; {} is used", folder.display()),
            "log in through a session of systemd, if the vault is to be locked at logout",
        ),
        Err(error) => flawed(NAME, Outcome::Bad, error.to_string(), "make your home writable, or set XDG_RUNTIME_DIR"),
    }
}

fn locked_memory() -> Check {
    const NAME: &str = "secret memory";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let limit = limit.map_or_else(|| "unlimited".to_owned(), crate::ui::size);
    match SecretMemory::new(32).map(|memory| memory.kind()) {
        Ok(kind) if kind != SecretMemoryKind::Ordinary => good(NAME, format!("{} (limit {limit})", kind.name())),
        _ => flawed(
            NAME,
            Outcome::Note,
            format!("keys would lie in memory that may be swapped (limit {limit})"),
            "raise the limit of locked memory: 'ulimit -l', or memlock in /etc/security/limits.conf",
        ),
    }
}

fn docker() -> Check {
    const NAME: &str = "Docker";
    let found = Engine::connect(Patience::Usual).and_then(|engine| Ok((engine.place(), engine.facts()?)));
    match found {
        Ok((place, facts)) if facts.remaps_users => {
            let error = ContainerError::RemapsUsers;
            flawed(NAME, Outcome::Note, format!("{} at {place}: {error}", facts.version), error.hint())
        }
        Ok((place, facts)) => {
            let how = if facts.is_rootless { ", without root" } else { "" };
            good(NAME, format!("{}, API {}{how}, at {place}", facts.version, facts.api))
        }
        Err(error) => flawed(
            NAME,
            Outcome::Note,
            error.to_string(),
            format!("{}{}; only the container needs it", error.hint(), podman_hint()),
        ),
    }
}

/// Whether a vault can be unlocked in the container that was made for that.
fn unlock_inside(global: &Global) -> Option<Check> {
    const NAME: &str = "vault.inside";
    let plan = global.plan().ok().filter(inside::is_noted)?;
    let sides = match inside::running(&plan, Patience::Usual) {
        Ok(sides) => sides,
        Err(error) => return Some(flawed(NAME, Outcome::Note, error.summary(), "see above")),
    };
    let Some(side) = sides.first() else {
        return Some(flawed(NAME, Outcome::Note, "the container does not run", "run 'tazpod up'"));
    };
    Some(match side.check() {
        Ok(()) => good(NAME, format!("/dev/fuse and fusermount3 can be used in the container '{}'", side.found.name)),
        Err(error) => flawed(NAME, Outcome::Bad, error.summary(), "change the image, then 'tazpod up --recreate'"),
    })
}

fn podman_hint() -> String {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let socket = runtime.map(|runtime| runtime.join("podman/podman.sock")).filter(|socket| socket.exists());
    socket.map_or_else(String::new, |socket| {
        format!("; Podman is there, and not tried much: 'export DOCKER_HOST=unix://{}'", socket.display())
    })
}

fn aws() -> Check {
    const NAME: &str = "AWS";
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        return good(NAME, "keys in the environment");
    }
    let home = config::home().unwrap_or_default();
    let found = [".aws/credentials", ".aws/config"].into_iter().find(|file| File::open(home.join(file)).is_ok());
    match found {
        Some(file) => good(NAME, format!("~/{file}")),
        None => flawed(NAME, Outcome::Note, "no credentials", "put them into the vault; only copies in S3 need them"),
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(is_program)
}

fn to_text(checks: &[Check]) -> String {
    let lines = checks.iter().map(|check| {
        let mark = match check.outcome {
            Outcome::Good => "ok  ",
            Outcome::Note => "note",
            Outcome::Bad => "BAD ",
        };
        let remedy = check.remedy.as_ref().map_or_else(String::new, |remedy| format!("\n       {remedy}"));
        format!("{mark}   {}: {}{remedy}", check.name, check.found)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn to_json(checks: &[Check]) -> String {
    let list = checks.iter().map(|check| {
        let outcome = match check.outcome {
            Outcome::Good => "ok",
            Outcome::Note => "note",
            Outcome::Bad => "bad",
        };
        serde_json::json!({"name": check.name, "outcome": outcome, "found": check.found, "remedy": check.remedy})
    });
    serde_json::Value::from_iter(list).to_string()
}
