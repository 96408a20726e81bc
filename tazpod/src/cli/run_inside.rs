//! `tazpod run --in-container`: values of the vault for one program in the development container. They go there through the engine's
//! connection into a file in memory that is gone when the program has them, and never into what the engine keeps of the program.

use std::ffi::OsString;
use std::process::ExitCode;

use zeroize::Zeroizing;

use crate::container::interactive::{self, Request};
use crate::container::{self, Found};
use crate::environment::shell::Shell;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::development::Development;
use super::{enter, inside, views};

/// Takes lines from standard input into a new file, tells its name, and removes it after a while if nobody came for it.
const STORE: &str = r#"set -eu
umask 077
file=$(mktemp /dev/shm/tazpod-run.XXXXXX)
head -c "$1" > "$file"
(sleep 30; rm -f "$file") < /dev/null > /dev/null 2>&1 &
echo "$file""#;
/// Takes the file's variables and runs the program with them.
const LOAD: &str = r#"file=$1; shift; . "$file" && rm -f "$file" && exec "$@""#;

/// Runs it by this program inside, where the vault is unlocked there: no value comes here.
pub fn run_there(
    development: &Development,
    names: &[String],
    flag: Option<&str>,
    command: &[OsString],
) -> CommandResult<ExitCode> {
    let side = inside::reach(development)?;
    let names = names.iter().flat_map(|name| ["--env", name]);
    let words = [&side.program(), "run"].map(str::to_owned).into_iter();
    let words = words.chain(names.chain(flag).chain(["--"]).map(str::to_owned)).chain(utf_8(command)?);
    let request =
        Request { command: words.collect(), workdir: Some(enter::workdir(development)), ..Request::default() };
    let code = interactive::run(&side.engine, &side.found, &request)?;
    inside::try_to_settle(&side, &development.plan);
    Ok(ExitCode::from(code))
}

fn utf_8(command: &[OsString]) -> CommandResult<Vec<String>> {
    let command = command.iter().map(|word| word.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    command.ok_or_else(|| CommandError::new(Status::Usage, "words for the container are UTF-8"))
}

/// Runs it and returns its exit status.
pub fn run(development: &Development, values: &[(String, String)], command: &[OsString]) -> CommandResult<ExitCode> {
    let command = utf_8(command)?;
    let found = enter::running(development)?;
    views::mount_missing(&development.plan);
    let file = store(development, &found, values)?;
    let load = ["sh", "-c", LOAD, "tazpod-run", &file].map(str::to_owned);
    let request = Request {
        command: load.into_iter().chain(command).collect(),
        workdir: Some(enter::workdir(development)),
        ..Request::default()
    };
    Ok(ExitCode::from(interactive::run(&development.engine, &found, &request)?))
}

/// Puts the values into a file in the container's memory, and returns its name.
fn store(development: &Development, found: &Found, values: &[(String, String)]) -> CommandResult<String> {
    let lines = values.iter().map(|(name, value)| Shell::Sh.export(name, value)).collect::<Vec<_>>();
    let lines = Zeroizing::new(lines.join("\n").into_bytes());
    let store = ["sh", "-c", STORE, "tazpod-run", &lines.len().to_string()].map(str::to_owned);
    let mut told = Vec::new();
    let tell = |bytes: &[u8]| told.extend_from_slice(bytes);
    let status = container::feed(&development.engine, found, &found.user, store.to_vec(), &lines, tell)?;
    let told = String::from_utf8_lossy(&told);
    if status == 0 {
        return Ok(told.trim().to_owned());
    }
    let text = format!("the values cannot be given to the program: {}", ui::printable(told.trim()));
    Err(CommandError::new(Status::Container, text)
        .hint("nothing was run; the container needs sh, mktemp and head, and memory in /dev/shm"))
}
