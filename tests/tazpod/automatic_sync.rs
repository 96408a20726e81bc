//! Vaults that are synchronised on their own, by a folder and by a real S3 server: what arrives where, what a remote that is away
//! costs, what is told, and what is left of processes that are killed in the middle.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
mod remote_setup;
mod user;

use std::path::Path;
use std::time::{Duration, Instant};

use moto::{Fault, Moto, Proxy};
use remote_setup::{configure, keys, s3_yaml, second_machine, shared_folder};
use rustix::process::Signal;
use serde_json::Value;
use user::{FORMATS, User, eventually, signal};

/// Soon after each change, and often.
const OFTEN: &str = "sync: {quiet: 100ms, every: 700ms, at_lock: 3s}\n";
/// Never while it is unlocked, but when it is locked.
const AT_LOCK: &str = "sync: {quiet: 1h, every: 1h, at_lock: 3s}\n";

/// A machine with a vault that the remote holds too.
fn first_machine(yaml: &str, format: &str, environment: &str) -> User {
    let user = User::with_vault_of(format);
    configure(&user, yaml);
    user.shell_ok(&format!("{environment} cd p && tazpod setup-storage && tazpod push"));
    user
}

/// Another machine with the same vault.
fn other_machine(yaml: &str, environment: &str) -> User {
    let user = second_machine(yaml);
    user.shell_ok(&format!("{environment} cd p && tazpod pull"));
    user
}

/// Unlocks it so that it is synchronised; returns what was told.
fn unlock_with(user: &User, environment: &str) -> String {
    let (status, _, told) = user
        .shell(&format!("{environment} export TAZPOD_SYNC=on; cd p && tazpod --debug unlock --passphrase-file ~/pw"));
    assert_eq!(status, 0, "{told}");
    told
}

fn unlock(user: &User) -> String {
    unlock_with(user, "")
}

fn sync_status(user: &User) -> Value {
    user.status()["sync"].clone()
}

fn wait_for_state(user: &User, state: &str) -> Value {
    let mut last = Value::Null;
    eventually(state, || {
        last = sync_status(user);
        last["state"] == state
    });
    last
}

fn wait_for_reason(user: &User, reason: &str) {
    eventually(reason, || sync_status(user)["reason"].as_str().is_some_and(|found| found.contains(reason)));
}

fn wait_until_pushed(user: &User) {
    eventually("everything is pushed", || sync_status(user)["unpushed"] == false);
}

fn wait_for_content(user: &User, name: &str, content: &str) {
    eventually(&format!("{content} in {name}"), || user.shell(&format!("cat secrets/{name}")).1 == content);
}

/// A write that is acknowledged, and how long it took.
fn write_synced(user: &User, name: &str, content: &str) -> Duration {
    let begun = Instant::now();
    user.shell_ok(&format!("printf '{content}' > secrets/{name} && sync secrets/{name}"));
    begun.elapsed()
}

/// Locks it; returns how long that took and what was told.
fn lock_timed(user: &User, flags: &str) -> (Duration, String) {
    let begun = Instant::now();
    let (status, _, told) = user.shell(&format!("cd p && tazpod lock {flags}"));
    assert!(status == 0 && told.contains("Locked"), "{status} {told}");
    (begun.elapsed(), told)
}

/// The process that synchronises.
fn child_of(user: &User) -> Option<i32> {
    user.processes().into_iter().find(|pid| arguments_of(*pid).contains("__sync"))
}

fn wait_for_child(user: &User) -> i32 {
    let mut child = None;
    eventually("a synchronisation runs", || {
        child = child_of(user);
        child.is_some()
    });
    child.unwrap()
}

fn arguments_of(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn edits_arrive_at_an_unlocked_vault_with_no_command_run() {
    for format in FORMATS {
        let (_folder, yaml) = shared_folder();
        let yaml = format!("{yaml}{OFTEN}");
        let one = first_machine(&yaml, format, "");
        let other = other_machine(&yaml, "");
        unlock(&one);
        unlock(&other);
        write_synced(&one, "here", "from one");
        wait_for_content(&other, "here", "from one");
        write_synced(&other, "there", "from other");
        wait_for_content(&one, "there", "from other");
        for user in [&one, &other] {
            wait_until_pushed(user);
            let status = user.status();
            assert!(status["sync"]["last_success"].as_u64() > Some(0), "{status}");
            assert_eq!((&status["conflicts"]["count"], &status["dirty"]), (&0.into(), &false.into()));
            let text = user.shell_ok("cd p && tazpod status");
            assert!(text.contains("sync     on") && text.contains("everything is pushed"), "{text}");
        }
    }
}

#[test]
fn edits_of_one_file_are_merged_and_the_conflict_is_told() {
    let (_folder, yaml) = shared_folder();
    let one = first_machine(&format!("{yaml}{AT_LOCK}"), "v2", "");
    let other = other_machine(&format!("{yaml}{OFTEN}"), "");
    unlock(&one);
    unlock(&other);
    wait_until_pushed(&other);
    let name = "NAME-of-a-secret";
    // Nothing is synchronised there until both have written.
    let hold = "flock .local/state/tazpod/*/sync.lock sh -c 'touch held; until [ -e go ]; do sleep 0.02; done'";
    let mut holder = other.command(hold).spawn().unwrap();
    eventually("nothing is synchronised", || other.home.join("held").exists());
    write_synced(&other, name, "of other");
    write_synced(&one, name, "of one");
    one.lock();
    other.shell_ok("touch go");
    assert!(holder.wait().unwrap().success());
    wait_for_content(&other, name, "of one");
    wait_until_pushed(&other);
    let conflicts = other.status()["conflicts"].clone();
    assert_eq!(conflicts["count"], 1, "{conflicts}");
    let file = conflicts["files"][0].as_str().unwrap();
    assert!(file.starts_with(".tazpod-conflicts/") && file.ends_with(name), "{file}");
    assert_eq!(other.shell_ok(&format!("cat secrets/{file}")), "of other");
    assert!(other.shell_ok("cd p && tazpod status").contains(file));
    other.lock();
    let told = unlock(&other);
    assert!(told.contains("(1 file)") && told.contains(".tazpod-conflicts"), "{told}");
    let log = other.shell_ok("cat .local/state/tazpod/*/agent.log");
    assert!(!log.contains(name), "{log}");
    other.shell_ok("rm -r secrets/.tazpod-conflicts");
    assert_eq!(other.status()["conflicts"]["count"], 0);
}

#[test]
fn a_lock_sends_the_last_edit() {
    for format in FORMATS {
        let (_folder, yaml) = shared_folder();
        let yaml = format!("{yaml}{AT_LOCK}");
        let one = first_machine(&yaml, format, "");
        let other = other_machine(&yaml, "");
        unlock(&one);
        write_synced(&one, "file", "1");
        assert_eq!(sync_status(&one)["unpushed"], true);
        let (_, told) = lock_timed(&one, "");
        assert!(!told.contains("Warning"), "{told}");
        assert!(one.shell_ok("cd p && tazpod status").contains("everything is pushed"));
        other.shell_ok("cd p && tazpod pull --passphrase-file ~/pw");
        // A signal is a lock too.
        unlock(&other);
        wait_for_content(&other, "file", "1");
        write_synced(&other, "file", "2");
        signal(other.agent(), Signal::TERM);
        eventually("it is locked", || !other.is_mounted() && other.processes().is_empty());
        unlock(&one);
        assert_eq!(one.shell("cd p && tazpod pull").0, 0);
        wait_for_content(&one, "file", "2");
        // Nothing changed: nothing is sent, and nobody waits.
        let (took, told) = lock_timed(&one, "");
        assert!(took < Duration::from_secs(2) && !told.contains("Synchronising"), "{took:?} {told}");
        unlock(&one);
        write_synced(&one, "file", "3");
        let (_, told) = lock_timed(&one, "--no-sync");
        assert!(told.contains("not everything was sent"), "{told}");
        assert!(one.shell_ok("cd p && tazpod status").contains("not everything is pushed"));
    }
}

/// What changes who can open it changes no file.
#[test]
fn a_changed_passphrase_and_a_new_recipient_are_sent_too() {
    let (folder, yaml) = shared_folder();
    for pace in [OFTEN, AT_LOCK] {
        let one = first_machine(&format!("{yaml}{pace}"), "v2", "");
        let sent = || std::fs::read(folder.path().join("vault/vault.tar.aes")).unwrap();
        one.shell_ok("umask 077; echo 'quite another one' > new");
        for script in [
            "recovery new --output ~/key --passphrase-file ~/pw",
            "passwd --keep-key --passphrase-file ~/pw --new-passphrase-file ~/new && cat ~/new > ~/pw",
            "passwd --passphrase-file ~/pw --new-passphrase-file ~/pw",
        ] {
            unlock(&one);
            one.shell_ok(&format!("cd p && tazpod {script}"));
            if pace == OFTEN {
                wait_until_pushed(&one);
                assert!(sent() == std::fs::read(one.archive()).unwrap(), "{script}");
            } else {
                assert_eq!(sync_status(&one)["unpushed"], true, "{script}");
            }
            one.lock();
            assert!(sent() == std::fs::read(one.archive()).unwrap(), "{script}");
        }
        std::fs::remove_dir_all(folder.path().join("vault")).unwrap();
    }
}

#[test]
fn a_folder_that_is_away_costs_nothing_and_comes_back() {
    let (folder, yaml) = shared_folder();
    let yaml = format!("{yaml}{OFTEN}");
    let one = first_machine(&yaml, "v2", "");
    let other = other_machine(&yaml, "");
    unlock(&one);
    unlock(&other);
    let (here, away) = (folder.path().join("vault"), folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let took = (0..10).map(|number| write_synced(&one, "file", &number.to_string())).max().unwrap();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let status = wait_for_state(&one, "failing");
    assert!(status["reason"].as_str().unwrap().contains("does not exist"), "{status}");
    assert!(status["next_try"].as_u64() > Some(0) && status["unpushed"] == true, "{status}");
    let text = one.shell_ok("cd p && tazpod status");
    assert!(text.contains("does not exist") && text.contains("tried again"), "{text}");
    let (took, told) = lock_timed(&one, "");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(told.contains("not everything was sent") && told.contains("does not exist"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("Warning")).count(), 1, "{told}");
    unlock(&one);
    wait_for_state(&one, "failing");
    std::fs::rename(&away, &here).unwrap();
    wait_for_content(&other, "file", "9");
    wait_for_state(&one, "waiting");
}

#[test]
fn a_bucket_that_hangs_or_is_gone_keeps_nobody_waiting() {
    let mut moto = Moto::start();
    let admin = moto.user();
    let proxy = Proxy::before(moto.port);
    moto.check(false);
    let keys = keys(&admin);
    let yaml = format!("{}sync: {{quiet: 100ms, every: 700ms, at_lock: 2s}}\n", s3_yaml(proxy.port));
    let one = first_machine(&yaml, "v2", &keys);
    let other = other_machine(&yaml, &keys);
    unlock_with(&one, &keys);
    // The vault's own keys do as well.
    unlock(&other);
    other.shell_ok(&format!(
        "cd secrets && echo {} > aws-access-key-id && echo {} > aws-secret-access-key",
        admin.id, admin.secret
    ));
    wait_for_content(&one, "aws-access-key-id", &format!("{}\n", admin.id));
    write_synced(&one, "file", "1");
    wait_for_content(&other, "file", "1");
    wait_until_pushed(&other);
    proxy.set(Fault::Hang, usize::MAX);
    assert!(write_synced(&one, "file", "2") < Duration::from_secs(2));
    wait_for_child(&one);
    let (took, told) = lock_timed(&one, "");
    assert!(took < Duration::from_secs(6) && told.contains("not everything was sent"), "{took:?} {told}");
    assert!(one.processes().is_empty() && told.contains("no time"), "{told}");
    unlock_with(&one, &keys);
    secrets_stay_inside(&one, wait_for_child(&one), &admin.secret);
    signal(one.agent(), Signal::TERM);
    eventually("the signal locks it", || !one.is_mounted() && one.processes().is_empty());
    let (took, told) = lock_timed(&other, "");
    assert!(took < Duration::from_secs(5) && !told.contains("Warning"), "nothing to send: {took:?} {told}");
    proxy.set(Fault::None, 0);
    unlock(&other);
    unlock_with(&one, &keys);
    wait_for_content(&other, "file", "2");
    proxy.set(Fault::Status(503), usize::MAX);
    wait_for_reason(&one, "503");
    proxy.set(Fault::None, 0);
    write_synced(&other, "file", "3");
    wait_for_content(&one, "file", "3");
    // Nothing listens any more.
    drop(moto);
    configure(&other, &format!("{}{OFTEN}", s3_yaml(1)));
    wait_for_reason(&other, "cannot be reached");
    assert!(lock_timed(&other, "").0 < Duration::from_secs(5));
}

/// Arguments and environment of the process, and the log.
fn secrets_stay_inside(user: &User, child: i32, secret: &str) {
    let arguments = arguments_of(child);
    assert!(arguments.contains("--vault") && !arguments.contains(secret), "{arguments}");
    let environment = |pid: i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let keeper = i32::try_from(user.status()["keeper_pid"].as_i64().unwrap()).unwrap();
    assert_eq!(environment(child), environment(keeper), "all of it is that of the unlock");
    let log = user.shell_ok("cat .local/state/tazpod/*/agent.log");
    assert!(!log.contains(secret) && !environment(child).contains(user::PASSPHRASE), "{log}");
    let open = std::fs::read_dir(format!("/proc/{child}/fd")).unwrap().flatten();
    let held: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!held.iter().any(|path| path.ends_with("agent.lock")), "{held:?}");
    assert!(held.contains(&Path::new("/dev/null").to_owned()), "{held:?}");
}

#[test]
fn killed_in_the_middle_the_next_unlock_goes_on() {
    let mut moto = Moto::start();
    let keys = keys(&moto.user());
    let proxy = Proxy::before(moto.port);
    moto.check(false);
    let yaml = format!("{}{OFTEN}", s3_yaml(proxy.port));
    let one = first_machine(&yaml, "v2", &keys);
    for (number, victim) in ["agent", "keeper", "child"].iter().enumerate() {
        unlock_with(&one, &keys);
        wait_until_pushed(&one);
        proxy.set(Fault::Hang, usize::MAX);
        write_synced(&one, "file", &number.to_string());
        let child = wait_for_child(&one);
        let status = one.status();
        let pid = |name: &str| i32::try_from(status[name].as_i64().unwrap()).unwrap();
        match *victim {
            "agent" => signal(pid("agent_pid"), Signal::KILL),
            "keeper" => signal(pid("keeper_pid"), Signal::KILL),
            _ => signal(child, Signal::KILL),
        }
        if *victim == "child" {
            wait_for_reason(&one, "signal: 9");
            proxy.set(Fault::None, 0);
            wait_until_pushed(&one);
        } else {
            // The mount of a keeper that was killed is taken away by the next command.
            eventually("no process is left", || one.processes().is_empty());
            assert!(*victim == "keeper" || !one.is_mounted());
            proxy.set(Fault::None, 0);
            unlock_with(&one, &keys);
            wait_until_pushed(&one);
        }
        assert_eq!(one.shell_ok("cat secrets/file"), number.to_string());
        one.lock();
        let left = one.shell_ok("ls -A .local/state/tazpod/*");
        assert!(!left.contains(".travelling"), "{victim}: {left}");
    }
    let other = other_machine(&yaml, &keys);
    other.unlock();
    assert_eq!(other.shell_ok("cat secrets/file"), "2");
}

/// Anything is killed at any moment: no line that was acknowledged is lost, and both machines come together.
#[test]
fn killed_at_any_moment_both_machines_come_together() {
    let (_folder, yaml) = shared_folder();
    let yaml = format!("{yaml}sync: {{quiet: 0, every: 500ms}}\n");
    let one = first_machine(&yaml, "v2", "");
    let other = other_machine(&yaml, "");
    unlock(&other);
    let rounds: u64 = std::env::var("TAZPOD_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        unlock(&one);
        let child = other.command(&format!("echo {round} >> secrets/other; sync secrets/other")).spawn();
        one.shell_ok(&format!("echo {round} >> secrets/one; sync secrets/one"));
        child.unwrap().wait().unwrap();
        std::thread::sleep(Duration::from_millis(round * 137 % 400));
        let status = one.status();
        let victim = match round % 3 {
            0 => status["agent_pid"].as_i64(),
            1 => status["keeper_pid"].as_i64(),
            _ => child_of(&one).map(i64::from),
        };
        if let Some(victim) = victim {
            // A child may have ended.
            let victim = rustix::process::Pid::from_raw(i32::try_from(victim).unwrap()).unwrap();
            let _ = rustix::process::kill_process(victim, Signal::KILL);
        }
        if round % 3 == 2 {
            one.lock();
        }
        eventually("no process is left", || one.processes().is_empty());
    }
    unlock(&one);
    let lines: String = (0..rounds).map(|round| format!("{round}\n")).collect();
    for user in [&one, &other] {
        wait_for_content(user, "one", &lines);
        wait_for_content(user, "other", &lines);
        wait_until_pushed(user);
        assert_eq!(user.status()["conflicts"]["count"], 0);
        user.shell_ok("cd p && tazpod check");
    }
}

#[test]
fn what_is_switched_off_does_nothing_and_old_scripts_switch_it_on() {
    let (folder, yaml) = shared_folder();
    let one = first_machine(&format!("{yaml}{OFTEN}"), "v2", "");
    let heads = || {
        let names = std::fs::read_dir(folder.path().join("vault")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("vault-")).collect::<Vec<_>>()
    };
    let (status, _, told) = one.shell("cd p && tazpod __internal_sync_daemon");
    assert!(status == 4 && told.contains("is locked"), "{status} {told}");
    let before = heads();
    let on = "export TAZPOD_SYNC=on; cd p && tazpod unlock --passphrase-file ~/pw";
    for (configuration, script) in
        [("sync: false\n", on.to_owned()), (OFTEN, format!("{on} --no-sync")), (OFTEN, on.replace("=on", "=off"))]
    {
        configure(&one, &format!("{yaml}{configuration}"));
        one.shell_ok(&script);
        write_synced(&one, "file", "1");
        std::thread::sleep(Duration::from_millis(800));
        let status = sync_status(&one);
        assert!(status["state"] == "off" && status["unpushed"] == true && status["next_try"].is_null(), "{status}");
        assert!(!lock_timed(&one, "").1.contains("sent"));
        assert_eq!(heads(), before, "{configuration}{script}");
    }
    assert_eq!(one.shell("cd p && TAZPOD_SYNC=perhaps tazpod unlock --passphrase-file ~/pw").0, 2);
    // A script of the old tool.
    one.unlock();
    let daemon = "cd p && tazpod __internal_sync_daemon";
    let (status, _, told) = one.shell(daemon);
    assert!(status == 0 && told.contains("from now on"), "{status} {told}");
    let (status, _, told) = one.shell(daemon);
    assert!(status == 0 && told.contains("already"), "{status} {told}");
    wait_until_pushed(&one);
    assert_ne!(heads(), before);
    // The configuration has the last word, also while it is unlocked.
    configure(&one, &format!("{yaml}sync: false\n"));
    assert!(wait_for_state(&one, "off")["reason"].as_str().unwrap().contains("sync: false"));
    assert_eq!(one.shell(daemon).0, 2);
    one.lock();
    configure(&one, "vault: {size: 64M}\n");
    unlock(&one);
    assert!(sync_status(&one)["reason"].as_str().unwrap().contains("no remote"));
    assert_eq!(one.shell(daemon).0, 2);
    assert!(!one.shell_ok("cd p && tazpod status").contains("pushed"));
    // A remote that comes while it is unlocked is used from then on, but for who was told not to.
    configure(&one, &format!("{yaml}{OFTEN}"));
    wait_until_pushed(&one);
    assert_eq!(sync_status(&one)["state"], "waiting");
}

#[test]
fn a_project_that_is_not_trusted_is_not_synchronised() {
    let (_folder, yaml) = shared_folder();
    let one = first_machine(&yaml, "v2", "");
    // What is not trusted has no word in how often, either.
    one.shell_ok("mkdir -p .config/tazpod");
    std::fs::write(one.home.join(".config/tazpod/config.yaml"), OFTEN).unwrap();
    unlock(&one);
    wait_until_pushed(&one);
    let elsewhere =
        format!("remote: {{path: '{}/elsewhere'}}\nsync: {{every: 500ms, quiet: 1h}}\n", one.home.display());
    one.shell_ok("mkdir elsewhere");
    std::fs::write(one.home.join("p/.tazpod/config.yaml"), &elsewhere).unwrap();
    write_synced(&one, "file", "1");
    let status = wait_for_state(&one, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("has not been trusted"), "{status}");
    let (_, told) = lock_timed(&one, "");
    assert!(told.contains("not been trusted"), "{told}");
    let told = unlock(&one);
    assert!(told.contains("not synchronised on its own") && told.contains("tazpod trust"), "{told}");
    wait_for_state(&one, "stopped");
    assert!(std::fs::read_dir(one.home.join("elsewhere")).unwrap().next().is_none());
    one.lock();
    // Who looks at it and trusts it need do nothing more.
    unlock(&one);
    wait_for_state(&one, "stopped");
    configure(&one, &format!("{yaml}{OFTEN}"));
    wait_until_pushed(&one);
    // A project that is gone is told, too.
    one.shell_ok("mv p q");
    let status = || one.shell_ok(&format!("tazpod --vault {} --mount secrets status", one.archive().display()));
    eventually("it is told", || status().contains("needs you: there is no project"));
    one.shell_ok("mv q p");
    one.lock();
}

#[test]
fn what_needs_a_person_stops_it_and_changes_nothing() {
    let (folder, yaml) = shared_folder();
    let yaml = format!("{yaml}{OFTEN}");
    let one = first_machine(&yaml, "v2", "");
    let other = other_machine(&yaml, "");
    unlock(&other);
    wait_until_pushed(&other);
    one.shell_ok("umask 077; echo 'quite another one' > new; cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new && tazpod push");
    let status = wait_for_state(&other, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("passphrase"), "{status}");
    // A file of the passphrase in the environment is no leave to use it.
    write_synced(&other, "file", "mine");
    let archive = std::fs::read(other.archive()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(wait_for_state(&other, "stopped")["unpushed"], true);
    assert_eq!(std::fs::read(other.archive()).unwrap(), archive);
    let (took, told) = lock_timed(&other, "");
    assert!(took < Duration::from_secs(3) && told.contains("passphrase"), "{took:?} {told}");
    unlock_with(&other, "export TAZPOD_PASSPHRASE_FILE=~/pw;");
    wait_for_state(&other, "stopped");
    other.shell_ok("umask 077; echo 'quite another one' > new");
    other.shell_ok("cd p && tazpod sync --passphrase-file ~/pw --remote-passphrase-file ~/new && cat ~/new > ~/pw");
    wait_for_state(&other, "waiting");
    write_synced(&other, "file", "more");
    wait_until_pushed(&other);
    // An older state is put back in the remote.
    let vault = folder.path().join("vault");
    let head = || {
        let paths = std::fs::read_dir(&vault).unwrap().map(|entry| entry.unwrap().path());
        paths.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("vault-")).unwrap()
    };
    let old = (head(), std::fs::read(head()).unwrap());
    write_synced(&other, "file", "newer");
    wait_until_pushed(&other);
    let newest = (head(), std::fs::read(head()).unwrap());
    assert_ne!(old.0, newest.0);
    std::fs::remove_file(&newest.0).unwrap();
    std::fs::write(&old.0, &old.1).unwrap();
    let status = wait_for_state(&other, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("rolled back"), "{status}");
    assert_eq!((head(), other.shell_ok("cat secrets/file")), (old.0.clone(), "newer".to_owned()));
    // Another vault there.
    let stranger = User::with_vault_of("v2");
    configure(&stranger, &yaml);
    std::fs::remove_dir_all(&vault).unwrap();
    stranger.shell_ok("cd p && tazpod setup-storage && tazpod push");
    other.lock();
    unlock(&other);
    assert!(wait_for_state(&other, "stopped")["reason"].as_str().unwrap().contains("another vault"));
}

/// Nobody who looks into a copy wants it changed, and a folder where the stick was is not the stick.
#[test]
fn copies_and_empty_folders_are_not_taken_for_what_they_stand_in_for() {
    let (folder, yaml) = shared_folder();
    let one = first_machine(&format!("{yaml}{OFTEN}"), "v2", "");
    one.shell_ok("cat p/.tazpod/vault/vault.tar.aes > copy");
    unlock(&one);
    write_synced(&one, "file", "newer");
    wait_until_pushed(&one);
    let vault = folder.path().join("vault");
    std::fs::rename(&vault, folder.path().join("stick")).unwrap();
    one.shell_ok(&format!("mkdir {}", vault.display()));
    write_synced(&one, "file", "newest");
    let status = wait_for_state(&one, "failing");
    assert!(status["reason"].as_str().unwrap().contains("holds nothing now"), "{status}");
    std::fs::remove_dir(&vault).unwrap();
    std::fs::rename(folder.path().join("stick"), &vault).unwrap();
    wait_until_pushed(&one);
    one.lock();
    one.shell_ok("mkdir -p .config/tazpod && cat p/.tazpod/config.yaml > .config/tazpod/config.yaml");
    let before = std::fs::read(one.home.join("copy")).unwrap();
    let flags = "--vault copy --mount secrets";
    one.shell_ok(&format!("TAZPOD_SYNC=on tazpod {flags} unlock --passphrase-file ~/pw"));
    let status = || -> Value {
        let status = one.shell_ok(&format!("tazpod {flags} status --json"));
        serde_json::from_str::<Value>(&status).unwrap()["sync"].clone()
    };
    eventually("it stops", || status()["state"] == "stopped");
    assert!(status()["reason"].as_str().unwrap().contains("never synchronised"), "{}", status());
    one.shell_ok(&format!("tazpod {flags} lock"));
    assert_eq!(std::fs::read(one.home.join("copy")).unwrap(), before);
}

/// Putting back an older archive is for its owner to decide, and for all machines at once.
#[test]
fn an_older_archive_that_was_accepted_here_is_not_sent_over_the_newer_one() {
    let (folder, yaml) = shared_folder();
    let one = first_machine(&format!("{yaml}{OFTEN}"), "v2", "");
    let old = std::fs::read(one.archive()).unwrap();
    unlock(&one);
    write_synced(&one, "file", "newer");
    wait_until_pushed(&one);
    one.lock();
    one.shell_ok("cat > old < p/.tazpod/vault/vault.tar.aes");
    std::fs::write(one.archive(), &old).unwrap();
    one.shell_ok("export TAZPOD_SYNC=on; cd p && tazpod unlock --accept-rollback --passphrase-file ~/pw");
    let status = wait_for_state(&one, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("does not go on from"), "{status}");
    let newer = std::fs::read(one.home.join("old")).unwrap();
    assert_eq!(std::fs::read(folder.path().join("vault/vault.tar.aes")).unwrap(), newer);
    one.shell_ok("cd p && tazpod sync");
    wait_for_state(&one, "waiting");
}

#[test]
fn a_store_that_keeps_no_conditions_is_left_alone() {
    let mut moto = Moto::start();
    let keys = keys(&moto.user());
    let proxy = Proxy::before(moto.port);
    moto.check(false);
    let yaml = format!("{}{OFTEN}", s3_yaml(proxy.port));
    let one = User::with_vault();
    configure(&one, &yaml);
    one.shell_ok(&format!("{keys} cd p && tazpod setup-storage && rm -r ~/.local/state/tazpod/*/probe-*"));
    // Never probed: that is done first.
    unlock_with(&one, &keys);
    wait_until_pushed(&one);
    one.lock();
    one.shell_ok("rm -r ~/.local/state/tazpod/*/probe-*");
    proxy.set(Fault::StripConditions, usize::MAX);
    unlock_with(&one, &keys);
    write_synced(&one, "file", "1");
    let status = wait_for_state(&one, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("does not keep conditions"), "{status}");
    assert_eq!(status["unpushed"], true);
    one.lock();
    // Without keys nobody gets in.
    unlock(&one);
    let status = wait_for_state(&one, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("conditions"), "{status}");
    one.lock();
    proxy.set(Fault::None, 0);
    one.shell_ok(&format!("{keys} cd p && tazpod remote test"));
    unlock(&one);
    let status = wait_for_state(&one, "stopped");
    assert!(status["reason"].as_str().unwrap().contains("no credentials"), "{status}");
    // Somebody who has them settles it.
    one.shell_ok(&format!("{keys} cd p && tazpod push"));
    assert_eq!(wait_for_state(&one, "waiting")["unpushed"], false);
}

#[test]
fn what_is_there_is_asked_once_before_something_is_sent_on_its_own() {
    let mut moto = Moto::start();
    let keys = keys(&moto.user());
    let proxy = Proxy::before(moto.port);
    let yaml = format!("{}sync: {{quiet: 100ms, every: 1h, at_lock: 3s}}\n", s3_yaml(proxy.port));
    let one = first_machine(&yaml, "v2", &keys);
    unlock_with(&one, &keys);
    eventually("it was looked after the unlock", || !proxy.requests().is_empty() && child_of(&one).is_none());
    proxy.requests();
    write_synced(&one, "file", "1");
    wait_until_pushed(&one);
    eventually("it is over", || child_of(&one).is_none());
    let requests = proxy.requests();
    let heads = requests.iter().filter(|request| request.starts_with("HEAD /vaults/tazpod/vault/vault.tar.aes"));
    assert_eq!(heads.count(), 1, "{requests:?}");
}

#[test]
fn commands_and_what_goes_on_on_its_own_take_turns() {
    let (_folder, yaml) = shared_folder();
    let yaml = format!("{yaml}sync: {{quiet: 0, every: 500ms}}\n");
    let one = first_machine(&yaml, "v2", "");
    let other = other_machine(&yaml, "");
    unlock(&one);
    unlock(&other);
    let script = |name: &str| {
        format!(
            "for n in 1 2 3 4 5 6; do echo $n >> secrets/{name}; echo {name} >> secrets/both; sync secrets/both; \
             (cd p && tazpod sync && tazpod pull && tazpod push || [ $? = 6 ]) || exit 1; done"
        )
    };
    let children = [(&one, "one"), (&other, "other")].map(|(user, name)| user.command(&script(name)).spawn().unwrap());
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for name in ["one", "other"] {
        wait_for_content(&one, name, "1\n2\n3\n4\n5\n6\n");
        wait_for_content(&other, name, "1\n2\n3\n4\n5\n6\n");
    }
    wait_until_pushed(&one);
    wait_until_pushed(&other);
    // Two heads, or two bases, would show here.
    for user in [&one, &other] {
        user.shell_ok("cd p && tazpod sync && tazpod check");
        assert_eq!(user.shell_ok("ls .local/state/tazpod/*/base-*.tar.aes").lines().count(), 1);
    }
    assert_eq!(one.shell_ok("cat secrets/both"), other.shell_ok("cat secrets/both"));
}

#[test]
fn synchronising_does_not_count_as_use_and_programs_do_meanwhile() {
    let (_folder, yaml) = shared_folder();
    let without_pause = "sync: {quiet: 0, every: 500ms, at_lock: 3s}\nauto_lock: {idle: 4s}\n";
    let one = first_machine(&format!("{yaml}{without_pause}"), "v2", "");
    unlock(&one);
    // What it looks for.
    one.shell_ok("mkdir secrets/.aws && echo '[default]' > secrets/.aws/credentials");
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        one.shell_ok("cat secrets/.aws/credentials");
        std::thread::sleep(Duration::from_millis(200));
    }
    let used = sync_status(&one)["last_success"].as_u64().unwrap();
    let mut last = Value::Null;
    eventually("nobody uses it", || {
        let status = one.status();
        if status["state"] != "locked" {
            last = status["sync"]["last_success"].clone();
        }
        status["state"] == "locked"
    });
    assert!(last.as_u64().unwrap() >= used + 2, "it went on: {used} {last}");
}
