//! Running this program inside, as who works there, and telling its errors as one's own.

use serde::de::DeserializeOwned;

use crate::container::inside::Program;
use crate::container::{self, Engine, Found, Patience, Told};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::HIDDEN;

/// A running container whose vault is unlocked inside, if it is.
pub struct Side {
    /// The engine that has it.
    pub engine: Engine,
    /// The container.
    pub found: Found,
    program: Program,
}

impl Side {
    /// Sees to it that this very program is there.
    pub fn reach(engine: Engine, found: Found) -> CommandResult<Self> {
        let program = Program::own()?;
        program.ensure(&engine, &found)?;
        Ok(Self { engine, found, program })
    }

    /// The same by a connection of its own.
    pub fn connect(found: Found) -> CommandResult<Self> {
        Self::reach(Engine::connect(Patience::Usual)?, found)
    }

    /// The program's path inside.
    pub fn program(&self) -> String {
        self.program.path()
    }

    /// Looks whether the image has what it takes.
    pub fn check(&self) -> CommandResult {
        Ok(self.program.check(&self.engine, &self.found)?)
    }

    /// Runs a command of this program; `input` is its standard input and goes nowhere else. What it warns of is told.
    pub fn call(&self, words: &[&str], input: &[u8]) -> CommandResult<Vec<u8>> {
        let command = std::iter::once(self.program()).chain(words.iter().map(|word| (*word).to_owned())).collect();
        let told = container::ask(&self.engine, &self.found, command, input)?;
        let errors = String::from_utf8_lossy(&told.errors).into_owned();
        errors.lines().filter(|line| line.starts_with(WARNING)).for_each(|line| ui::say(ui::printable(line)));
        match told.status {
            0 => Ok(told.output),
            _ => Err(failure(&told, &errors)),
        }
    }

    /// The same of a command that answers in JSON.
    pub fn call_json<T: DeserializeOwned>(&self, words: &[&str]) -> CommandResult<T> {
        let output = self.call(words, b"")?;
        serde_json::from_slice(&output)
            .map_err(|error| CommandError::caused("the program in the container says something strange", &error))
    }

    /// The same of what only this program asks of itself.
    pub fn call_hidden<T: DeserializeOwned>(&self, words: &[&str]) -> CommandResult<T> {
        self.call_json(&[&[HIDDEN], words].concat())
    }
}

const WARNING: &str = "Warning: ";

/// Its error with its exit status.
fn failure(told: &Told, errors: &str) -> CommandError {
    let (mut message, mut hint) = (Vec::new(), Vec::new());
    let mut is_hint = false;
    for line in errors.lines().filter(|line| !line.starts_with(WARNING)) {
        let line = ui::printable(line);
        if let Some(text) = line.strip_prefix("Hint: ") {
            is_hint = true;
            hint.push(text.to_owned());
        } else {
            let text = ["Error: ", "Caused by: "].iter().find_map(|start| line.strip_prefix(start)).unwrap_or(&line);
            if is_hint { hint.push(text.to_owned()) } else { message.push(text.to_owned()) }
        }
    }
    if message.is_empty() {
        message.push(format!("the program ended with status {}", told.status));
    }
    let error = CommandError::new(status(told.status), format!("in the container: {}", message.join(": ")));
    if hint.is_empty() { error } else { error.hint(hint.join("\n")) }
}

fn status(number: u8) -> Status {
    use Status::{Conflict, Container, Damaged, Failure, Interrupted, Locked, Remote, Usage, WrongPassphrase};
    let all = [Usage, WrongPassphrase, Locked, Damaged, Conflict, Remote, Container, Interrupted];
    all.into_iter().find(|status| *status as u8 == number).unwrap_or(Failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_is_told_as_one_of_ours() {
        let told = Told { status: 3, ..Told::default() };
        let errors = "Warning: w\nError: the passphrase is wrong\nCaused by: x\nHint: try again\nmore\n";
        let error = failure(&told, errors);
        assert_eq!(error.status, Status::WrongPassphrase);
        assert_eq!(error.to_string(), "Error: in the container: the passphrase is wrong: x\nHint: try again\nmore\n");
        let killed = failure(&Told { status: 137, ..Told::default() }, "");
        assert!(killed.to_string().contains("status 137"));
        assert_eq!(killed.status, Status::Failure);
    }
}
