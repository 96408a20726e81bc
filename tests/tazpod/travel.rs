//! Archives that travel between machines, by a folder and by a real S3 server: what arrives, what is refused, and what is there
//! after a machine was killed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
mod remote_setup;
mod user;

use moto::{Fault, Moto, Proxy};
use remote_setup::{configure, keys, s3_yaml, second_machine, shared_folder, write_config};
use user::User;

#[test]
fn a_vault_travels_to_a_second_machine_by_a_folder() {
    let (folder, yaml) = shared_folder();
    for format in user::FORMATS {
        let first = User::with_vault_of(format);
        configure(&first, &yaml);
        first.shell_ok("cd p && tazpod setup-storage && tazpod push vault");
        first.unlock();
        first.shell_ok("echo 1 > secrets/file && cd p && tazpod push");
        let pushed = std::fs::read(first.archive()).unwrap();
        let base = first.shell_ok("ls .local/state/tazpod/*/base-*.tar.aes");
        assert_eq!(std::fs::read(first.home.join(base.trim())).unwrap(), pushed, "the base is kept byte for byte");
        let (status, _, told) = first.shell("cd p && tazpod push");
        assert!(status == 0 && told.contains("Nothing to push"), "{told}");
        first.lock();

        let second = second_machine(&yaml);
        second.shell_ok("cd p && tazpod pull vault");
        assert_eq!(std::fs::read(second.archive()).unwrap(), pushed);
        second.unlock();
        assert_eq!(second.shell_ok("cat secrets/file"), "1\n");
        assert!(second.shell("cd p && tazpod pull").2.contains("Nothing to pull"));
        second.shell_ok("echo 2 > secrets/file && cd p && tazpod push");
        assert!(first.shell("cd p && tazpod push").2.contains("another machine pushed newer work"));
        // Both changed: neither is overwritten.
        let theirs = std::fs::read(second.archive()).unwrap();
        first.unlock();
        first.shell_ok("echo 3 > secrets/other && cd p && tazpod save");
        let (status, _, told) = first.shell("cd p && tazpod push");
        assert!(status == 6 && told.contains("has not seen") && told.contains("tazpod sync"), "{status} {told}");
        first.shell_ok("cd p && tazpod pull --output ../theirs");
        assert_eq!(std::fs::read(first.home.join("theirs")).unwrap(), theirs);
        assert_eq!(first.shell("cd p && tazpod pull --output ../theirs").0, 2, "never over a file");
        first.shell_ok("cd p && tazpod pull --output ../older --index 2");
        assert_eq!(std::fs::read(first.home.join("older")).unwrap(), pushed);
        assert_eq!(first.shell("cd p && tazpod pull --output ../x --index 9").0, 2);
        first.shell_ok("cd p && tazpod pull --output ../newest --at $(date -u +%F)");
        assert_eq!(std::fs::read(first.home.join("newest")).unwrap(), theirs);
        assert!(first.shell("cd p && tazpod pull --output ../x --at 2001-01-01").2.contains("no copy of 2001-01-01"));
        let (status, _, told) = first.shell("cd p && tazpod pull --index 2");
        assert!(status == 2 && told.contains("--output") && told.contains("restore"), "{told}");
        assert_eq!(first.shell_ok("cat secrets/file secrets/other"), "1\n3\n");
        std::fs::remove_dir_all(folder.path().join("vault")).unwrap();
    }
}

#[test]
fn a_vault_travels_by_a_bucket_that_the_old_tool_knows() {
    let first = User::with_vault_of("v2");
    let mut moto = Moto::start();
    let admin = moto.user();
    configure(&first, &s3_yaml(moto.port));
    let keys = keys(&admin);
    let (status, _, told) = first.shell(&format!("{keys} cd p && tazpod push"));
    assert!(status == 7 && told.contains("setup-storage"), "{status} {told}");
    first.shell_ok(&format!("{keys} cd p && tazpod setup-storage && tazpod push"));
    let fetched = tempfile::tempdir().unwrap();
    let target = fetched.path().join("fetched");
    moto.aws(&admin, &["s3", "cp", "s3://vaults/tazpod/vault/vault.tar.aes", target.to_str().unwrap()]);
    assert_eq!(std::fs::read(&target).unwrap(), std::fs::read(first.archive()).unwrap());
    let second = second_machine(&s3_yaml(moto.port));
    second.shell_ok(&format!("{keys} cd p && tazpod pull"));
    assert_eq!(std::fs::read(second.archive()).unwrap(), std::fs::read(&target).unwrap());
    // Both go on.
    for (user, name) in [(&first, "one"), (&second, "other")] {
        user.unlock();
        user.shell_ok(&format!("{keys} echo {name} > secrets/{name}; cd p && tazpod sync"));
    }
    first.shell_ok(&format!("{keys} cd p && tazpod pull && cat ~/secrets/one ~/secrets/other"));
    assert_eq!(std::fs::read(first.archive()).unwrap(), std::fs::read(second.archive()).unwrap());
    // Another vault at the same place is not replaced.
    let stranger = User::with_vault_of("v2");
    configure(&stranger, &s3_yaml(moto.port));
    let (status, _, told) = stranger.shell(&format!("{keys} cd p && tazpod push"));
    assert!(status == 6 && told.contains("another vault") && told.contains("remote.prefix"), "{status} {told}");
    // Nobody is reached: bounded, clear, and the archive is as it was.
    drop(moto);
    let before = std::fs::read(first.archive()).unwrap();
    for command in ["push", "pull", "remote test"] {
        let (status, _, told) = first.shell(&format!("{keys} cd p && tazpod {command}"));
        assert!(
            status == 7 && told.contains("cannot be reached") && told.contains("Hint:"),
            "{command}: {status} {told}"
        );
    }
    assert_eq!(std::fs::read(first.archive()).unwrap(), before);
}

/// A bucket behind a proxy that two machines use, each with one vault and unlocked.
struct Meeting {
    moto: Moto,
    proxy: Proxy,
    keys: String,
    users: [User; 2],
}

impl Meeting {
    fn new() -> Self {
        let mut moto = Moto::start();
        let (proxy, keys) = (Proxy::before(moto.port), keys(&moto.user()));
        let first = User::with_vault();
        configure(&first, &s3_yaml(proxy.port));
        first.shell_ok(&format!("{keys} cd p && tazpod setup-storage && tazpod push"));
        let second = second_machine(&s3_yaml(proxy.port));
        second.shell_ok(&format!("{keys} cd p && tazpod pull"));
        let users = [first, second];
        users.iter().for_each(User::unlock);
        Self { moto, proxy, keys, users }
    }

    fn run(&self, user: &User, script: &str) -> (i32, String) {
        let (status, _, told) = user.shell(&format!("{} cd p && {script}", self.keys));
        (status, told)
    }
}

#[test]
fn of_pushes_to_a_bucket_at_the_same_moment_one_wins_and_the_other_merges() {
    let meeting = Meeting::new();
    for round in 0..3 {
        let begun = meeting.users.each_ref().map(|user| {
            user.shell_ok(&format!(
                "echo {round} > secrets/both; hostname > secrets/of$$; echo $$ > secrets/both; sync secrets"
            ));
            user.command(&format!("{} cd p && exec tazpod push", meeting.keys)).spawn().unwrap()
        });
        let mut ended = begun.map(|mut child| child.wait().unwrap().code().unwrap());
        let winner = ended.iter().position(|status| *status == 0).expect("one wins");
        ended.sort_unstable();
        assert_eq!(ended, [0, 6], "round {round}");
        let (winner, loser) = (&meeting.users[winner], &meeting.users[1 - winner]);
        let kept = winner.shell_ok("cat secrets/both");
        let (status, told) = meeting.run(loser, "tazpod sync");
        assert!(status == 0 && told.contains("both: "), "{told}");
        assert_eq!(meeting.run(winner, "tazpod pull").0, 0);
        let seen =
            meeting.users.each_ref().map(|user| user.shell_ok("cd secrets && find . -type f | sort | xargs grep -H ."));
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].contains(&format!("./both:{kept}")), "{kept} in {}", seen[0]);
        let count = |start: &str| seen[0].lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("./of"), count("./.tazpod-conflicts/")), (2 * (round + 1), round + 1), "{}", seen[0]);
    }
    drop(meeting.moto);
}

#[test]
fn nothing_to_send_or_fetch_is_found_out_in_one_round_trip() {
    let meeting = Meeting::new();
    for locked in [false, true] {
        for user in &meeting.users {
            if locked {
                user.lock();
            }
            for command in ["push", "pull", "sync"] {
                meeting.proxy.requests();
                let (status, told) = meeting.run(user, &format!("tazpod {command}"));
                assert!(status == 0 && told.contains("Nothing to"), "{command}: {status} {told}");
                assert_eq!(meeting.proxy.requests(), ["HEAD /vaults/tazpod/vault/vault.tar.aes HTTP/1.1"], "{command}");
            }
        }
    }
}

#[test]
fn what_is_there_is_asked_once_before_something_is_sent() {
    let meeting = Meeting::new();
    let [one, other] = &meeting.users;
    for (user, script) in [(one, "echo 1 > secrets/one"), (other, "echo 2 > secrets/other"), (one, "true")] {
        user.shell_ok(script);
        meeting.proxy.requests();
        let (status, told) = meeting.run(user, "tazpod sync");
        assert_eq!(status, 0, "{told}");
        let requests = meeting.proxy.requests();
        let heads = requests.iter().filter(|request| request.starts_with("HEAD /vaults/tazpod/vault/vault.tar.aes"));
        assert_eq!(heads.count(), 1, "{script}: {requests:?}");
    }
}

#[test]
fn a_terminal_shows_how_far_slow_transfers_are() {
    let mut moto = Moto::start();
    let (proxy, keys) = (Proxy::before(moto.port), keys(&moto.user()));
    let user = second_machine(&s3_yaml(proxy.port));
    user.shell_ok(&format!("{keys} cd p && tazpod setup-storage"));
    let shown = |command: &str| {
        let script = format!(
            "exec < /dev/tty; export TERM=xterm; stty cols 120 rows 24; {keys} cd p && tazpod {command}; echo status $?"
        );
        let mut session = rexpect::session::spawn_command(user.terminal_command(&script), Some(60_000)).unwrap();
        let shown = session.exp_eof().unwrap();
        assert!(shown.contains("status 0"), "{command}: {shown}");
        shown
    };
    large_archive(&user, 1);
    proxy.set(Fault::Slow, usize::MAX);
    for (command, word) in [("push", "Sending"), ("pull --output ../fetched", "Fetching")] {
        let text = shown(command);
        let parts = [word, " of 17.00 MiB, ", "/s, ", " left"];
        assert!(parts.iter().all(|part| text.contains(part)), "{command}: {text:?}");
    }
    let (status, out, told) = user.shell(&format!("{keys} cd p && tazpod pull --output ../unseen"));
    assert!(status == 0 && !format!("{out}{told}").contains("Fetching"), "{told}");
    // What takes no time shows nothing.
    user.shell_ok("rm p/.tazpod/vault/vault.tar.aes; head -c 100000 /dev/urandom > p/.tazpod/vault/vault.tar.aes");
    configure(&user, "remote: {path: ../stick}\n");
    let text = shown("setup-storage && tazpod push");
    assert!(!text.contains("Sending"), "{text:?}");
}

#[test]
fn a_broken_configuration_deletes_nothing_and_retention_is_kept() {
    let (folder, yaml) = shared_folder();
    let user = User::with_vault();
    configure(&user, &yaml);
    user.shell_ok("cd p && tazpod setup-storage");
    user.unlock();
    let push = |number: u32| user.shell_ok(&format!("echo {number} > secrets/file && cd p && tazpod push"));
    let copies = || std::fs::read_dir(folder.path().join("vault/history")).unwrap().count();
    (0..3).for_each(|number| drop(push(number)));
    assert_eq!(copies(), 3);
    for broken in ["remote: {path: [", ""] {
        write_config(&user, broken);
        assert_ne!(user.shell("cd p && tazpod push").0, 0);
    }
    std::fs::remove_file(user.home.join("p/.tazpod/config.yaml")).unwrap();
    assert_ne!(user.shell("cd p && tazpod push").0, 0);
    configure(&user, &yaml.replace('}', ", retention: none}"));
    let (status, _, told) = user.shell("echo x > secrets/file && cd p && tazpod push");
    assert!(status == 0 && told.contains("nothing is deleted"), "{told}");
    configure(&user, &yaml.replace('}', ", retention: 0}"));
    push(4);
    assert_eq!(copies(), 5);
    configure(&user, &yaml.replace('}', ", retention: 2}"));
    push(5);
    assert_eq!(copies(), 2);
}

/// How often pushes to a remote are killed.
fn rounds(default: u64) -> u64 {
    std::env::var("TAZPOD_ROUNDS").map_or(default, |rounds| rounds.parse().unwrap())
}

/// An archive that takes a while to send. Without a magic, anything is one of version 1 to those who have no key.
fn large_archive(user: &User, round: u64) -> Vec<u8> {
    let bytes: Vec<u8> =
        (0..17_u64 << 17).flat_map(|at| (at ^ round.wrapping_mul(0x9e37_79b9)).to_le_bytes()).collect();
    user.shell_ok("mkdir -p p/.tazpod/vault && rm -f p/.tazpod/vault/vault.tar.aes");
    std::fs::write(user.archive(), &bytes).unwrap();
    bytes
}

/// Pushes are killed within so many milliseconds: the remote holds the archive of before or the one that was sent, whole, and the
/// next push works. `held` tells the archives that the remote holds.
fn kill_pushes(user: &User, environment: &str, rounds: u64, within: u64, held: &dyn Fn() -> Vec<Vec<u8>>) {
    let mut before = large_archive(user, 0);
    user.shell_ok(&format!("{environment} cd p && tazpod setup-storage && tazpod push"));
    for round in 1..=rounds {
        let sent = large_archive(user, round);
        let millis = round * 577 % within;
        let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
        user.shell(&format!("{environment} cd p && timeout -s KILL {seconds} tazpod push"));
        let found = held();
        assert!(!found.is_empty(), "round {round}, after {millis} ms: nothing is there");
        let known = |archive: &Vec<u8>| *archive == before || *archive == sent;
        assert!(found.iter().all(known), "round {round}, after {millis} ms: something else is there");
        user.shell_ok(&format!("{environment} cd p && tazpod push"));
        assert!(held() == std::slice::from_ref(&sent), "round {round}, after {millis} ms: the next push did not work");
        before = sent;
    }
}

#[test]
fn a_killed_push_to_a_folder_puts_all_or_nothing() {
    let (folder, yaml) = shared_folder();
    let heads = || {
        let files = std::fs::read_dir(folder.path().join("vault")).unwrap().map(|entry| entry.unwrap().path());
        let is_head = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("vault-");
        files.filter(is_head).map(|path| std::fs::read(path).unwrap()).collect()
    };
    kill_pushes(&second_machine(&yaml), "", rounds(4), 400, &heads);
}

#[test]
fn a_killed_push_to_a_bucket_puts_all_or_nothing() {
    for arguments in [&[][..], &["--conditional-parts"]] {
        let mut moto = Moto::start_with(arguments);
        let keys = keys(&moto.user());
        let user = second_machine(&s3_yaml(moto.port));
        let head = || {
            user.shell_ok(&format!(
                "{keys} rm -f fetched; cd p && XDG_STATE_HOME=~/other tazpod pull --output ../fetched"
            ));
            vec![std::fs::read(user.home.join("fetched")).unwrap()]
        };
        kill_pushes(&user, &keys, rounds(2), 1500, &head);
    }
}

#[test]
fn a_folder_in_the_vault_or_that_of_the_archive_is_no_remote() {
    let user = User::unlocked();
    for (path, reason) in
        [("~/secrets/r", "in the vault itself"), ("~/p/.tazpod/vault", "folder of the archive itself")]
    {
        configure(&user, &format!("remote: {{path: {path}}}\n"));
        for command in ["push", "sync", "setup-storage"] {
            let (status, _, told) = user.shell(&format!("cd p && tazpod {command}"));
            assert!(status == 2 && told.contains(reason), "{path} {command}: {status} {told}");
        }
    }
}

#[test]
fn no_second_vault_is_made_by_mistake_beside_one_that_the_remote_holds() {
    let (folder, yaml) = shared_folder();
    let first = User::with_vault();
    configure(&first, &yaml);
    first.unlock();
    first.shell_ok("echo travelled > secrets/file; cd p && tazpod setup-storage && tazpod push && tazpod lock");
    let machine = |yaml: &str| {
        let user = User::new();
        user.shell_ok("mkdir -p p .config/tazpod");
        std::fs::write(user.home.join(".config/tazpod/config.yaml"), yaml).unwrap();
        user
    };
    const INIT: &str = "cd p && tazpod init --passphrase-file ~/pw --mount '~/secrets' --size 1M --image none";

    let refused = machine(&yaml);
    let (status, _, told) = refused.shell(INIT);
    assert!(
        status == 1 && told.contains("holds a vault already") && told.contains("'tazpod pull' fetches it"),
        "{told}"
    );
    assert!(!refused.archive().exists());
    refused.shell_ok("cd p && tazpod pull && tazpod unlock --passphrase-file ~/pw");
    assert_eq!(refused.shell_ok("cat secrets/file"), "travelled\n");

    let fetched = machine(&yaml);
    let (status, _, told) = fetched.shell(&format!("{INIT} --yes"));
    assert!(status == 0 && told.contains("which is fetched") && !told.contains("Made the vault"), "{told}");
    fetched.unlock();
    assert_eq!(fetched.shell_ok("cat secrets/file"), "travelled\n");

    let other = machine(&yaml);
    let (status, _, told) = other.shell(&format!("{INIT} --new-vault"));
    assert!(status == 0 && told.contains("Made the vault"), "{told}");
    assert_eq!(other.shell("cd p && tazpod push").0, 6, "two vaults are not mixed");

    // A place that is not there, and one that cannot be reached, keep nobody from a vault.
    let missing = format!("remote: {{path: '{}/missing'}}\n", folder.path().display());
    for (yaml, yes) in [(missing.as_str(), ""), (s3_yaml(9).as_str(), " --yes")] {
        let keys = "export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_MAX_ATTEMPTS=1";
        let (status, _, told) = machine(yaml).shell(&format!("{keys}; {INIT}{yes}"));
        assert!(status == 0 && told.contains("Warning: it cannot be seen whether"), "{status} {told}");
        assert!(told.contains("Made the vault"), "{told}");
    }
}
