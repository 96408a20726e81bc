//! Values of the vault in the environment: through real shells, whatever they hold; for one program only; coming and going with the
//! vault at a real prompt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use rexpect::session::{PtySession, spawn_command};
use rustix::process::Signal;
use serde_json::{Value, json};
use user::{User, eventually, signal};

/// Values that a shell would take for something else, where it can.
const HOSTILE: [&str; 14] = [
    "plain",
    "",
    " two  words ",
    "it's \"quoted\" `back` 'q'",
    "$HOME ${HOME} $(touch ~/pwned) `touch ~/pwned`",
    "back\\slash\\\\ \\n \\' \\",
    "two\nlines\n\nand more\n",
    "\n",
    "\r\ttab\u{1b}[31m",
    "'; touch ~/pwned; '",
    "''\\''",
    "!! !x ~ * ? [a] {b,c} <x >y | & ; # (z)",
    "-n -e --help =x",
    "ünïcödé \u{1f511}",
];

const CONFIG: &str = "env:
  TOKEN: token
  KUBECONFIG: {path: .kube/config}
  AWS_ACCESS_KEY_ID: {file: .aws/credentials, ini: default.aws_access_key_id}
  FROM_DOTENV: {file: dot, dotenv: KEY}
  FROM_JSON: {file: j.json, json: a.b.0}
  FROM_YAML: {file: y.yaml, yaml: a.b}";

const CONTENT: &str = "mkdir .aws && echo MARKER-token > token && printf '[default]\\naws_access_key_id = AK7\\n' > .aws/credentials && \
     echo 'export KEY=\"dot env\"' > dot && echo '{\"a\": {\"b\": [7]}}' > j.json && printf 'a:\\n  b: yes it is\\n' > y.yaml";

fn user_with(config: &str, content: &str) -> User {
    let user = User::with_vault();
    user.shell_ok(&format!("cd p && cat >> .tazpod/config.yaml <<'END'\n{config}\nEND\ntazpod trust --yes"));
    user.unlock();
    user.shell_ok(&format!("cd secrets && {content}"));
    user
}

fn values(user: &User, script: &str) -> Value {
    serde_json::from_str(&user.shell_ok(script)).unwrap()
}

/// Prints the named variables as they are in its own environment.
const SHOW: &str =
    "python3 -c 'import json, os, sys; print(json.dumps({name: os.environ.get(name) for name in sys.argv[1:]}))'";

#[test]
fn files_and_fields_are_printed_as_shells_and_programs_read_them() {
    let user = user_with(CONFIG, CONTENT);
    let kubeconfig = user.mount().join(".kube/config");
    let expected = json!({
        "TOKEN": "MARKER-token", "KUBECONFIG": kubeconfig, "AWS_ACCESS_KEY_ID": "AK7", "FROM_DOTENV": "dot env",
        "FROM_JSON": "7", "FROM_YAML": "yes it is",
    });
    assert_eq!(values(&user, "cd p && tazpod env --json"), expected);
    assert_eq!(values(&user, "cd p && tazpod __internal_env --json TOKEN"), json!({"TOKEN": "MARKER-token"}));
    let names = "TOKEN KUBECONFIG AWS_ACCESS_KEY_ID FROM_DOTENV FROM_JSON FROM_YAML";
    assert_eq!(values(&user, &format!("cd p && eval \"$(SHELL=/bin/bash tazpod env)\" && {SHOW} {names}")), expected);
    assert_eq!(values(&user, &format!("cd p && tazpod run -- {SHOW} {names}")), expected);
    let only = values(&user, &format!("cd p && tazpod run --env TOKEN,FROM_JSON -- {SHOW} TOKEN FROM_JSON KUBECONFIG"));
    assert_eq!(only, json!({"TOKEN": "MARKER-token", "FROM_JSON": "7", "KUBECONFIG": null}));
    let (status, _, told) = user.shell("cd p && tazpod env NONE");
    assert!(status == 2 && told.contains("has no NONE"), "{told}");
}

#[test]
fn hostile_values_come_through_every_shell_as_they_are() {
    let names: Vec<String> = (0..HOSTILE.len()).map(|index| format!("V{index}")).collect();
    let config = names.iter().map(|name| format!("\n  {name}: {name}")).collect::<String>();
    let user = user_with(&format!("env:{config}"), "true");
    for (name, value) in names.iter().zip(HOSTILE) {
        // One newline at the end is dropped.
        std::fs::write(user.home.join(name), format!("{value}\n")).unwrap();
        user.shell_ok(&format!("cp {name} secrets/{name}"));
    }
    let expected: Value = names.iter().zip(HOSTILE).map(|(name, value)| (name.clone(), json!(value))).collect();
    let names = names.join(" ");
    assert_eq!(values(&user, "cd p && tazpod env --json"), expected);
    for shell in ["sh", "dash", "bash", "zsh", "fish"] {
        let language = if shell == "dash" { "sh" } else { shell };
        let take = match shell {
            "fish" => "tazpod env --shell fish | source".to_owned(),
            _ => format!("eval \"$(tazpod env --shell {language})\""),
        };
        let set = format!("{take}; and {SHOW} {names}");
        let set = if shell == "fish" { set } else { set.replace("; and", " &&") };
        std::fs::write(user.home.join("script"), &set).unwrap();
        assert_eq!(values(&user, &format!("cd p && {shell} ~/script")), expected, "{shell}");
        let unset = set.replace(&take, &format!("{take}\n{}", take.replace("env", "env --unset")));
        std::fs::write(user.home.join("script"), unset).unwrap();
        let gone = values(&user, &format!("cd p && {shell} ~/script"));
        assert!(gone.as_object().unwrap().values().all(Value::is_null), "{shell}: {gone}");
    }
    assert!(!user.home.join("pwned").exists());
}

#[test]
fn what_no_variable_can_hold_is_refused_and_the_others_are_given() {
    let config = "env: {GOOD: good, BINARY: binary, NUL: nul, GONE: gone, FIELD: {file: good, json: a}}";
    let user = user_with(config, "echo fine > good && printf '\\377\\376' > binary && printf 'a\\0b' > nul");
    let (status, out, told) = user.shell("cd p && tazpod env --shell sh");
    assert_eq!((status, out.as_str()), (1, "export GOOD='fine';\n"), "{told}");
    for reason in [
        "BINARY: binary of the vault is no UTF-8",
        "NUL: the value has a NUL",
        "GONE: gone of the vault",
        "FIELD: good: this is no JSON",
    ] {
        assert!(told.contains(reason), "{told}");
    }
    assert!(!told.contains("fine"), "an error shows no content");
    let (status, out, told) = user.shell("cd p && tazpod run -- echo ran");
    assert!((status, out.as_str()) == (1, "") && told.contains("nothing was run"), "{told}");
    assert_eq!(user.shell_ok("cd p && tazpod run --env GOOD -- sh -c 'echo $GOOD'"), "fine\n");
    user.lock();
    let (status, _, told) = user.shell("cd p && tazpod env");
    assert!(status == 4 && told.contains("tazpod unlock"), "{told}");
    assert_eq!(user.shell_ok("cd p && tazpod env --unset --shell zsh GOOD"), "unset GOOD;\n", "it works locked");
}

#[test]
fn a_file_that_was_not_trusted_sets_nothing_and_nobody_sets_what_steers_programs() {
    let user = User::with_vault();
    user.shell_ok("cd p && grep -v mount .tazpod/config.yaml > c; mv c .tazpod/config.yaml; tazpod trust --yes");
    user.unlock();
    user.shell_ok("echo x > secrets/token && cd p && echo 'env: {TOKEN: token}' >> .tazpod/config.yaml");
    for command in ["tazpod env", "tazpod run -- true"] {
        let (status, out, told) = user.shell(&format!("cd p && {command}"));
        assert!(status == 2 && out.is_empty() && told.contains("has not been trusted, and sets env"), "{told}");
    }
    let (status, out, told) = user.shell("cd p && tazpod env --hook --shell bash");
    assert!(status == 0 && !out.contains("TOKEN") && told.contains("has not been trusted"), "{out}{told}");
    user.shell_ok("cd p && tazpod trust --yes && tazpod env");
    user.shell_ok("cd p && sed -i 's/TOKEN/LD_PRELOAD/' .tazpod/config.yaml && tazpod trust --yes");
    let (status, _, told) = user.shell("cd p && tazpod env");
    assert!(status == 2 && told.contains("LD_PRELOAD"), "{told}");
    user.shell_ok("cd p && tazpod status && tazpod save");
}

/// A program of `tazpod run` and what it prints.
fn start(user: &User, script: &str) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let mut child = user.terminal_command(script).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    (child, lines)
}

#[test]
fn signals_and_the_end_of_a_program_are_passed_on() {
    let user = User::unlocked();
    for (script, status) in [
        ("sh -c 'exit 0'", 0),
        ("sh -c 'exit 42'", 42),
        ("sh -c 'kill -KILL $$'", 137),
        ("sh -c 'kill -TERM $$'", 143),
        ("./no-such-program", 127),
        ("/etc/passwd", 126),
    ] {
        assert_eq!(user.shell(&format!("cd p && tazpod run -- {script}")).0, status, "{script}");
    }
    assert_eq!(user.shell_ok("cd p && echo through | tazpod run -- cat"), "through\n");
    for (name, number) in [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("USR1", Signal::USR1)] {
        let trap = format!("trap \"echo got; exit 7\" {name}; echo ready; while :; do sleep 0.05; done");
        let (mut child, mut lines) = start(&user, &format!("cd p && exec tazpod run -- sh -c '{trap}'"));
        signal(i32::try_from(child.id()).unwrap(), number);
        assert_eq!(lines.next().unwrap().unwrap(), "got", "{name}");
        assert_eq!(child.wait().unwrap().code(), Some(7), "{name}");
    }
}

#[test]
fn ctrl_c_reaches_a_program_once_and_does_not_end_the_lease_before_it() {
    let user = User::unlocked();
    let count = "import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print(\"ready\", flush=True)
until = time.time() + 2
while time.time() < until: time.sleep(0.05)
print(\"seen\", len(seen))";
    std::fs::write(user.home.join("count.py"), count).unwrap();
    let mut session =
        spawn_command(user.terminal_command("cd p && tazpod run -- python3 ~/count.py; echo ended $?"), Some(20_000))
            .unwrap();
    session.exp_string("ready").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("seen 1").unwrap();
    session.exp_string("ended 0").unwrap();
}

#[test]
fn no_value_is_in_an_argument_list_a_log_or_the_environment_of_another_process() {
    let user = user_with(CONFIG, CONTENT);
    let mut running = user.command("cd p && tazpod --debug run -- sleep 3").spawn().unwrap();
    user.shell_ok("cd p && tazpod --debug env >/dev/null");
    let mut holders = Vec::new();
    eventually("the program runs", || {
        holders = processes_with(&user, "environ", "MARKER-token");
        !holders.is_empty()
    });
    assert_eq!(holders, ["sleep"], "only the program has it");
    assert_eq!(processes_with(&user, "cmdline", "MARKER-token"), Vec::<String>::new());
    assert_eq!(user.shell("grep -r MARKER-token .local").0, 1);
    running.wait().unwrap();
}

/// Names of this user's processes that have a text in a file of /proc.
fn processes_with(user: &User, file: &str, text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let holds = |path: &std::path::PathBuf| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let found = std::fs::read(path.join(file)).unwrap_or_default();
        let has = |data: &[u8], text: &str| data.windows(text.len()).any(|window| window == text.as_bytes());
        has(&environment, user.home.to_str().unwrap()) && has(&found, text)
    };
    let name =
        |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
    processes.filter(holds).map(name).collect()
}

/// A shell at a prompt, with the hook and things of the user's own.
fn prompt(user: &User, shell: &str) -> PtySession {
    let (file, text, start) = match shell {
        "bash" => (
            "rc",
            "set -u\nPS1='> '\nPROMPT_COMMAND='prompts=$((${prompts:-0} + 1)); '\neval \"$(tazpod shell-init bash)\"\neval \"$(tazpod shell-init bash)\"\n",
            "exec bash --noprofile --rcfile ~/rc -i",
        ),
        "bash with an array" => (
            "rc",
            "PS1='> '\nPROMPT_COMMAND=('prompts=$((${prompts:-0} + 1))')\neval \"$(tazpod shell-init bash)\"\nset -eu\n",
            "exec bash --noprofile --rcfile ~/rc -i",
        ),
        "zsh" => (
            ".zshrc",
            "PS1='> '\nsetopt rc_quotes nounset\nprecmd() { prompts=$((${prompts:-0} + 1)) }\neval \"$(tazpod shell-init zsh)\"\n",
            "exec zsh -o no_global_rcs -i",
        ),
        _ => (
            ".config/fish/config.fish",
            "set -g fish_greeting\nfunction fish_prompt; set -g prompts (math $prompts + 1); echo '> '; end\nset -g prompts 0\ntazpod shell-init fish | source\n",
            "exec fish -i",
        ),
    };
    user.shell_ok("mkdir -p .config/fish");
    std::fs::write(user.home.join(file), text).unwrap();
    let mut session =
        spawn_command(user.terminal_command(&format!("export TERM=dumb; {start} </dev/tty")), Some(20_000)).unwrap();
    session.exp_string("> ").unwrap();
    session
}

/// Has the shell print variables, which are between brackets.
fn shown(shell: &str, session: &mut PtySession, expected: &str) {
    // What is typed does not look like what is printed.
    session.send_line("echo [\"$TOKEN\"'/'\"$MINE\"]").unwrap();
    if let Err(error) = session.exp_string(expected) {
        panic!("{shell}: {expected}: {error}");
    }
}

#[test]
fn variables_come_and_go_with_the_vault_at_every_prompt() {
    for shell in ["bash", "bash with an array", "zsh", "fish"] {
        let user = User::with_vault();
        user.shell_ok("cd p && echo 'env: {TOKEN: token}' >> .tazpod/config.yaml && tazpod trust --yes");
        let mut session = prompt(&user, shell);
        let mut line = |text: &str| {
            session.send_line(text).unwrap();
        };
        line(if shell == "fish" { "set -gx MINE own; set -gx TOKEN ''" } else { "export MINE=own TOKEN=" });
        user.unlock();
        user.shell_ok("printf \"it's \\$MINE\" > secrets/token && cd p && tazpod lock");
        line("true");
        user.unlock();
        // The vault was unlocked elsewhere; the next prompt knows.
        line("true");
        shown(shell, &mut session, "[it's $MINE/own]");
        // At further prompts nothing is run.
        let (program, away) = (user.home.with_file_name("tazpod"), user.home.with_file_name("away"));
        std::fs::rename(&program, &away).unwrap();
        for _ in 0..3 {
            session.send_line("true").unwrap();
        }
        session.send_line("echo still here").unwrap();
        let before = session.exp_string("still here").unwrap();
        assert!(!before.contains("No such file") && !before.contains("not found"), "{shell}: {before}");
        std::fs::rename(&away, &program).unwrap();
        user.lock();
        session.send_line("true").unwrap();
        let unset = if shell == "fish" {
            "set -q TOKEN; or echo un''set $MINE"
        } else {
            "echo \"${TOKEN-un''set} $MINE\" | tr -d \"'\""
        };
        session.send_line(unset).unwrap();
        session.exp_string("unset own").unwrap();
        // The user's own hook went on running.
        session.send_line("test \"$prompts\" -gt 5 && echo many''prompts | tr -d \"'\"").unwrap();
        session.exp_string("manyprompts").unwrap();
        session.send_line("exit").unwrap();
    }
}
