//! What the home inside the container has: bridges to parts of the vault, folders in which tools keep their settings, variables of the
//! vault for one program; and leases of its shells. With a real engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/docker.rs"]
mod docker;
mod user;

use docker::{Engine, Lab};
use rustix::process::Signal;
use user::{ACCOUNT, eventually, signal};

#[test]
fn bridges_and_folders_of_tools_are_in_the_home_inside() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(
        &engine,
        ACCOUNT,
        "bridges: {.aws: ~/.aws, .kube: ~/.kube, gh: ~/.config/gh}\nidentity: [.claude, .config/nvim, greeting]\n",
    );
    lab.user.unlock();
    lab.user.shell_ok("echo of-the-vault > secrets/.kube/config; echo token > secrets/gh/hosts.yml");
    let (status, _, told) = lab.shell("tazpod up");
    assert!(status == 0 && told.contains("~/greeting is in the image already"), "{told}");
    assert_eq!(lab.inside_ok("cat ~/.kube/config ~/.config/gh/hosts.yml"), "of-the-vault\ntoken\n");
    assert_eq!(lab.inside_ok("cat ~/greeting"), "greeting\n", "what the image has stays");
    lab.inside_ok(
        "echo of-the-container > ~/.aws/credentials; echo kept > ~/.claude/settings; echo v > ~/.config/nvim/init",
    );
    assert_eq!(lab.user.shell_ok("cat secrets/.aws/credentials .aws/credentials"), "of-the-container\n".repeat(2));
    assert_eq!(lab.user.shell_ok("cat p/.tazpod/.claude/settings p/.tazpod/.config/nvim/init"), "kept\nv\n");
    assert_ne!(lab.inside("touch /workspace/.tazpod/new").0, 0, "the rest of it cannot be written");
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(lab.inside_ok("cat ~/.claude/settings"), "kept\n");
    lab.user.lock();
    assert_ne!(lab.inside("cat ~/.kube/config").0, 0);
    assert_eq!(lab.inside_ok("cat ~/.claude/settings"), "kept\n", "it is no secret of the vault");
    assert_eq!(lab.user.shell("ls .kube").0, 2, "the bridge's place is gone with it");
}

#[test]
fn the_last_shell_inside_locks_the_vault_however_it_ends() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "auto_lock: {grace: 200ms}\n");
    lab.shell_ok("tazpod up");
    lab.user.unlock();
    let enter = |flags: &str| {
        let mut shell = lab.on_terminal(&format!("tazpod enter {flags}; echo ended $?"));
        shell.exp_regex(r"\$ ").unwrap();
        shell
    };
    let (mut first, second) = (enter(""), enter(""));
    first.send_line("exit 42").unwrap();
    first.exp_string("ended 42").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(lab.user.is_mounted_at("secrets"), "there is another shell");
    // The tool of the second one, and not what it runs in.
    let tool = lab.user.processes().into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"tazpod\0enter\0")
    });
    signal(tool.unwrap(), Signal::KILL);
    eventually("the vault is locked", || !lab.user.is_mounted_at("secrets"));
    drop(second);

    lab.user.unlock();
    let mut shell = enter("--keep-unlocked");
    shell.send_line("exit").unwrap();
    shell.exp_string("ended 0").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(lab.user.is_mounted_at("secrets"), "as was asked");
}

#[test]
fn links_are_made_once_for_an_image_and_others_when_others_are_configured() {
    let engine = Engine::new().with_image();
    let image = "tazpod-test/volume:1";
    engine.import(image, &["USER dev", "VOLUME /home/dev/.config"]);
    let lab = Lab::new(&engine, ACCOUNT, "bridges: {.kube: ~/.kube}\n");
    lab.user.unlock();
    lab.shell_ok(
        "echo kube > ~/secrets/.kube/config; mkdir ~/secrets/gh; echo token > ~/secrets/gh/hosts.yml; tazpod up",
    );
    let images = || lab.shell_ok("docker images --no-trunc --format '{{.ID}} {{.Tag}}' tazpod-mapped | sort");
    let first = images();
    lab.shell_ok("tazpod down && tazpod up");
    assert_eq!(lab.inside_ok("cat ~/.kube/config"), "kube\n");
    assert_eq!(images(), first, "nothing is made again");
    lab.configure(&format!("image: {}\nbridges: {{gh: ~/.config/gh}}\n", docker::IMAGE));
    lab.shell_ok("tazpod up --recreate");
    assert_eq!(
        lab.inside_ok("cat ~/.config/gh/hosts.yml; ls -d ~/.kube ~/.config/gh 2> /dev/null; true"),
        "token\n/home/dev/.config/gh\n"
    );
    assert_eq!(images().lines().count(), first.lines().count(), "the old one is removed");

    // What is shown in the home, or a volume there, is not in the image.
    let bound = "container: {binds: ['~/data:/home/dev/.kube']}\nbridges: {gh: ~/.config/gh, .kube: ~/.kube}\n";
    for of in [docker::IMAGE, image] {
        lab.user.shell_ok("mkdir -p data && echo bound > data/file");
        lab.configure(&format!("image: {of}\n{bound}"));
        let told = lab.shell_ok("tazpod up --recreate 2>&1");
        assert!(told.contains("~/.kube is in the image already"), "{told}");
        assert_eq!(
            lab.inside_ok("cat ~/.kube/file ~/.config/gh/hosts.yml ~/secrets/.kube/config"),
            "bound\ntoken\nkube\n"
        );
    }
}

#[test]
fn a_shell_that_was_there_before_the_unlock_counts_as_well() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "auto_lock: {grace: 200ms}\n");
    lab.shell_ok("tazpod up");
    let mut shell = lab.on_terminal("tazpod enter; echo ended $?");
    shell.exp_regex(r"\$ ").unwrap();
    let leases = || lab.user.status()["auto_lock"]["leases"].as_array().map_or(0, Vec::len);
    for _ in 0..2 {
        lab.user.unlock();
        eventually("the shell has a lease", || leases() == 1);
        // Another one comes and goes, and the vault stays.
        lab.shell_ok("tazpod run -- true");
        std::thread::sleep(std::time::Duration::from_millis(1000));
        assert!(lab.user.is_mounted_at("secrets"), "there is a shell");
        lab.user.lock();
    }
    lab.user.unlock();
    eventually("the shell has a lease", || leases() == 1);
    shell.send_line("exit 5").unwrap();
    shell.exp_string("ended 5").unwrap();
    eventually("the vault is locked", || !lab.user.is_mounted_at("secrets"));
}

#[test]
fn one_program_inside_gets_variables_of_the_vault_and_nothing_is_left_of_them() {
    let engine = Engine::new().with_image();
    let lab = Lab::new(&engine, ACCOUNT, "env: {TOKEN: tokens/github, KUBECONFIG: {path: .kube/config}}\n");
    lab.shell_ok("tazpod up");
    let (status, _, told) = lab.shell("tazpod run --in-container -- env");
    assert!(status == 4 && told.contains("locked"), "{status} {told}");
    lab.user.unlock();
    let hostile = "MARKER-77 $(id) 'q' \\ \"d\" `x`";
    std::fs::write(lab.user.home.join("token"), hostile).unwrap();
    lab.user.shell_ok(
        "mkdir secrets/tokens secrets/.kube; cat token > secrets/tokens/github; echo conf > secrets/.kube/config",
    );
    let script = "printf %s \"$TOKEN\"; cat \"$KUBECONFIG\" -; ls -A /dev/shm; exit 42";
    let (status, out, told) = lab.shell(&format!("echo from-here | tazpod run --in-container -- sh -c '{script}'"));
    assert_eq!((status, out.as_str()), (42, format!("{hostile}conf\nfrom-here\n").as_str()), "{told}");
    let mut shell = lab.on_terminal("tazpod run --in-container --env TOKEN -- sh; echo ended $?");
    shell.exp_regex(r"\$ ").unwrap();
    shell.send_line("stty size > /dev/null && echo ${TOKEN%% *}-$KUBECONFIG.").unwrap();
    shell.exp_string("MARKER-77-.").unwrap();
    let execs = engine.inspect(&lab.name)["ExecIDs"].clone();
    let known = execs.as_array().unwrap().iter().map(|id| {
        let ask = format!(
            "curl -s --unix-socket {} http://localhost/exec/{}/json",
            lab.host.trim_start_matches("unix://"),
            id.as_str().unwrap()
        );
        String::from_utf8(std::process::Command::new("sh").args(["-c", &ask]).output().unwrap().stdout).unwrap()
    });
    let known: Vec<String> =
        known.chain([engine.inspect(&lab.name).to_string(), engine.docker(&["logs", &lab.name])]).collect();
    assert!(known.len() > 2 && known[0].contains("tazpod-run"), "{known:?}");
    known.iter().for_each(|text| assert!(!text.contains("MARKER-77"), "{text}"));
    shell.send_line("exit 3").unwrap();
    shell.exp_string("ended 3").unwrap();
    let (status, _, told) = lab.shell("tazpod run --in-container -- no-such-program");
    assert!(matches!(status, 126 | 127), "{status} {told}");
    assert_eq!(lab.inside_ok("ls -A /dev/shm"), "");
}
