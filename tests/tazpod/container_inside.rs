//! A vault that is unlocked in the container (`vault.inside`), of an engine over TCP with TLS as if it were on another machine: what is
//! committed inside comes back, what changes here goes in, and nothing that was committed is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use docker::{Engine, Lab, Tls};
use rustix::process::Signal;
use user::{ACCOUNT, PASSPHRASE, User};

/// A secret that must be nowhere but in the vault.
const MARKER: &str = "MARKER-7791";
/// What a dynamic program needs, and fusermount3 with its set-uid bit.
const LIBRARIES: &str =
    "for file in $(ldd $(command -v fusermount3) $TAZPOD | grep -o '/[^ ]*\\.so[^ ]*' | sort -u); do
    mkdir -p .$(dirname $file); cp -L $file .$file; done; mkdir -p dev proc sys run usr/bin";
const FUSERMOUNT: &str =
    "cp $(command -v fusermount3) usr/bin/ && chmod 4755 usr/bin/fusermount3 && mkdir -p etc && touch etc/mtab";
const IMAGE: &str = "tazpod-test/with-fuse:1";

fn import(engine: &Engine, name: &str, more: &[&str]) {
    let program = env!("CARGO_BIN_EXE_tazpod");
    let script = std::iter::once(format!("TAZPOD={program}")).chain(more.iter().map(|more| (*more).to_owned()));
    engine.import_more(name, &["USER dev"], &script.collect::<Vec<_>>().join("; "));
}

/// An engine with an image that has what it takes, and a project that is to use it.
fn elsewhere(configuration: &str) -> (Engine, Lab) {
    let (engine, tls) = Engine::with_tls();
    import(&engine, IMAGE, &[LIBRARIES, FUSERMOUNT]);
    let lab = lab(&engine, &tls, ACCOUNT, &format!("image: {IMAGE}\nvault: {{inside: true}}\n{configuration}"));
    (engine, lab)
}

fn lab(engine: &Engine, tls: &Tls, account: &str, configuration: &str) -> Lab {
    let user = User::new_as(account);
    // Without what only a debugger needs it is sent in no time.
    user_program_stripped(&user);
    let mut lab = Lab::of(engine, user, configuration);
    lab.host = tls.host();
    lab
}

fn user_program_stripped(user: &User) {
    let program = user.home.with_file_name("tazpod");
    assert!(std::process::Command::new("strip").arg(&program).status().unwrap().success());
}

/// Reads and changes the archive on this machine, without any container.
fn here(lab: &Lab, script: &str) -> String {
    let archive = "--vault ~/p/.tazpod/vault/vault.tar.aes --mount ~/looked-at";
    lab.user.shell_ok(&format!(
        "cd; tazpod {archive} unlock --passphrase-file ~/pw && cd looked-at && ({script}); code=$?; cd; \
         tazpod {archive} lock && exit $code"
    ))
}

const UNLOCK: &str = "tazpod unlock --passphrase-file ~/pw";

#[test]
fn a_vault_is_unlocked_on_another_machine_and_what_is_written_there_comes_back() {
    let (engine, lab) = elsewhere("env: {TOKEN: token}\n");
    let told = lab.shell_ok("tazpod up 2>&1");
    assert!(told.contains(&format!("/workspace is the volume {}-workspace", lab.name)), "{told}");
    let (status, _, told) = lab.shell("tazpod unlock --passphrase-command 'echo wrong'");
    assert_eq!(status, 3, "{told}");
    let told = lab.shell_ok(&format!("{UNLOCK} 2>&1"));
    assert!(told.contains(&format!("Unlocked in the container '{}'", lab.name)), "{told}");
    assert!(!lab.user.is_mounted_at("secrets"), "nothing is mounted here");
    lab.inside_ok(&format!("echo {MARKER} > ~/secrets/token; mkdir ~/secrets/.aws; echo x > ~/.aws/config"));
    assert_eq!(
        lab.inside_ok("cat /run/tazpod/secrets/token; cat ~/secrets/.aws/config; id -un"),
        format!("{MARKER}\nx\ndev\n")
    );
    assert!(lab.shell_ok(&format!("{UNLOCK} 2>&1")).contains("Unlocked already"));

    // Commands here find it.
    let status: serde_json::Value = serde_json::from_str(&lab.shell_ok("tazpod status --json")).unwrap();
    assert_eq!((&status["state"], &status["inside"]), (&"unlocked".into(), &lab.name.clone().into()));
    assert!(lab.shell_ok("tazpod status").contains("unlocked in the container"));
    lab.shell_ok("tazpod status --check");
    assert_eq!(lab.shell_ok("tazpod run --in-container -- sh -c 'echo $TOKEN'"), format!("{MARKER}\n"));
    assert_eq!(lab.shell("tazpod run --in-container -- sh -c 'exit 42'").0, 42);
    let (status, out, told) = lab.shell("tazpod env");
    assert_eq!((status, out.as_str()), (4, ""), "{told}");
    assert!(told.contains("--in-container"), "{told}");
    assert!(lab.shell_ok("tazpod doctor || true").contains("can be used in the container"));
    lab.shell_ok("tazpod save");
    assert_eq!(here(&lab, "cat token"), format!("{MARKER}\n"), "it is in the archive here while it is unlocked there");
    no_trace(&engine, &lab);
    privileges(&engine, &lab);

    // What is held inside is told, and the archive here has everything after the lock.
    let mut holder = lab.on_terminal("tazpod enter -- sh -c 'cd ~/secrets && echo in''side && read line'");
    holder.exp_string("inside").unwrap();
    let (status, _, told) = lab.shell("tazpod lock");
    assert!(status == 1 && told.contains("pid "), "{told}");
    holder.send_line("").unwrap();
    holder.exp_eof().unwrap();
    lab.inside_ok("echo second > ~/secrets/second");
    let told = lab.shell_ok("tazpod lock 2>&1");
    assert!(told.contains("Locked in the container"), "{told}");
    assert_ne!(lab.inside("cat ~/secrets/token").0, 0);
    assert_eq!(lab.shell("tazpod status --check").0, 4);
    assert_eq!(here(&lab, "cat second; echo edited-here > token"), "second\n");
    lab.shell_ok(UNLOCK);
    assert_eq!(lab.inside_ok("cat ~/secrets/token ~/secrets/second"), "edited-here\nsecond\n");

    // The container goes with the vault unlocked: it is locked before.
    lab.inside_ok("echo last > ~/secrets/last");
    let mut holder = lab.on_terminal("tazpod enter -- sh -c 'echo in''side && read line'");
    holder.exp_string("inside").unwrap();
    let told = lab.shell_ok("tazpod down 2>&1");
    assert!(told.contains("A program runs in the container") && told.contains("(sh)"), "{told}");
    holder.exp_eof().unwrap();
    assert!(told.contains("Locked in the container") && told.contains("Removed the container"), "{told}");
    assert_eq!(here(&lab, "cat last"), "last\n");
    assert!(engine.docker(&["volume", "ls", "-q"]).contains(&format!("{}-vault", lab.name)), "the volume stays");
}

/// Neither the engine nor a disk of the container has passphrase or content.
fn no_trace(engine: &Engine, lab: &Lab) {
    let inspected = engine.inspect(&lab.name);
    let inside = |script: &str| engine.docker(&["exec", &lab.name, "sh", "-c", script]);
    for told in [
        inspected.to_string(),
        engine.docker(&["history", "--no-trunc", inspected["Config"]["Image"].as_str().unwrap()]),
        engine.docker(&["logs", &lab.name]),
        inside("cat /proc/1/environ; cat /proc/*/cmdline 2>/dev/null || :"),
        inside("grep -r -e MARKER-77 -e battery /var/lib/tazpod /tmp ~/.config 2>/dev/null || :"),
    ] {
        assert!(!told.contains(MARKER) && !told.contains(PASSPHRASE), "{told}");
    }
}

/// What it takes is there; who works inside has none of it, and cannot change the program.
fn privileges(engine: &Engine, lab: &Lab) {
    let host = &engine.inspect(&lab.name)["HostConfig"];
    assert_eq!(
        (&host["CapAdd"], &host["CapDrop"]),
        (&serde_json::json!(["DAC_OVERRIDE", "SYS_ADMIN"]), &serde_json::json!(["ALL"]))
    );
    assert_eq!(host["SecurityOpt"], serde_json::json!(["apparmor=unconfined"]));
    assert_eq!(host["Devices"].as_array().unwrap().len(), 1);
    assert_eq!(host["Privileged"], false);
    let inside = |script: &str| engine.docker(&["exec", &lab.name, "sh", "-c", script]);
    assert!(inside("grep CapEff /proc/self/status").contains("0000000000000000"));
    let forbidden =
        "echo x > /usr/local/bin/tazpod || rm /usr/local/bin/tazpod || mv /opt/tazpod /opt/x || rm -r /opt/tazpod";
    inside(&format!("! ({forbidden})"));
    assert_ne!(lab.shell("tazpod enter -u root -- cat /home/dev/secrets/token").0, 0, "root inside reads it");
    assert_eq!(inside("stat -c %a-%U /var/lib/tazpod"), "700-dev\n");
}

#[test]
fn nothing_committed_is_lost_when_a_container_dies_and_when_both_copies_go_on() {
    let (engine, lab) = elsewhere("");
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    lab.inside_ok("echo committed > ~/secrets/a; sync; tazpod save");
    engine.docker(&["kill", &lab.name]);
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    assert_eq!(lab.inside_ok("cat ~/secrets/a"), "committed\n", "from the volume");

    // Both go on without knowing of each other.
    let script = "cd ~/secrets && echo inside > of-inside && echo inside > both && tazpod save";
    engine.docker(&["exec", &lab.name, "sh", "-c", script]);
    engine.docker(&["kill", &lab.name]);
    here(&lab, "echo here > of-here; echo here > both");
    lab.shell_ok("tazpod up");
    let told = lab.shell_ok(&format!("{UNLOCK} 2>&1"));
    assert!(told.contains("Both copies of the archive had changed"), "{told}");
    assert_eq!(lab.inside_ok("cat ~/secrets/a ~/secrets/of-inside ~/secrets/of-here"), "committed\ninside\nhere\n");
    let both = lab.inside_ok("cat ~/secrets/both; find ~/secrets/.tazpod-conflicts -name both -exec cat {} +");
    assert!(both.contains("here\n") && both.contains("inside\n"), "{both}");
    lab.shell_ok("tazpod lock");
    assert_eq!(here(&lab, "cat a of-inside of-here"), "committed\ninside\nhere\n");

    // A shell whose terminal goes ends there too, and with it its need of the vault.
    for end in [Signal::HUP, Signal::KILL] {
        let mut shell = lab.on_terminal("tazpod enter -- sh -c 'echo in$((40+2)); exec sleep 4321'; echo ended $?");
        shell.exp_string("in42").unwrap();
        let sleeps = || engine.docker(&["exec", &lab.name, "ps", "-o", "args"]).contains("sleep 4321");
        assert!(sleeps());
        let is_enter = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').nth(1) == Some("enter"))
        };
        user::signal(lab.user.processes().into_iter().find(is_enter).unwrap(), end);
        shell.exp_string("ended").unwrap();
        user::eventually("it ended inside", || !sleeps());
    }

    // Changed here while it is unlocked there: taken over at once by whatever brings both in step.
    lab.shell_ok(UNLOCK);
    here(&lab, "echo more > more");
    lab.inside_ok("echo other > ~/secrets/other");
    lab.shell_ok("tazpod save");
    assert_eq!(lab.inside_ok("cat ~/secrets/more"), "more\n");
    assert_eq!(here(&lab, "cat other"), "other\n");
}

#[test]
fn what_is_written_anew_rolled_back_lost_or_under_another_key_makes_nothing_here_go() {
    let engine = Engine::new();
    import(&engine, IMAGE, &[LIBRARIES, FUSERMOUNT]);
    let user = User::new_as(ACCOUNT);
    user_program_stripped(&user);
    let lab = Lab::of(&engine, user, &format!("image: {IMAGE}\nvault: {{inside: true}}\n"));
    let inside = |script: &str| engine.docker(&["exec", &lab.name, "sh", "-c", script]);
    here(&lab, "echo more > more; echo other > other");
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    // Written anew inside, without what was deleted.
    lab.inside_ok("rm ~/secrets/other; tazpod compact");
    lab.shell_ok("tazpod lock");
    assert_eq!(here(&lab, "cat more; ls other 2>&1 || :").lines().next(), Some("more"));
    // The volume goes back to an older copy: what is here takes its place.
    inside("cp /var/lib/tazpod/vault.tar.aes /tmp/old");
    lab.shell_ok(UNLOCK);
    lab.inside_ok("echo newer > ~/secrets/newer");
    lab.shell_ok("tazpod lock");
    inside("cp /tmp/old /var/lib/tazpod/vault.tar.aes");
    lab.shell_ok("tazpod lock");
    assert_eq!(here(&lab, "cat newer"), "newer\n");
    lab.shell_ok(UNLOCK);
    assert_eq!(lab.inside_ok("cat ~/secrets/newer"), "newer\n");
    // Rubbish is told, and stays where it is.
    lab.shell_ok("tazpod lock");
    inside("cp /var/lib/tazpod/vault.tar.aes /tmp/whole; echo rubbish > /var/lib/tazpod/vault.tar.aes");
    let (status, _, told) = lab.shell(UNLOCK);
    assert!(status == 6, "{told}");
    assert_eq!(here(&lab, "cat newer"), "newer\n");
    inside("cp /tmp/whole /var/lib/tazpod/vault.tar.aes");
    lab.shell_ok(UNLOCK);
    // Lost with everything: the archive here is what was brought last.
    inside("echo lost > ~/secrets/lost; tazpod save");
    engine.docker(&["rm", "-f", &lab.name]);
    engine.docker(&["volume", "rm", &format!("{}-vault", lab.name)]);
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    assert_eq!(lab.inside_ok("cat ~/secrets/more"), "more\n");
    // By a recovery key, which goes the same way as the passphrase.
    lab.shell_ok(
        "tazpod lock; tazpod recovery new --output ~/key --passphrase-file ~/pw && tazpod unlock --identity ~/key",
    );
    assert_eq!(
        lab.shell("tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/pw").0,
        1,
        "not while it is unlocked"
    );
    // Another passphrase set here.
    lab.shell_ok("tazpod lock; echo 'another long passphrase' > ~/new; tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new");
    assert_eq!(lab.shell(UNLOCK).0, 3);
    lab.shell_ok("tazpod unlock --passphrase-file ~/new --accept-new-key");
    assert_eq!(lab.inside_ok("cat ~/secrets/more"), "more\n");
    // Both went on, and one of them under another key.
    inside("echo of-inside > ~/secrets/of-inside; tazpod save");
    engine.docker(&["kill", &lab.name]);
    lab.shell_ok("tazpod passwd --passphrase-file ~/new --new-passphrase-file ~/pw && tazpod up");
    let (status, _, told) = lab.shell("tazpod unlock --passphrase-file ~/new");
    assert!(status == 6 && told.contains("under different keys"), "{told}");
    assert_eq!(inside("cat ~/secrets/of-inside ~/secrets/more"), "of-inside\nmore\n");
    assert_eq!(here(&lab, "cat more"), "more\n");
}

#[test]
fn what_an_image_lacks_and_what_nobody_trusts_is_said_before_anything_is_made() {
    let (engine, tls) = Engine::with_tls();
    import(&engine, "tazpod-test/without-libraries:1", &["mkdir -p dev proc sys run"]);
    import(&engine, "tazpod-test/without-fuse:1", &[LIBRARIES]);
    let lab = lab(&engine, &tls, ACCOUNT, "image: tazpod-test/without-fuse:1\nvault: {inside: true}\n");
    let containers = || engine.docker(&["ps", "-aq", "--filter", &format!("name={}", lab.name)]);
    let (status, _, told) = lab.shell("tazpod up");
    assert_eq!(status, 8, "{told}");
    assert!(told.contains("fusermount3") && told.contains("fuse3"), "{told}");
    assert_eq!(containers(), "");
    lab.configure("image: tazpod-test/without-libraries:1\nvault: {inside: true}\n");
    let (status, _, told) = lab.shell("tazpod up");
    assert_eq!(status, 8, "{told}");
    assert!(told.contains("glibc"), "{told}");
    assert_eq!(containers(), "");

    // A container writes the project, and must not get SYS_ADMIN by that.
    lab.configure("image: tazpod-test/without-fuse:1\n");
    lab.shell_ok("printf 'vault: {inside: true}\\n' >> .tazpod/config.yaml");
    for command in ["tazpod up", UNLOCK] {
        let (status, _, told) = lab.shell(command);
        assert_eq!(status, 2, "{command}: {told}");
        assert!(told.contains("has not been trusted") && told.contains("vault.inside"), "{told}");
    }
    assert_eq!(containers(), "");
    assert!(!lab.user.is_mounted_at("secrets"));
    lab.configure("vault: {inside: true}\n");
    let (status, _, told) = lab.shell(UNLOCK);
    assert!(status == 2 && told.contains("'image' or 'build' is missing"), "{told}");

    // Made without it, then configured: nothing is unlocked anywhere by mistake.
    lab.configure("image: tazpod-test/without-fuse:1\ncontainer: {workspace: /other}\n");
    let local = format!("export DOCKER_HOST={};", engine.host);
    lab.shell_ok(&format!("{local} tazpod up"));
    lab.configure("image: tazpod-test/without-fuse:1\nvault: {inside: true}\n");
    let (status, _, told) = lab.shell(&format!("{local} {UNLOCK}"));
    assert!(status == 8 && told.contains("up --recreate"), "{told}");
}

#[test]
fn on_this_machine_the_project_is_bound_and_the_last_shell_locks() {
    let engine = Engine::new();
    import(&engine, IMAGE, &[LIBRARIES, FUSERMOUNT]);
    let user = User::new_as("1234");
    user_program_stripped(&user);
    let configuration = "vault: {inside: true}\nauto_lock: {grace: 0s}\nidentity: [.claude]\n";
    let lab = Lab::of(&engine, user, &format!("image: {IMAGE}\n{configuration}"));
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    lab.inside_ok("echo of-project > /workspace/file; echo kept > ~/secrets/kept; echo x > ~/.claude/x");
    assert_eq!(lab.user.shell_ok("cat p/file p/.tazpod/.claude/x"), "of-project\nx\n");
    assert_ne!(lab.inside("echo x >> /workspace/.tazpod/config.yaml").0, 0);
    user::eventually("the last shell has ended", || lab.shell("tazpod status --check").0 == 4);
    lab.shell_ok("tazpod lock");
    assert_eq!(here(&lab, "cat kept"), "kept\n");
    // The vault is unlocked in one place only.
    lab.user.shell_ok("cd p; tazpod --vault .tazpod/vault/vault.tar.aes unlock --passphrase-file ~/pw");
    let (status, _, told) = lab.shell(UNLOCK);
    assert!(status == 1 && told.contains("unlocked on this machine"), "{told}");
    lab.shell_ok(&format!("tazpod lock && {UNLOCK} && tazpod enter --keep-unlocked -- true && tazpod status --check"));
    // Made anew for another configuration, with the vault unlocked.
    lab.inside_ok("true; echo again > ~/secrets/again");
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(here(&lab, "cat again"), "again\n");
    lab.shell_ok("tazpod down --volumes");
    assert!(!engine.docker(&["volume", "ls", "-q"]).contains(&lab.name), "it goes when that is asked for");
}

#[test]
fn archives_of_version_1_travel_too_and_what_is_paused_or_out_of_reach_is_told() {
    let engine = Engine::new();
    import(&engine, IMAGE, &[LIBRARIES, FUSERMOUNT]);
    let user = User::new_as(ACCOUNT);
    user_program_stripped(&user);
    let lab = Lab::without_project(&engine, user);
    lab.user.shell_ok("mkdir p && cd p && tazpod init --yes --format v1 --passphrase-file ~/pw");
    lab.configure(&format!("image: {IMAGE}\nvault: {{inside: true}}\n"));
    lab.shell_ok(&format!("tazpod up && {UNLOCK}"));
    lab.inside_ok("echo inside > ~/secrets/a");
    assert_eq!(here(&lab, "cat a; echo here > b"), "inside\n");
    engine.docker(&["exec", &lab.name, "sh", "-c", "echo inside > ~/secrets/c; tazpod save"]);
    lab.shell_ok("tazpod save");
    assert_eq!(lab.inside_ok("cat ~/secrets/b ~/secrets/c"), "here\ninside\n", "both are joined");

    let out_of_reach = lab.shell("export DOCKER_HOST=tcp://127.0.0.1:1; tazpod lock");
    assert_eq!(out_of_reach.0, 8, "{}", out_of_reach.2);
    let told = lab.shell_ok("export DOCKER_HOST=tcp://127.0.0.1:1; tazpod status");
    assert!(told.contains("nobody knows whether it is unlocked there"), "{told}");
    lab.inside_ok("echo last > ~/secrets/last");
    engine.docker(&["pause", &lab.name]);
    let (status, _, told) = lab.shell("tazpod lock");
    assert!(status == 8 && told.contains("is paused"), "{told}");
    assert!(lab.shell_ok("tazpod status --json").contains("\"state\":\"unknown\""));
    lab.shell_ok("tazpod down");
    assert_eq!(here(&lab, "cat b c last"), "here\ninside\nlast\n");
}
