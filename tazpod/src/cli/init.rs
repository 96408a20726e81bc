//! `tazpod init`

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vaultfs::crypto::{KdfCost, Passphrase, Suite};
use vaultfs::vault::{NewArchive, Vault};

use crate::agent::machine;
use crate::config::{self, DEFAULT_ARCHIVE, DEFAULT_MOUNT, PROJECT_FOLDER, units};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::images::Image;
use super::{Global, existing_vault, locked, passphrase, trust, usual};

/// Files that stay on this machine.
const GITIGNORE: &str = "# The archive is encrypted; it travels by other ways than git.\n/vault/\n";

/// The smallest vault that is made, in bytes.
const SIZE_MIN: u64 = 64 << 10;

/// Makes a project here: .tazpod/config.yaml, .tazpod/.gitignore and a new, empty vault.
#[derive(clap::Args)]
pub struct Arguments {
    /// Takes the default for every question that no flag answers (but the passphrase).
    #[arg(long, short)]
    yes: bool,
    /// How large the vault may grow, for example 256M.
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// The development container's image: 'base' or 'kubernetes', which are built here, the name of any other one, or 'none'.
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Version of the archive: v2, to which a commit costs only what changed, or v1, which TazPod 0.3 reads too.
    #[arg(long, value_enum, default_value_t = Format::V2)]
    format: Format,
    /// Makes no vault, for a project whose vault comes from elsewhere.
    #[arg(long)]
    no_vault: bool,
    /// Makes a new vault also where the remote that is configured holds one already, which is fetched otherwise.
    #[arg(long, conflicts_with = "no_vault")]
    new_vault: bool,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Versions of the archive.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    V2,
    V1,
}

/// The answers.
struct Answers {
    mount: String,
    size: String,
    image: Image,
}

impl Arguments {
    /// Whether what a remote holds is not to be looked at.
    pub fn wants_new_vault(&self) -> bool {
        self.new_vault
    }

    /// Whether nobody needs to be asked.
    pub fn says_yes(&self) -> bool {
        self.yes
    }

    /// Those that make a project without a vault.
    pub fn project_only(yes: bool) -> CommandResult<Self> {
        Ok(Self { yes, no_vault: true, ..usual()? })
    }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    if let Some(archive) = &global.vault {
        make_vault(&config::canonical(archive)?, arguments)?;
        return tell_next();
    }
    let project = match &global.project {
        Some(project) => config::canonical(project)?,
        None => std::env::current_dir().map_err(|error| CommandError::caused("there is no current folder", &error))?,
    };
    let (file, archive) = (config::project_file(&project), project.join(DEFAULT_ARCHIVE));
    let (has_file, has_vault) = (file.exists(), archive.exists());
    if has_file && (has_vault || arguments.no_vault) {
        let text = format!("{} is a project already", project.display());
        return Err(CommandError::new(Status::Failure, text).hint("unlock its vault with 'tazpod unlock'"));
    }
    if !has_file {
        let answers = ask(global, arguments)?;
        write_project(&project, &answers)?;
        ui::say(format!("Made {}", file.display()));
    }
    if arguments.no_vault || has_vault || existing_vault::is_fetched(global, arguments)? {
        return Ok(());
    }
    make_vault(&archive, arguments)?;
    tell_next()
}

fn tell_next() -> CommandResult {
    ui::say("Next: 'tazpod unlock'");
    Ok(())
}

fn ask(global: &Global, arguments: &Arguments) -> CommandResult<Answers> {
    let default_mount = format!("~/{DEFAULT_MOUNT}");
    let mount = match (&global.mount, arguments.yes) {
        (Some(mount), _) => text_of(mount)?,
        (None, true) => default_mount,
        (None, false) => ui::ask("Where is the vault mounted?", &default_mount)?,
    };
    let default_size = "256M".to_owned();
    let size = match (&arguments.size, arguments.yes) {
        (Some(size), _) => size.clone(),
        (None, true) => default_size,
        (None, false) => ask_size(&default_size)?,
    };
    check_size(&size).map_err(|reason| CommandError::new(Status::Usage, reason))?;
    let usual = Image::usual();
    let image = match (&arguments.image, arguments.yes) {
        (Some(image), _) => image.clone(),
        (None, true) => usual.to_owned(),
        (None, false) => ui::ask("Which image has the container (base, kubernetes, any other, none)?", usual)?,
    };
    Ok(Answers { mount, size, image: Image::of(image.trim()) })
}

/// Asks until the answer is a size.
fn ask_size(default: &str) -> CommandResult<String> {
    loop {
        let size = ui::ask("How large may it grow?", default)?;
        match check_size(&size) {
            Ok(()) => return Ok(size),
            Err(reason) => ui::say(reason),
        }
    }
}

/// A bare number is one of bytes, which somebody may not have meant.
fn check_size(text: &str) -> Result<(), String> {
    match units::size(text)? {
        SIZE_MIN.. => Ok(()),
        bytes => Err(format!("{} are too few for a vault; write a size like 256M", ui::size(bytes))),
    }
}

fn text_of(path: &Path) -> CommandResult<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CommandError::new(Status::Usage, format!("{} cannot be written into a configuration file", path.display()))
    })
}

fn write_project(project: &Path, answers: &Answers) -> CommandResult {
    let folder = project.join(PROJECT_FOLDER);
    make_folder(&folder)?;
    write_new(&folder.join(".gitignore"), GITIGNORE)?;
    answers.image.write(project)?;
    let file = config::project_file(project);
    let text = config_text(answers);
    write_new(&file, &text)?;
    trust::remember(&config::canonical(&file)?, &text)
}

fn config_text(answers: &Answers) -> String {
    // JSON strings are YAML strings.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "# Configuration of tazpod; every key may be left out.\nvault:\n  # Where it is mounted.\n  mount: {}\n  # How \
         large it may grow.\n  size: {}\n  # 'strict': closing a file waits until it is in the archive.\n  commit: \
         relaxed\n{}",
        quote(&answers.mount),
        quote(&answers.size),
        answers.image.config_text()
    )
}

/// Makes a new, empty vault.
pub fn make_vault(archive: &Path, arguments: &Arguments) -> CommandResult<Passphrase> {
    if archive.exists() {
        return Err(vaultfs::vault::VaultError::ArchiveExists(archive.to_owned()).into());
    }
    locked::protect_process()?;
    let passphrase = arguments.passphrase.clone().or_environment().choose()?;
    make_folder(archive.parent().unwrap_or(Path::new(".")))?;
    let machine = machine::this_machine().map_err(|error| CommandError::caused("there is no randomness", &error))?;
    Vault::create(archive, &passphrase, new_archive(arguments.format)?, &machine)?;
    if let Err(error) = machine::forget(archive) {
        ui::warn(format!("what this machine knew of an archive under this name cannot be forgotten ({error})"));
    }
    ui::say(format!("Made the vault {}", archive.display()));
    ui::say("Nobody can open it without the passphrase: keep it safe.");
    Ok(passphrase)
}

fn new_archive(format: Format) -> CommandResult<NewArchive> {
    let calibrate = || KdfCost::calibrate().map_err(|error| CommandError::caused("the key derivation fails", &error));
    Ok(match format {
        Format::V1 => NewArchive::V1,
        Format::V2 => NewArchive::V2 { suite: Suite::of_this_machine(), cost: calibrate()? },
    })
}

pub fn make_folder(folder: &Path) -> CommandResult {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| CommandError::caused(format!("cannot make {}", folder.display()), &error))
}

/// Writes a file unless there is one.
pub fn write_new(path: &PathBuf, text: &str) -> CommandResult {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(CommandError::caused(format!("cannot write {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}
