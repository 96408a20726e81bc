//! The command line: one file a command, with its arguments and its function. The only folder that imports clap.

mod automatic;
mod aws_command;
mod bar;
mod beside;
mod bridges;
mod build;
mod check;
mod compact;
mod completions;
mod container_status;
mod development;
mod doctor;
mod down;
mod ending;
mod enter;
mod env;
mod existing_vault;
mod export;
mod folder_source;
mod guided;
mod images;
mod import;
mod init;
mod inside;
mod inside_end;
mod lease;
mod list;
mod lock;
mod locked;
mod log;
mod login;
mod logs;
mod mount;
mod outlook;
mod passphrase;
mod passwd;
mod places;
mod pull;
mod push;
mod recipient;
mod recover;
mod recovery;
mod remote;
mod remote_access;
mod restore;
mod run;
mod run_inside;
mod save;
mod setup_storage;
mod shell;
mod shell_init;
mod show;
mod status;
mod sync;
mod sync_daemon;
mod sync_status;
mod take_over;
mod take_upgrade;
mod trust;
mod unattended;
mod unlock;
mod unlock_inside;
mod up;
mod update;
mod upgrade;
mod views;
mod vpn;
mod way_in;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use parking_lot::Mutex;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::agent::client::Client;
use crate::agent::syncing::SYNC;
use crate::config::{ConfigError, Overrides, Plan};
use crate::error::{CommandError, CommandResult, Status};
use crate::inside::HIDDEN;
use crate::ui;

/// Serves an encrypted archive as an ordinary folder, from memory, without sudo.
#[derive(Parser)]
#[command(name = "tazpod", version = vaultfs::VERSION, disable_help_subcommand = true, propagate_version = true)]
#[command(
    after_help = "Exit statuses: 0 ok, 1 failure, 2 usage, 3 wrong passphrase, 4 locked, 5 damaged vault, 6 conflict, 7 remote, 8 container, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    guided: guided::Arguments,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags of all commands.
#[derive(clap::Args)]
struct Global {
    /// The project's folder [default: the next one above that holds a .tazpod folder].
    #[arg(long, global = true, value_name = "DIR", env = "TAZPOD_PROJECT")]
    project: Option<PathBuf>,
    /// The archive; no project is needed then [default: .tazpod/vault/vault.tar.aes in the project].
    #[arg(long, global = true, value_name = "FILE", env = "TAZPOD_VAULT")]
    vault: Option<PathBuf>,
    /// Where the vault is mounted [default: ~/secrets].
    #[arg(long, global = true, value_name = "DIR", env = "TAZPOD_MOUNT")]
    mount: Option<PathBuf>,
    /// Writes a detailed log: of this command to standard error, of the agent to its log file.
    #[arg(long, global = true)]
    debug: bool,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Unlock(unlock::Arguments),
    Lock(lock::Arguments),
    Save(save::Arguments),
    Status(status::Arguments),
    Passwd(passwd::Arguments),
    Recipient(recipient::Arguments),
    Recovery(recovery::Arguments),
    Upgrade(upgrade::Arguments),
    Log(log::Arguments),
    Show(show::Arguments),
    Restore(restore::Arguments),
    Compact(compact::Arguments),
    Check(check::Arguments),
    Recover(recover::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Shell(shell::Arguments),
    Run(run::Arguments),
    #[command(alias = "__internal_env")]
    Env(env::Arguments),
    ShellInit(shell_init::Arguments),
    Mount(mount::MountArguments),
    Unmount(mount::UnmountArguments),
    Up(up::Arguments),
    #[command(visible_alias = "ssh")]
    Enter(enter::Arguments),
    Down(down::Arguments),
    Build(build::Arguments),
    Update(update::Arguments),
    Logs(logs::Arguments),
    Vpn(vpn::Arguments),
    Push(push::Arguments),
    Pull(pull::Arguments),
    Sync(sync::Arguments),
    Login(login::Arguments),
    SetupStorage(setup_storage::Arguments),
    Remote(remote::Arguments),
    List(list::Arguments),
    Doctor(doctor::Arguments),
    Trust(trust::Arguments),
    Completions(completions::Arguments),
    #[command(name = SYNC, hide = true)]
    Unattended(unattended::Arguments),
    #[command(name = HIDDEN, hide = true)]
    Inside(inside_end::Arguments),
    #[command(name = "__internal_sync_daemon", hide = true)]
    SyncDaemon(sync_daemon::Arguments),
}

/// Parses the command line and runs the command; errors are told here.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads the help any more: nothing to be done.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let level = if cli.global.debug { tracing::Level::DEBUG } else { tracing::Level::WARN };
    start_log(level);
    match run_command(cli) {
        Ok(code) => code,
        Err(error) => {
            let text = error.to_string();
            ui::say(text.trim_end());
            error.exit_code()
        }
    }
}

/// Writes what this project logs to standard error. What its libraries log may hold what they sign and send.
fn start_log(level: tracing::Level) {
    let ours = Targets::new().with_target("tazpod", level).with_target("vaultfs", level);
    let format = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time();
    tracing_subscriber::registry().with(format.with_filter(ours)).init();
}

/// The old tool's `-v` is `--version`.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().enumerate().map(|(index, argument)| match (index, argument.to_str()) {
        (1, Some("-v")) => "--version".into(),
        _ => argument,
    })
}

/// The arguments of a command as they are when none is given: what the environment says, and defaults.
fn usual<T: clap::Args>() -> CommandResult<T> {
    let command = T::augment_args(clap::Command::new("tazpod").no_binary_name(true));
    let matches = command.try_get_matches_from(std::iter::empty::<OsString>());
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| CommandError::new(Status::Usage, error.to_string().trim_end()))
}

fn run_command(cli: Cli) -> CommandResult<ExitCode> {
    let global = &cli.global;
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        None if cli.guided.says_yes() || ui::has_terminal() => guided::run(global, cli.guided),
        None => {
            Cli::command().print_help().map_err(|error| CommandError::caused("the help cannot be shown", &error))?;
            Ok(ExitCode::from(2))
        }
        Some(Command::Init(arguments)) => init::run(global, &arguments).map(done),
        Some(Command::Unlock(arguments)) => unlock::run(global, &arguments).map(done),
        Some(Command::Lock(arguments)) => lock::run(global, &arguments).map(done),
        Some(Command::Save(arguments)) => save::run(global, &arguments).map(done),
        Some(Command::Status(arguments)) => status::run(global, &arguments),
        Some(Command::Passwd(arguments)) => passwd::run(global, &arguments).map(done),
        Some(Command::Recipient(arguments)) => recipient::run(global, &arguments).map(done),
        Some(Command::Recovery(arguments)) => recovery::run(global, &arguments).map(done),
        Some(Command::Upgrade(arguments)) => upgrade::run(global, &arguments).map(done),
        Some(Command::Log(arguments)) => log::run(global, &arguments).map(done),
        Some(Command::Show(arguments)) => show::run(global, &arguments).map(done),
        Some(Command::Restore(arguments)) => restore::run(global, &arguments).map(done),
        Some(Command::Compact(arguments)) => compact::run(global, &arguments).map(done),
        Some(Command::Check(arguments)) => check::run(global, &arguments),
        Some(Command::Recover(arguments)) => recover::run(global, &arguments).map(done),
        Some(Command::Export(arguments)) => export::run(global, &arguments).map(done),
        Some(Command::Import(arguments)) => import::run(global, &arguments).map(done),
        Some(Command::Shell(arguments)) => shell::run(global, &arguments),
        Some(Command::Run(arguments)) => run::run(global, &arguments),
        Some(Command::Env(arguments)) => env::run(global, &arguments),
        Some(Command::ShellInit(arguments)) => shell_init::run(&arguments).map(done),
        Some(Command::Mount(arguments)) => mount::run_mount(global, &arguments).map(done),
        Some(Command::Unmount(arguments)) => mount::run_unmount(global, &arguments).map(done),
        Some(Command::Up(arguments)) => up::run(global, &arguments).map(done),
        Some(Command::Enter(arguments)) => enter::run(global, &arguments),
        Some(Command::Down(arguments)) => down::run(global, &arguments).map(done),
        Some(Command::Build(arguments)) => build::run(global, &arguments).map(done),
        Some(Command::Update(arguments)) => update::run(global, &arguments).map(done),
        Some(Command::Logs(arguments)) => logs::run(global, &arguments).map(done),
        Some(Command::Vpn(arguments)) => vpn::run(global, &arguments).map(done),
        Some(Command::Push(arguments)) => push::run(global, &arguments).map(done),
        Some(Command::Pull(arguments)) => pull::run(global, &arguments).map(done),
        Some(Command::Sync(arguments)) => sync::run(global, &arguments).map(done),
        Some(Command::Login(arguments)) => login::run(global, &arguments).map(done),
        Some(Command::SetupStorage(arguments)) => setup_storage::run(global, &arguments).map(done),
        Some(Command::Remote(arguments)) => remote::run(global, &arguments).map(done),
        Some(Command::List(arguments)) => list::run(global, &arguments).map(done),
        Some(Command::Doctor(arguments)) => doctor::run(global, &arguments),
        Some(Command::Trust(arguments)) => trust::run(global, &arguments).map(done),
        Some(Command::Completions(arguments)) => completions::run(&arguments, &Cli::command()).map(done),
        Some(Command::Unattended(arguments)) => unattended::run(global, &arguments).map(done),
        Some(Command::Inside(arguments)) => inside_end::run(global, &arguments),
        Some(Command::SyncDaemon(arguments)) => sync_daemon::run(global, &arguments).map(done),
    }
}

/// A command may make its plan more than once.
fn warn_once(warnings: &[String]) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock();
    warnings.iter().filter(|warning| told.insert((*warning).clone())).for_each(ui::warn);
}

impl Global {
    fn overrides(&self) -> Overrides {
        Overrides { project: self.project.clone(), vault: self.vault.clone(), mount: self.mount.clone() }
    }

    /// Makes the plan; asks on a terminal whether a changed project file is to be trusted.
    fn plan(&self) -> CommandResult<Plan> {
        self.plan_or_no_project()?.map_err(Into::into)
    }

    /// The same for a command that knows what to do without a project: the inner error is always that there is none.
    fn plan_or_no_project(&self) -> CommandResult<Result<Plan, ConfigError>> {
        let plan = match Plan::load(&self.overrides()) {
            Err(error @ ConfigError::NoProject(_)) => return Ok(Err(error)),
            Err(ConfigError::Untrusted { file, keys }) => match trust::ask(&file) {
                Ok(true) => Plan::load(&self.overrides())?,
                Ok(false) | Err(ui::AskError::NoTerminal) => return Err(ConfigError::Untrusted { file, keys }.into()),
                Err(error) => return Err(error.into()),
            },
            outcome => outcome?,
        };
        warn_once(&plan.warnings);
        Ok(Ok(plan))
    }

    /// The same with a part that counts only when the project's file is trusted; a terminal is asked.
    fn plan_with<T>(&self, part: impl Fn(&Plan) -> Result<T, ConfigError>) -> CommandResult<(Plan, T)> {
        let (plan, found) = self.part_of(self.plan()?, part)?;
        Ok((plan, found?))
    }

    /// The same for a command that knows what to do without: the inner error is always that the file is not trusted.
    fn part_of<T>(
        &self,
        plan: Plan,
        part: impl Fn(&Plan) -> Result<T, ConfigError>,
    ) -> CommandResult<(Plan, Result<T, ConfigError>)> {
        match part(&plan) {
            Ok(found) => Ok((plan, Ok(found))),
            Err(ConfigError::Untrusted { file, keys }) => match trust::ask(&file) {
                Ok(true) => {
                    let plan = Plan::load(&self.overrides())?;
                    let found = part(&plan)?;
                    Ok((plan, Ok(found)))
                }
                Ok(false) | Err(ui::AskError::NoTerminal) => Ok((plan, Err(ConfigError::Untrusted { file, keys }))),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Connects to the agent of the plan's vault, which must be unlocked.
    fn connect(&self) -> CommandResult<Client> {
        let plan = self.plan()?;
        match Client::connect(&plan.archive)? {
            Some(client) => Ok(client),
            None => {
                unlock::clean_up(&plan)?;
                Err(CommandError::locked(&plan.archive))
            }
        }
    }

    fn log_level(&self) -> &'static str {
        if self.debug { "debug" } else { "info" }
    }
}
