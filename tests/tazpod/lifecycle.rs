//! Unlock, edit, lock, as an ordinary user through a real mount, and what happens when processes are killed in between.

mod user;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rustix::process::Signal;
use user::{PASSPHRASE, User, eventually, fixture, signal};

#[test]
fn what_is_edited_is_there_after_the_next_unlock_and_nowhere_else() {
    // The second reader tells of the root too.
    for (format, reader, entries) in [("v2", "read_v2.py", 4), ("v1", "read_v1.py", 3)] {
        let user = User::with_vault_of(format);
        user.unlock();
        user.shell_ok(
            "cd secrets && mkdir -m 700 .aws && echo MARKER-7141 > .aws/credentials && ln -s credentials .aws/link",
        );
        assert_eq!(user.shell_ok("stat -c %a secrets").trim(), "700");
        user.shell_ok("cd p && tazpod lock");
        assert!(!user.is_mounted());
        assert_eq!(
            user.shell("ls -A secrets; echo leak > secrets/file").0,
            1,
            "the folder underneath may not be written"
        );
        assert_eq!(user.shell_ok("ls -A secrets"), "");
        assert_eq!(user.shell("grep -r MARKER-7141 .").0, 1, "the secret is on disk");
        assert_eq!(user.shell(&format!("grep -r '{PASSPHRASE}' --exclude=pw .")).0, 1, "the passphrase is on disk");
        // An implementation that shares nothing with ours reads what we wrote.
        let reader = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vaultfs").join(reader);
        let mut python = std::process::Command::new("python3")
            .arg(reader)
            .arg(user.archive())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(PASSPHRASE.as_bytes()).unwrap();
        let listed = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(listed.lines().count(), entries, "{listed}");
        assert!(listed.contains(".aws/credentials") && listed.contains("symlink"), "{listed}");
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/.aws/link"), "MARKER-7141\n");
    }
}

#[test]
fn archives_of_the_old_tool_open_as_their_manifest_says() {
    let user = User::new();
    for name in ["upstream-v1.tar.aes", "upstream-v1-symlink.tar.aes", "upstream-v1-empty.tar.aes"] {
        std::fs::write(user.home.join(name), std::fs::read(fixture(name)).unwrap()).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        let status = std::process::Command::new("chown").args(["-R", user::ACCOUNT]).arg(&user.home).status().unwrap();
        assert!(status.success());
    }
    let (status, _, told) = user.shell("tazpod unlock --vault upstream-v1.tar.aes --mount m --passphrase-file pw");
    assert_eq!(status, 0, "{told}");
    assert!(told.contains("dropped .vault_pass"), "{told}");
    let manifest = std::fs::read_to_string(fixture("upstream-v1.manifest.tsv")).unwrap();
    let mut entries = 0;
    for line in manifest.lines().filter(|line| !line.starts_with('#') && !line.starts_with("path\t")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [path, kind, mode, digest] = fields[..] else { panic!("{line}") };
        if path == ".vault_pass" {
            assert_eq!(user.shell("test -e m/.vault_pass").0, 1);
            continue;
        }
        entries += 1;
        let found = user.shell_ok(&format!("stat -c '%a' 'm/{path}'"));
        assert_eq!(u32::from_str_radix(found.trim(), 8), u32::from_str_radix(mode, 8), "{path}");
        if kind.starts_with('f') {
            assert_eq!(user.shell_ok(&format!("sha256sum < 'm/{path}'")).split(' ').next(), Some(digest), "{path}");
        }
    }
    assert!(entries >= 26, "{entries}");
    assert_eq!(user.shell_ok("find m -mindepth 1 | wc -l").trim(), entries.to_string());
    user.shell_ok("tazpod lock --vault upstream-v1.tar.aes");
    for name in ["upstream-v1-symlink.tar.aes", "upstream-v1-empty.tar.aes"] {
        user.shell_ok(&format!(
            "tazpod unlock --vault {name} --mount m --passphrase-file pw && tazpod lock --vault {name}"
        ));
    }
}

#[test]
fn what_is_held_open_is_listed_and_cut_off_by_force() {
    let user = User::unlocked();
    user.shell_ok("head -c 4096 /dev/zero | tr '\\0' s > secrets/file");
    let script = r#"exec python3 -c '
import mmap, os, sys
file = open("secrets/file", "r+b")
shared = mmap.mmap(file.fileno(), 4096)
assert shared[:1] == b"s" and file.read(1) == b"s"
shared[0:5] = b"dirty"
print("ready", flush=True)
sys.stdin.readline()
try:
    os.pread(file.fileno(), 10, 0)
    print("read", flush=True)
except OSError as error:
    print(error.errno, flush=True)
print(shared[:1], flush=True)
'"#;
    let mut holder = user.command(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let (status, _, told) = user.shell("cd p && tazpod lock");
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("python3 (pid ") && told.contains("secrets/file"), "{told}");
    assert!(user.is_mounted());
    user.shell_ok("cd p && tazpod lock --force");
    writeln!(holder.stdin.take().unwrap()).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), libc::ENOTCONN.to_string(), "a held descriptor reads on");
    assert!(lines.next().is_none(), "a held mapping reads on");
    let ended = holder.wait().unwrap();
    assert!(ended.code() == Some(128 + libc::SIGBUS) || ended.signal() == Some(libc::SIGBUS), "{ended:?}");
    user.unlock();
    assert_eq!(user.shell_ok("head -c 5 secrets/file"), "dirty", "what was mapped and dirty is in the archive");
}

#[test]
fn a_killed_agent_leaves_no_mount_and_nothing_saved_is_lost() {
    let user = User::unlocked();
    user.shell_ok("echo 1 > secrets/saved && cd p && tazpod save");
    signal(user.agent(), Signal::KILL);
    eventually("the keeper cleans up", || !user.is_mounted());
    assert_eq!(user.status()["state"], "locked");
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/saved"), "1\n");
    // Both at once: the next command cleans up.
    let status = user.status();
    for pid in ["keeper_pid", "agent_pid"] {
        signal(i32::try_from(status[pid].as_i64().unwrap()).unwrap(), Signal::KILL);
    }
    eventually("the agent is gone", || user.shell("ls secrets").0 != 0);
    let (_, _, told) = user.shell("cd p && tazpod status");
    assert!(told.contains("Cleaned up"), "{told}");
    assert!(!user.is_mounted());
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/saved"), "1\n");
}

#[test]
fn a_killed_keeper_is_named_and_what_comes_next_waits_for_its_agent() {
    let user = User::unlocked();
    let kill_keeper = |content: &str| {
        user.shell_ok(&format!("echo {content} > secrets/saved"));
        signal(i32::try_from(user.status()["keeper_pid"].as_i64().unwrap()).unwrap(), Signal::KILL);
    };
    kill_keeper("1");
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw && cat ~/secrets/saved >&2");
    assert!(status == 0 && told.contains("Unlocked at") && told.ends_with("1\n"), "{told}");
    assert!(told.contains("left behind when the keeper of a vault was killed; its agent saved everything"), "{told}");
    // Locked meanwhile: by the agent that is left.
    kill_keeper("2");
    user.shell_ok("cd p && tazpod lock");
    assert!(!user.is_mounted());
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/saved"), "2\n");
}

#[test]
fn where_a_vault_is_mounted_is_noted_before_it_is() {
    let user = User::with_vault();
    for _ in 0..5 {
        let mut unlock = user.command("cd p && tazpod unlock --passphrase-file ~/pw").spawn().unwrap();
        while !user.is_mounted() {
            assert!(unlock.try_wait().unwrap().is_none(), "it ended before");
        }
        let notes = user.shell_ok("cat .local/state/tazpod/*/unlocked.json");
        assert!(notes.contains(&user.mount().display().to_string()), "{notes}");
        user.processes().into_iter().for_each(|pid| signal(pid, Signal::KILL));
        unlock.wait().unwrap();
        // Who is just ending still has the vault.
        eventually("they are gone", || user.processes().is_empty());
        user.shell_ok("cd p && tazpod status");
        assert!(!user.is_mounted());
    }
    // One that fails leaves no note.
    user.shell_ok("rmdir secrets && echo > secrets");
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw");
    assert!(status == 1 && told.contains("is not a folder"), "{told}");
    assert_eq!(user.shell("ls .local/state/tazpod/*/unlocked.json").0, 2);
}

#[test]
fn signals_and_lost_mounts_save_and_lock() {
    let user = User::unlocked();
    for (round, end) in ["kill", "hangup", "unmount", "socket"].into_iter().enumerate() {
        user.shell_ok(&format!("echo {round} > secrets/file"));
        match end {
            "kill" => signal(user.agent(), Signal::TERM),
            "hangup" => signal(user.agent(), Signal::HUP),
            "unmount" => drop(user.shell_ok("fusermount3 -u -z secrets")),
            _ => drop(user.shell_ok("rm .local/state/tazpod/run/*.sock")),
        }
        eventually(end, || !user.is_mounted() && user.status()["state"] == "locked");
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/file"), format!("{round}\n"), "{end}");
    }
}

#[test]
fn a_folder_is_mounted_a_second_time_and_locked_with_the_first() {
    let user = User::unlocked();
    user.shell_ok("mkdir secrets/.aws .aws && echo covered > .aws/old && echo key > secrets/.aws/credentials");
    user.shell_ok("cd p && tazpod mount .aws ~/.aws");
    assert_eq!(
        user.shell_ok("cat .aws/credentials; echo changed > .aws/credentials; cat secrets/.aws/credentials"),
        "key\nchanged\n"
    );
    user.shell_ok("cd p && tazpod lock");
    assert_eq!(user.shell_ok("cat .aws/*"), "covered\n", "what lay there is untouched");
}

#[test]
fn another_user_sees_neither_mount_nor_socket_nor_memory() {
    assert!(rustix::process::geteuid().is_root(), "looking in as somebody else needs root");
    let user = User::unlocked();
    user.shell_ok("echo secret > secrets/file");
    let agent = user.agent();
    let other = |script: &str| {
        std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "sh", "-c", script])
            .current_dir(&user.home)
            .output()
            .unwrap()
    };
    assert!(other("ls").status.success(), "the home itself can be seen");
    for script in
        ["ls secrets", "cat secrets/file", "ls .local/state/tazpod/run", &format!("head -c1 /proc/{agent}/mem")]
    {
        assert!(!other(script).status.success(), "{script}");
    }
    for file in ["mem", "environ", "maps"] {
        assert_ne!(
            user.shell(&format!("head -c1 /proc/{agent}/{file}")).0,
            0,
            "the same user sees {file} of the agent"
        );
    }
}

#[test]
fn exported_and_imported_again_it_is_the_same() {
    let user = User::unlocked();
    user.shell_ok("cd secrets && mkdir d && echo 1 > d/a && ln d/a d/b && ln -s a d/l && mkfifo d/f && chmod 640 d/a");
    user.shell_ok("cd p && tazpod export --output ~/e.tar && tazpod lock");
    assert_eq!(user.shell_ok("stat -c %a e.tar").trim(), "600");
    let (status, _, _) = user.shell("cd p && tazpod import ~/e.tar --passphrase-file ~/pw");
    assert_eq!(status, 1, "what exists is not replaced");
    user.shell_ok("cd p && tazpod import ~/e.tar --into copy --passphrase-file ~/pw");
    user.shell_ok(
        "mkdir x && tar -C x -xf e.tar && cd p && tazpod import ~/x/d --into from-folder --passphrase-file ~/pw",
    );
    user.unlock();
    for copy in ["copy/d", "from-folder"] {
        assert_eq!(
            user.shell_ok(&format!("cd secrets/{copy} && stat -c '%n %F %a %h %s' *")),
            user.shell_ok("cd secrets/d && stat -c '%n %F %a %h %s' *")
        );
    }
}

#[test]
fn an_edit_of_the_configuration_keeps_nobody_from_locking_and_a_fifo_in_its_place_is_told() {
    let user = User::unlocked();
    user.shell_ok("cd p && echo '# a comment' >> .tazpod/config.yaml && tazpod save && tazpod status && tazpod lock");
    assert!(!user.is_mounted());
    let (status, _, told) =
        user.shell("cd p && rm .tazpod/config.yaml && mkfifo .tazpod/config.yaml && timeout 20 tazpod status");
    assert!(status == 2 && told.contains("it is no file"), "{status} {told}");
}

#[test]
fn what_is_wrong_in_a_configuration_is_told_before_it_is_trusted() {
    let user = User::with_vault();
    let trust = |text: &str| {
        std::fs::write(user.home.join("p/.tazpod/config.yaml"), text).unwrap();
        let (status, _, told) = user.shell("cd p && tazpod trust --yes");
        (status, told)
    };
    for (text, reason) in [
        (
            "vault:\n  commit: sometimes\n",
            "line 2 (commit: sometimes): the value of 'commit' must be one of: relaxed, strict",
        ),
        ("vault: {size: enormous}\n", "vault.size: 'enormous' is no size"),
        ("remote: 5\n", "line 1 (remote: 5): 'remote' takes keys of its own"),
    ] {
        let (status, told) = trust(text);
        assert!(status == 2 && told.contains(reason) && told.contains("nothing is trusted"), "{text}: {status} {told}");
    }
    // Nothing of that was trusted.
    let (status, _, told) = user.shell("cd p && tazpod status");
    assert!(status == 2 && told.contains("line 1"), "{told}");
    let text = "bridges: {.kube: nowhere}\nenv: {TOKEN: /abs}\nremote: {bukcet: b, type: s3}\nvault: {moutn: ~/m}\n";
    let (status, told) = trust(text);
    assert_eq!(status, 0, "{told}");
    for reason in [
        "Warning: bridges: ",
        "Warning: env: ",
        "Warning: remote",
        "did you mean 'remote.bucket'?",
        "did you mean 'vault.mount'?",
    ] {
        assert!(told.contains(reason), "{reason}: {told}");
    }
    // Once, however often a command looks.
    assert_eq!(trust("remote: {path: x}\nvalut: 1\n").0, 0);
    let (_, _, told) = user.shell("cd p && tazpod remote show");
    assert_eq!(told.matches("did you mean 'vault'?").count(), 1, "{told}");
    let (status, told) = trust("vault: {mount: ~/m}\nbridges: {a: ~/m/x}\n");
    assert!(status == 0 && told.contains("Warning: bridges: ") && told.contains("mount point"), "{status} {told}");
}
