//! What shells read: assignments, quoted so that a value stays a value, and the hooks that keep a shell's variables as the vault is.

use std::path::Path;

/// Shells whose language is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Any shell of POSIX.
    Sh,
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// The one that a path names, as `SHELL` does; that of POSIX when it is unknown.
    pub fn of_path(path: &Path) -> Self {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("bash") => Self::Bash,
            Some("zsh") => Self::Zsh,
            Some("fish") => Self::Fish,
            _ => Self::Sh,
        }
    }

    /// A line that sets and exports a variable.
    pub fn export(self, name: &str, value: &str) -> String {
        match self {
            Self::Fish => format!("set -gx {name} {};", self.quote(value)),
            Self::Sh | Self::Bash | Self::Zsh => format!("export {name}={};", self.quote(value)),
        }
    }

    /// A line that takes a variable away.
    pub fn unset(self, name: &str) -> String {
        match self {
            Self::Fish => format!("set -e {name};"),
            Self::Sh | Self::Bash | Self::Zsh => format!("unset {name};"),
        }
    }

    /// A function that takes variables away, and fails with none of them.
    pub fn forget(self, names: &[&str]) -> String {
        let unsets = names.iter().map(|name| match self {
            Self::Fish => format!("set -e {name};"),
            _ => format!("unset {name} 2>/dev/null || :;"),
        });
        let body = unsets.collect::<Vec<_>>().join(" ");
        match self {
            Self::Fish => format!("function __tazpod_forget; {body} end"),
            _ => format!("__tazpod_forget() {{ {body} :; }}"),
        }
    }

    /// A word that is the value and nothing else, whatever that holds (but NUL).
    fn quote(self, value: &str) -> String {
        match self {
            // Between single quotes, \\ and \' mean something there.
            Self::Fish => format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Sh | Self::Bash | Self::Zsh => format!("'{}'", value.replace('\'', r"'\''")),
        }
    }

    /// What a shell reads at its start so that it follows the vaults of this user. At each prompt it compares one line of a file with
    /// what it saw; only when that changed does it run the program.
    pub fn hook(self, program: &Path, changes: &Path) -> String {
        let text = |path: &Path| self.quote(&path.to_string_lossy());
        let template = match self {
            Self::Sh | Self::Bash => BASH,
            Self::Zsh => ZSH,
            Self::Fish => FISH,
        };
        template.replace("@CHANGES@", &text(changes)).replace("@TAZPOD@", &text(program))
    }
}

/// At the end of PROMPT_COMMAND, which keeps the status of the last command for what comes before it.
const BASH: &str = r#"__tazpod_seen=none
__tazpod_forget() { :; }
__tazpod_hook() {
    local now=none
    if [ -r @CHANGES@ ]; then IFS= read -r now 2>/dev/null < @CHANGES@ || :; fi
    if [ "${now:-none}" != "${__tazpod_seen-}" ]; then
        __tazpod_seen=${now:-none}
        __tazpod_forget
        __tazpod_forget() { :; }
        eval "$(command @TAZPOD@ env --hook --shell bash || :)" || :
    fi
    return 0
}
case "${PROMPT_COMMAND[*]-}" in
    *__tazpod_hook*) ;;
    *)
        case "$(declare -p PROMPT_COMMAND 2>/dev/null || :)" in
            'declare -a'*) PROMPT_COMMAND+=(__tazpod_hook) ;;
            *) PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND
}__tazpod_hook" ;;
        esac
        ;;
esac
"#;

const ZSH: &str = r#"typeset -g __tazpod_seen=none
__tazpod_forget() { :; }
__tazpod_hook() {
    local now=none
    if [[ -r @CHANGES@ ]]; then IFS= read -r now 2>/dev/null < @CHANGES@ || :; fi
    if [[ "${now:-none}" != "${__tazpod_seen-}" ]]; then
        __tazpod_seen=${now:-none}
        __tazpod_forget
        __tazpod_forget() { :; }
        eval "$(command @TAZPOD@ env --hook --shell zsh || :)" || :
    fi
    return 0
}
autoload -Uz add-zsh-hook
add-zsh-hook precmd __tazpod_hook
"#;

const FISH: &str = r#"set -g __tazpod_seen none
function __tazpod_forget; end
function __tazpod_hook --on-event fish_prompt
    set -l now none
    if test -r @CHANGES@
        read -l line < @CHANGES@
        and set now $line
    end
    if test "$now" != "$__tazpod_seen"
        set -g __tazpod_seen $now
        __tazpod_forget
        function __tazpod_forget; end
        command @TAZPOD@ env --hook --shell fish | source
    end
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_a_value() {
        let value = "a'b\\c\n$(x)`y`\"!";
        assert_eq!(Shell::Sh.export("A", value), "export A='a'\\''b\\c\n$(x)`y`\"!';");
        assert_eq!(Shell::Fish.export("A", value), "set -gx A 'a\\'b\\\\c\n$(x)`y`\"!';");
        assert_eq!([Shell::Zsh.unset("A"), Shell::Fish.unset("A")], ["unset A;", "set -e A;"]);
    }

    #[test]
    fn shells_are_known_by_their_names() {
        let names = ["/bin/bash", "/usr/bin/zsh", "fish", "/bin/dash", ""].map(|name| Shell::of_path(Path::new(name)));
        assert_eq!(names, [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Sh, Shell::Sh]);
    }
}
