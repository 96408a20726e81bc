//! `tazpod` without a command, on a terminal: from an empty folder to a shell, and what a no leaves as it is. With a real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
#[expect(dead_code, reason = "each test program uses its part of it")]
mod remote_setup;
mod user;

use std::process::Stdio;

use docker::{Engine, IMAGE, Lab};
use remote_setup::{configure, shared_folder};
use rexpect::session::PtySession;
use user::{ACCOUNT, PASSPHRASE, User, eventually};

/// What the user always wants: locked at once when the last shell has ended.
const AT_ONCE: &str = "mkdir -p .config/tazpod; echo 'auto_lock: {grace: 100ms}' > .config/tazpod/config.yaml";

/// Answers questions in their order: each as it begins, and what is typed.
fn answer(terminal: &mut PtySession, answers: &[(&str, &str)]) {
    for (question, text) in answers {
        terminal.exp_string(question).unwrap_or_else(|error| panic!("{question}: {error}"));
        terminal.exp_regex(r"[\]:] ").unwrap();
        terminal.send_line(text).unwrap();
    }
}

fn on_terminal(user: &User, script: &str) -> PtySession {
    let mut command = user.terminal_command(script);
    command.stdin(Stdio::inherit());
    rexpect::session::spawn_command(command, Some(60_000)).unwrap()
}

#[test]
fn from_an_empty_folder_to_a_shell_in_the_container_and_locked_again() {
    let engine = Engine::new().with_image();
    let lab = Lab::without_project(&engine, User::new_as(ACCOUNT));
    lab.user.shell_ok(&format!("{AT_ONCE}; mkdir p"));
    let mut terminal = lab.on_terminal("tazpod; echo ended $?");
    answer(
        &mut terminal,
        &[
            ("There is no project in", ""),
            ("Where is the vault mounted?", ""),
            ("How large may it grow?", "64M"),
            ("Which image has the container", IMAGE),
            ("Make and start the container", ""),
            ("There is no vault yet", ""),
            ("New passphrase", PASSPHRASE),
            ("again", PASSPHRASE),
        ],
    );
    terminal.exp_string("Unlocked at").unwrap();
    terminal.exp_regex(r"\$ ").unwrap();
    terminal.send_line("pwd; echo of-the-container > ~/secrets/file; exit 3").unwrap();
    terminal.exp_string("/workspace").unwrap();
    terminal.exp_string("ended 3").unwrap();
    eventually("the vault is locked", || !lab.user.is_mounted_at("secrets"));

    // The second time only the passphrase is asked for.
    let mut terminal = lab.on_terminal("tazpod --yes; echo ended $?");
    answer(&mut terminal, &[("Passphrase", PASSPHRASE)]);
    terminal.exp_regex(r"\$ ").unwrap();
    terminal.send_line("cat ~/secrets/file; exit").unwrap();
    terminal.exp_string("of-the-container").unwrap();
    terminal.exp_string("ended 0").unwrap();
    eventually("the vault is locked again", || !lab.user.is_mounted_at("secrets"));
    let mut terminal = lab.on_terminal("tazpod --yes --keep-unlocked; echo ended $?");
    answer(&mut terminal, &[("Passphrase", PASSPHRASE)]);
    terminal.exp_regex(r"\$ ").unwrap();
    terminal.send_line("exit").unwrap();
    terminal.exp_string("ended 0").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(lab.user.is_mounted_at("secrets"), "as was asked");
}

#[test]
fn a_no_leaves_things_as_they_are() {
    let user = User::new_as(ACCOUNT);
    user.shell_ok("mkdir p");
    let mut terminal = on_terminal(&user, "cd p; tazpod; echo ended $?");
    answer(&mut terminal, &[("There is no project in", "n")]);
    terminal.exp_string("ended 0").unwrap();
    assert_eq!(user.shell_ok("ls -A p"), "");

    // No engine is a warning, and the vault is of use all the same.
    user.shell_ok(&format!("cd p && tazpod init --yes --no-vault --image {IMAGE}"));
    let nowhere = "export DOCKER_HOST=unix:///nowhere.sock";
    let mut terminal = on_terminal(&user, &format!("{nowhere}; cd p; tazpod; echo ended $?"));
    terminal.exp_string("the container cannot be used: no Docker engine answers").unwrap();
    answer(&mut terminal, &[("There is no vault yet", "n")]);
    terminal.exp_string("there is nothing to enter").unwrap();
    terminal.exp_string("ended 0").unwrap();
    assert!(!user.archive().exists());

    user.shell_ok("cd p && tazpod init --passphrase-file ~/pw");
    let mut terminal = on_terminal(&user, &format!("{nowhere}; cd p; tazpod; echo ended $?"));
    answer(&mut terminal, &[("The vault is locked", "n")]);
    terminal.exp_string("ended 0").unwrap();
    assert!(!user.is_mounted_at("secrets"));

    // Ctrl-C at a question, and nobody to be asked.
    let mut terminal = on_terminal(&user, &format!("{nowhere}; cd p; tazpod; echo ended $?"));
    terminal.exp_string("The vault is locked").unwrap();
    terminal.send_control('c').unwrap();
    terminal.exp_string("ended 130").unwrap();
    let (status, _, _) = user.shell("cd p; setsid -w tazpod < /dev/null");
    assert_eq!(status, 2);
    assert!(!user.is_mounted_at("secrets"));
}

#[test]
fn a_machine_that_has_no_vault_fetches_it() {
    let (_folder, yaml) = shared_folder();
    let first = User::with_vault();
    configure(&first, &yaml);
    first.unlock();
    first.shell_ok("echo travelled > secrets/file; cd p && tazpod setup-storage && tazpod push && tazpod lock");
    let second = User::new();
    second.shell_ok(&format!("{AT_ONCE}; mkdir p && cd p && tazpod init --yes --no-vault --image none"));
    configure(&second, &yaml);
    let mut terminal = on_terminal(&second, "cd p; export SHELL=/bin/sh; tazpod; echo ended $?");
    answer(&mut terminal, &[("There is no vault here. Fetch it from", ""), ("Passphrase", PASSPHRASE)]);
    terminal.exp_regex(r"\$ ").unwrap();
    terminal.send_line("cat ~/secrets/file; exit 5").unwrap();
    terminal.exp_string("travelled").unwrap();
    terminal.exp_string("ended 5").unwrap();
    eventually("the vault is locked", || !second.is_mounted_at("secrets"));
}

#[test]
fn a_wrong_answer_is_asked_for_again() {
    let user = User::new();
    user.shell_ok("mkdir p");
    let mut terminal = on_terminal(&user, "cd p; tazpod init; echo ended $?");
    answer(&mut terminal, &[("Where is the vault mounted?", ""), ("How large may it grow?", "enormous")]);
    terminal.exp_string("'enormous' is no size").unwrap();
    answer(&mut terminal, &[("How large may it grow?", "10")]);
    terminal.exp_string("10 B are too few for a vault").unwrap();
    answer(
        &mut terminal,
        &[
            ("How large may it grow?", "64M"),
            ("Which image has the container", "no"),
            ("New passphrase", PASSPHRASE),
            ("again", PASSPHRASE),
        ],
    );
    terminal.exp_string("ended 0").unwrap();
    let config = user.shell_ok("cat p/.tazpod/config.yaml");
    assert!(config.contains("size: \"64M\"") && !config.contains("\nimage:"), "{config}");
}
