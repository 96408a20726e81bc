//! Bridges through real mounts: what they show, what they cover, and that what lay there is whole again however they end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::path::PathBuf;

use rustix::process::Signal;
use user::{User, eventually, signal};

const UNLOCK: &str = "cd p && tazpod unlock --passphrase-file ~/pw";

impl User {
    /// A project with a vault and lines of configuration that are trusted.
    fn configured(lines: &str) -> Self {
        let user = Self::with_vault();
        user.configure(lines);
        user
    }

    fn configure(&self, lines: &str) {
        self.shell_ok(&format!("cd p && cat >> .tazpod/config.yaml <<'END'\n{lines}\nEND\ntazpod trust --yes"));
    }

    /// Puts something into the vault.
    fn with_content(self, script: &str) -> Self {
        self.shell_ok(&format!("{UNLOCK} --no-bridges"));
        self.shell_ok(&format!("cd secrets && {script}"));
        self.lock();
        self
    }

    /// Unlocks; what is told.
    fn unlock_told(&self) -> String {
        let (status, _, told) = self.shell(UNLOCK);
        assert_eq!(status, 0, "{told}");
        told
    }

    /// The problem of the bridge to a place below the home, if it has one.
    fn problem(&self, place: &str) -> Option<String> {
        let target = self.home.join(place);
        let bridges = self.status()["bridges"].as_array().unwrap().clone();
        let bridge = bridges.iter().find(|bridge| bridge["target"] == target.to_str().unwrap()).expect("it is listed");
        bridge["problem"].as_str().map(str::to_owned)
    }

    fn pid(&self, name: &str) -> i32 {
        i32::try_from(self.status()[name].as_i64().unwrap()).unwrap()
    }
}

/// Everything of a folder that a change would show in.
fn look(folder: &str) -> String {
    format!("find {folder} -printf '%P %y %m %n %s %i %T@ %C@ %l\\n' | sort; cat {folder}/config")
}

const OWN_AWS: &str = "mkdir -m 750 .aws && cd .aws && printf '[default]\\nregion = underneath\\n' > config && ln -s config link && mkdir -p sso/cache && echo token > sso/cache/t.json && chmod 640 config";
const VAULT_AWS: &str = "mkdir .aws && printf '[default]\\naws_access_key_id = AKFROMTHEVAULT\\naws_secret_access_key = s\\n' > .aws/credentials";

#[test]
fn a_program_finds_the_vaults_credentials_in_the_home_and_what_lay_there_is_whole_again() {
    let user = User::with_vault().with_content(VAULT_AWS);
    user.shell_ok(OWN_AWS);
    let before = user.shell_ok(&look(".aws"));
    let key = "aws configure get aws_access_key_id";
    assert_eq!(user.shell(key).0, 1, "the home's own has no key");
    for end in ["lock", "force", "agent", "keeper", "both"] {
        let told = user.unlock_told();
        assert!(told.contains("Bridged .aws to"), "{told}");
        if end == "lock" {
            assert_eq!(user.shell_ok(key), "AKFROMTHEVAULT\n");
            user.shell_ok("aws configure set region changed && grep -q changed secrets/.aws/config");
        }
        assert_eq!(user.shell_ok("cat .aws/config; ls .aws").lines().last(), Some("credentials"));
        user.shell_ok("cd p && tazpod save");
        let (agent, keeper) = (user.pid("agent_pid"), user.pid("keeper_pid"));
        match end {
            "lock" => user.lock(),
            "force" => drop(user.shell_ok("cd p && tazpod lock --force")),
            "agent" => signal(agent, Signal::KILL),
            "keeper" => signal(keeper, Signal::KILL),
            _ => [keeper, agent].into_iter().for_each(|pid| signal(pid, Signal::KILL)),
        }
        // Where both were killed, the next command cleans up.
        eventually(end, || user.status()["state"] == "locked" && !user.is_mounted());
        assert_eq!(user.shell_ok(&look(".aws")), before, "{end}");
    }
    user.unlock();
    assert_eq!(user.shell_ok("cat .aws/credentials | head -n 2 | tail -n 1"), "aws_access_key_id = AKFROMTHEVAULT\n");
}

#[test]
fn the_default_bridge_is_made_only_where_it_does_not_surprise() {
    let user = User::with_vault();
    let told = user.unlock_told();
    assert!(!told.contains("ridge") && !user.is_mounted_at(".aws") && !user.home.join(".aws").exists(), "{told}");
    user.shell_ok("mkdir secrets/.aws && test ! -e .aws");
    user.lock();
    assert!(user.unlock_told().contains("Bridged .aws"));
    user.lock();
    assert!(!user.home.join(".aws").exists(), "what was made for it goes");
    user.shell_ok(&format!("{UNLOCK} --no-bridges"));
    assert!(!user.is_mounted_at(".aws") && user.status()["bridges"].as_array().unwrap().is_empty());
    user.lock();
    user.shell_ok("tazpod unlock --vault p/.tazpod/vault/vault.tar.aes --mount m --passphrase-file pw");
    assert!(!user.is_mounted_at(".aws"), "another archive than the project's is looked at");
    user.shell_ok("tazpod lock --vault p/.tazpod/vault/vault.tar.aes");
    user.configure("bridges: {}");
    user.unlock_told();
    assert!(!user.is_mounted_at(".aws"), "none was asked for");
}

#[test]
fn places_and_folders_that_are_missing_are_made_and_go_when_they_are_empty() {
    let user = User::configured("bridges: {.kube: ~/.kube, .config/gh: ~/.deep/er/gh, full: ~/there}");
    user.shell_ok("mkdir there");
    let before = user.shell_ok("stat -c '%a %i %Z' there");
    user.unlock_told();
    assert_eq!(user.shell_ok("stat -c %a .kube secrets/.kube secrets/.config/gh .deep"), "700\n700\n700\n700\n");
    user.shell_ok(
        "echo k > .kube/config && echo g > secrets/.config/gh/hosts && cat secrets/.kube/config .deep/er/gh/hosts",
    );
    let text = user.shell_ok("cd p && tazpod status");
    assert!(text.contains("bridge   ") && text.contains("/.kube (from .kube)"), "{text}");
    user.lock();
    assert_eq!(user.shell("ls -d .kube .deep 2>/dev/null").1, "");
    assert_eq!(user.shell_ok("stat -c '%a %i %Z' there"), before, "what was there is left as it was, empty or not");
    user.unlock_told();
    assert_eq!(user.shell_ok("cat .kube/config"), "k\n");
    // A file that somebody puts beside the place keeps its folder.
    user.shell_ok("echo mine > .deep/mine");
    user.lock();
    assert_eq!(user.shell_ok("find .deep -printf '%P\\n' | sort"), "\nmine\n");
}

#[test]
fn what_was_made_goes_too_when_both_processes_are_killed() {
    let user = User::configured("bridges: {.kube: ~/.deep/kube}");
    user.unlock_told();
    let pids = [user.pid("keeper_pid"), user.pid("agent_pid")];
    pids.into_iter().for_each(|pid| signal(pid, Signal::KILL));
    eventually("it is cleaned up", || user.status()["state"] == "locked" && !user.is_mounted());
    assert!(!user.home.join(".deep").exists());
}

#[test]
fn what_is_mounted_is_taken_away_whenever_both_processes_are_killed() {
    let places: Vec<String> = (0..8).map(|number| format!("place-{number}")).collect();
    let lines = places.iter().map(|place| format!("\n  {place}: ~/{place}")).collect::<String>();
    let user = User::configured(&format!("bridges:{lines}"));
    for place in [&places[0], &places[3], &places[7]] {
        let mut unlock = user.command(UNLOCK).spawn().unwrap();
        eventually("it is bridged", || user.is_mounted_at(place));
        for pid in user.processes() {
            // One ends when another does.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        unlock.wait().unwrap();
        eventually("all is gone", || user.status()["state"] == "locked" && !user.is_mounted());
    }
}

#[test]
fn a_place_that_cannot_be_covered_is_told_and_keeps_nobody_from_the_vault() {
    let places = ["link", "file", "covered", "fine"];
    let lines = places.map(|place| format!("  {place}: ~/{place}")).join("\n");
    let user = User::configured(&format!("bridges:\n{lines}\n  theirs: /usr/lib\n"));
    user.shell_ok("mkdir real covered && ln -s real link && echo mine > file");
    let other = "tazpod init --vault o/v --yes --passphrase-file pw && tazpod unlock --vault o/v --mount covered --passphrase-file pw";
    user.shell_ok(&format!("mkdir o && {other}"));
    let told = user.unlock_told();
    let expected = [
        ("link", "symbolic link"),
        ("file", "is a file, and what is bridged to it is a folder"),
        ("covered", "is mounted already"),
    ];
    for (place, reason) in expected {
        assert!(told.contains(reason), "{told}");
        assert!(user.problem(place).unwrap().contains(reason), "{place}");
    }
    assert_eq!(user.problem("fine"), None);
    assert!(told.contains("theirs is not bridged: /usr/lib belongs to another user"), "{told}");
    assert!(user.shell_ok("cd p && tazpod status").contains("is not there: "));
    assert_eq!(user.shell_ok("cat file; readlink link; ls secrets"), "mine\nreal\nfine\n", "nothing is made in vain");
    user.lock();
    user.shell_ok("tazpod lock --vault o/v && rm file && mkdir file");
    assert!(!user.unlock_told().contains("file is not bridged"));
}

#[test]
fn bridges_that_nest_or_hide_what_is_needed_are_refused_before_any_passphrase() {
    let user = User::with_vault();
    let config = user.shell_ok("cat p/.tazpod/config.yaml");
    for (bridges, reason) in [
        ("{a: ~/x, b: ~/x/y}", "must not lie in each other"),
        ("{a: ~/x, b: ~/x}", "must not lie in each other"),
        ("{a: ~/x, a/b: ~/y}", "of the vault must not"),
        ("{a: ~/secrets/x}", "mount point"),
        ("{a: ~/}", "mount point"),
        ("{a: ~/.local}", "would cover"),
        ("{a: ~/p}", "would cover"),
        ("{../a: ~/x}", "no path within the vault"),
        ("{a: x}", "no place for a bridge"),
    ] {
        user.shell_ok(&format!(
            "cd p && cat > .tazpod/config.yaml <<'END'\n{config}\nbridges: {bridges}\nEND\ntazpod trust --yes"
        ));
        let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file /nowhere");
        assert!(status == 2 && told.contains(reason), "{bridges}: {told}");
        user.shell_ok("cd p && tazpod status");
    }
    user.shell_ok(&format!("{UNLOCK} --no-bridges"));
}

#[test]
fn bridges_of_a_file_that_was_not_trusted_are_not_made() {
    let user = User::with_vault();
    user.shell_ok("cd p && grep -v mount .tazpod/config.yaml > c; mv c .tazpod/config.yaml; tazpod trust --yes");
    user.shell_ok("cd p && echo 'bridges: {.ssh: ~/.ssh}' >> .tazpod/config.yaml");
    let told = user.unlock_told();
    assert!(told.contains("has not been trusted, and sets bridges"), "{told}");
    assert!(!user.is_mounted_at(".ssh") && !user.home.join(".ssh").exists());
    user.lock();
    user.shell_ok("cd p && tazpod trust --yes");
    user.unlock_told();
    assert!(user.is_mounted_at(".ssh"));
}

#[test]
fn a_read_only_vault_has_read_only_bridges_and_gets_no_folders() {
    let user = User::configured("bridges: {.aws: ~/.aws, .kube: ~/.kube}").with_content(VAULT_AWS);
    let (status, _, told) = user.shell(&format!("{UNLOCK} --read-only"));
    assert_eq!(status, 0, "{told}");
    assert!(user.problem(".kube").unwrap().contains("read-only"));
    assert_eq!(user.shell("grep -q AKFROM .aws/credentials && ! touch .aws/x").0, 0);
    assert!(!user.home.join(".kube").exists());
}

#[test]
fn a_single_file_is_bridged_to_a_file() {
    let user = User::configured("bridges: {.netrc: ~/.netrc, token: ~/new-token}")
        .with_content("echo vault > .netrc && echo t > token && chmod 600 .netrc");
    user.shell_ok("echo underneath > .netrc && chmod 640 .netrc");
    let before = user.shell_ok("stat -c '%a %i %Z %s' .netrc; cat .netrc");
    for end in ["lock", "kill"] {
        user.unlock_told();
        assert_eq!(user.shell_ok("cat .netrc new-token; stat -c %a .netrc"), "vault\nt\n600\n");
        user.shell_ok(&format!("echo {end} >> .netrc && grep -q {end} secrets/.netrc"));
        // What saves by renaming a new file over it fails, on both sides, and changes nothing.
        assert_ne!(user.shell("echo x > tmp && mv tmp .netrc").0, 0);
        assert_ne!(user.shell("echo x > secrets/tmp && mv secrets/tmp secrets/.netrc").0, 0);
        user.shell_ok("echo vault > .netrc; rm -f tmp secrets/tmp; cd p && tazpod save");
        match end {
            "lock" => user.lock(),
            _ => signal(user.agent(), Signal::KILL),
        }
        eventually(end, || !user.is_mounted());
        assert_eq!(user.shell_ok("stat -c '%a %i %Z %s' .netrc; cat .netrc"), before);
        assert!(!user.home.join("new-token").exists());
    }
}

#[test]
fn what_a_bridge_covers_can_be_reached_past_it() {
    let user = User::with_vault().with_content(VAULT_AWS);
    user.shell_ok(OWN_AWS);
    user.unlock_told();
    let underneath = PathBuf::from(user.status()["bridges"][0]["underneath"].as_str().unwrap());
    assert_eq!(
        user.shell_ok(&format!("cat {}/sso/cache/t.json; ls .aws/sso 2>&1 | wc -l", underneath.display())),
        "token\n1\n"
    );
}

#[test]
fn who_holds_a_file_through_a_bridge_is_listed_and_cut_off() {
    let user = User::with_vault().with_content(VAULT_AWS);
    user.unlock_told();
    let mut holder = user.command("exec sleep 60 < .aws/credentials").spawn().unwrap();
    eventually("it is held", || user.status()["open_handles"] == 1);
    let (status, _, told) = user.shell("cd p && tazpod lock");
    assert!(status == 1 && told.contains("/.aws/credentials"), "{told}");
    user.shell_ok("cd p && tazpod lock --force");
    assert!(!user.is_mounted() && !user.home.join(".aws").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// Processes that were stopped, and end with the test in any case: nobody could lock otherwise.
struct Stopped([i32; 2]);

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in self.0.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

#[test]
fn a_mount_that_was_just_being_made_is_found_when_both_processes_are_killed() {
    let user = User::unlocked();
    user.shell_ok("mkdir further secrets/folder && cd p && tazpod save");
    let (agent, keeper) = (user.pid("agent_pid"), user.pid("keeper_pid"));
    let stopped = Stopped([keeper, agent]);
    signal(keeper, Signal::STOP);
    let mut mounting = user.command("cd p && tazpod mount folder ~/further").spawn().unwrap();
    eventually("it is noted down first", || user.shell("grep -q further .local/state/tazpod/*/unlocked.json").0 == 0);
    // The request is on its way to the keeper right after that.
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(agent, Signal::STOP);
    signal(keeper, Signal::CONT);
    eventually("it is mounted", || user.is_mounted_at("further"));
    drop(stopped);
    assert!(!mounting.wait().unwrap().success());
    eventually("the next command cleans up", || user.status()["state"] == "locked" && !user.is_mounted());
    assert_eq!(user.shell_ok("ls -A further"), "");
}

#[test]
fn a_bridge_that_could_not_be_made_is_made_by_a_second_unlock() {
    let user = User::configured("bridges: {.kube: ~/.kube, .aws: ~/.aws}");
    user.shell_ok("echo in the way > .kube");
    assert!(user.unlock_told().contains("is a file"));
    assert!(user.problem(".kube").is_some() && user.problem(".aws").is_none());
    let told = user.unlock_told();
    assert!(told.contains("Unlocked already") && told.contains("is a file") && !told.contains("Bridged"), "{told}");
    user.shell_ok("rm .kube");
    assert!(!user.shell_ok("cd p && tazpod unlock --no-bridges 2>&1").contains("Bridged"));
    let told = user.unlock_told();
    assert!(told.contains("Bridged .kube to") && !told.contains(".aws"), "{told}");
    assert!(user.problem(".kube").is_none() && user.is_mounted_at(".kube"));
    assert_eq!(user.status()["bridges"].as_array().unwrap().len(), 2);
    let told = user.unlock_told();
    assert!(told.contains("Unlocked already") && !told.contains("ridge"), "{told}");
    // One that was taken away.
    user.shell_ok("cd p && tazpod unmount ~/.kube");
    assert!(user.unlock_told().contains("Bridged .kube to"));
    assert_eq!(user.status()["bridges"].as_array().unwrap().len(), 2);
}
