//! Kills: of the processes of an unlocked vault while programs write, and of the commands that unlock and lock.
//! In most rounds of version 2 a compaction is under way. `TAZPOD_SEED` repeats a run, `TAZPOD_ROUNDS` makes it longer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use user::{User, eventually, signal};

/// A folder: paths of its files with their content, and of its folders with `None`.
type State = BTreeMap<String, Option<Vec<u8>>>;

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Small random numbers (splitmix64); the seed is printed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = number_from_environment("TAZPOD_SEED", now.as_nanos() as u64 % 1_000_000);
        println!("TAZPOD_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Reads what a folder of the vault holds now, through a copy: root may not enter the mount.
fn read_state(user: &User, folder: &str) -> State {
    user.shell_ok(&format!("rm -rf copy; mkdir copy; test ! -d secrets/{folder} || cp -r secrets/{folder}/. copy"));
    let folder = &user.home.join("copy");
    let mut state = State::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                state.insert(name, None);
                folders.push(path);
            } else {
                state.insert(name, Some(std::fs::read(&path).unwrap()));
            }
        }
    }
    state
}

/// Does to a state what a line of the writer says.
fn apply(state: &mut State, line: &str, number: usize) {
    let words: Vec<&str> = line.split(' ').collect();
    let size = |word: &str| word.parse::<usize>().unwrap();
    match words[..] {
        ["create", name] => drop(state.insert(name.to_owned(), Some(Vec::new()))),
        ["mkdir", name] => drop(state.insert(name.to_owned(), None)),
        ["unlink" | "rmdir", name] => drop(state.remove(name).unwrap()),
        ["rename", from, to] => {
            let moved = state.remove(from).unwrap();
            state.insert(to.to_owned(), moved);
        }
        ["truncate", name, length] => state.get_mut(name).unwrap().as_mut().unwrap().resize(size(length), 0),
        ["write", name, offset, length] => {
            let (content, end) = (state.get_mut(name).unwrap().as_mut().unwrap(), size(offset) + size(length));
            content.resize(end.max(content.len()), 0);
            let text = format!("{number} ").into_bytes();
            content[size(offset)..end].iter_mut().zip(text.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
        _ => panic!("the writer said {line:?}"),
    }
}

/// What may be there of a write: the kernel sends a page that it holds only in part as a request of its own, so that one
/// write may be several changes. All begin at the front.
fn cuts(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["write", name, offset, length] = words[..] else { return Vec::new() };
    let (offset, length): (usize, usize) = (offset.parse().unwrap(), length.parse().unwrap());
    let ends = (offset / 4096 + 1..).map(|page| page * 4096).take_while(|end| *end < offset + length);
    ends.map(|end| format!("write {name} {offset} {}", end - offset)).collect()
}

/// Fails unless the state is one that the writer's lines led through, at or after the last that was acknowledged.
fn check_existed(begin: State, said: &str, now: &State, round: u64) -> usize {
    let mut state = begin;
    let acknowledged =
        said.lines().enumerate().filter(|(_, line)| *line == "ack").map(|(at, _)| at + 1).last().unwrap_or(0);
    let (mut changes, mut found) = (0, acknowledged == 0 && state == *now);
    for (at, line) in said.lines().enumerate() {
        match line.split(' ').next() {
            Some("ack" | "end") => {}
            _ => {
                let cuts = cuts(line).into_iter().map(|cut| {
                    let mut part = state.clone();
                    apply(&mut part, &cut, changes);
                    part
                });
                found |= at + 1 > acknowledged && cuts.into_iter().any(|part| part == *now);
                apply(&mut state, line, changes);
                changes += 1;
            }
        }
        found |= at + 1 >= acknowledged && state == *now;
    }
    if !found {
        let kept = std::env::temp_dir().join(format!("tazpod-crash-{}-{round}", std::process::id()));
        std::fs::write(&kept, said).unwrap();
        let sizes: Vec<_> = now.iter().map(|(name, content)| (name, content.as_ref().map(Vec::len))).collect();
        panic!("round {round}: no state since line {acknowledged} of {} is {sizes:?}", kept.display());
    }
    acknowledged
}

/// A program that changes a folder of the vault until it is cut off.
struct Writer {
    folder: &'static str,
    child: Child,
    begin: State,
}

impl Writer {
    fn start(user: &User, folder: &'static str, seed: u64) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tazpod/crash_writer.py");
        // Read before it is copied, since the account may not enter the checkout.
        let copy = user.home.join("crash_writer.py");
        if !copy.exists() {
            std::fs::copy(script, &copy).unwrap();
        }
        let begin = read_state(user, folder);
        let command = format!("exec python3 ~/crash_writer.py secrets/{folder} {seed} > {folder}.log");
        Self { folder, child: user.command(&command).spawn().unwrap(), begin }
    }

    /// What it said, after its end.
    fn said(&mut self, user: &User) -> String {
        let mut ended = None;
        eventually("the writer is cut off", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let status = ended.unwrap();
        let said = std::fs::read_to_string(user.home.join(format!("{}.log", self.folder))).unwrap();
        assert!(status.success() && said.contains("end "), "the writer failed by itself: {status}\n{said}");
        said
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_order_is_kept_when_processes_are_killed() {
    let mut dice = Dice::new();
    let rounds = number_from_environment("TAZPOD_ROUNDS", 25);
    // Version 2 has more that can be cut off.
    for (format, rounds) in [("v2", rounds - rounds / 3), ("v1", rounds / 3)] {
        let user = User::with_vault_of(format);
        let (mut acknowledged, mut cut_off) = (0, 0);
        for round in 0..rounds {
            user.unlock();
            let compactions = Compactions::start(&user, format, round);
            let mut writers = ["one", "two"].map(|folder| Writer::start(&user, folder, dice.below(1 << 30)));
            std::thread::sleep(Duration::from_millis(60 + dice.below(500)));
            kill_processes(&user, &mut dice);
            let said = writers.each_mut().map(|writer| writer.said(&user));
            cut_off += usize::from(!temporary_files(&user).is_empty());
            compactions.stop(&user);
            user.unlock();
            for (writer, said) in writers.into_iter().zip(said) {
                let now = read_state(&user, writer.folder);
                acknowledged += check_existed(writer.begin, &said, &now, round);
            }
            let left = temporary_files(&user);
            // A compaction may be under way again.
            assert!(format == "v2" || left.is_empty(), "round {round}: {left:?}");
            assert!(left.len() <= 1, "round {round}: {left:?}");
        }
        println!(
            "{format}: {acknowledged} lines were acknowledged, {cut_off} of {rounds} rounds cut off a whole write"
        );
        assert!(acknowledged > 4 * rounds as usize, "the writers did next to nothing: {acknowledged}");
        assert!(format != "v2" || rounds < 10 || cut_off > 0, "no kill came in a compaction");
    }
}

/// Files that are to replace the archive.
fn temporary_files(user: &User) -> Vec<String> {
    let names = std::fs::read_dir(user.archive().parent().unwrap()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name.contains(".tmp-")).collect()
}

/// Has the archive of version 2 written anew over and over, until the processes of the vault are killed.
struct Compactions(Option<Child>);

impl Compactions {
    fn start(user: &User, format: &str, round: u64) -> Self {
        let again = match (format, round % 4) {
            ("v2", 0 | 1) => {
                // Two of these outweigh the checkpoint, and make a compaction due.
                "dd if=/dev/urandom of=secrets/ballast bs=1M count=3 conv=notrunc,fsync status=none"
            }
            ("v2", 2) => "cd ~/p && tazpod compact",
            _ => return Self(None),
        };
        user.shell_ok("touch go-on");
        let script = format!("while [ -e ~/go-on ] && {again}; do :; done");
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self(Some(quiet(&mut user.command(&script))))
    }

    fn stop(self, user: &User) {
        let Some(mut child) = self.0 else { return };
        user.shell_ok("rm -f go-on");
        eventually("the compactions end", || child.try_wait().unwrap().is_some());
    }
}

/// Kills the agent; one time in three the keeper too, before or after it, so that nothing cleans up.
fn kill_processes(user: &User, dice: &mut Dice) {
    let status = user.status();
    let pid = |name: &str| i32::try_from(status[name].as_i64().unwrap()).unwrap();
    match dice.below(6) {
        0 => {
            signal(pid("keeper_pid"), Signal::KILL);
            signal(pid("agent_pid"), Signal::KILL);
        }
        1 => {
            signal(pid("agent_pid"), Signal::KILL);
            // It may have ended by itself.
            user.shell(&format!("kill -9 {}", pid("keeper_pid")));
        }
        _ => signal(pid("agent_pid"), Signal::KILL),
    }
}

/// Runs a command and kills it after a while, unless it has ended.
fn run_and_kill(user: &User, script: &str, after: Duration) {
    let mut child = user.command(script).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    let mut told = String::new();
    child.wait().unwrap();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(!told.contains("Error"), "{script}: {told}");
}

/// Waits until the vault is unlocked or locked, wholly; tells which.
fn settled(user: &User) -> bool {
    let mut unlocked = false;
    eventually("it is locked or unlocked", || {
        unlocked = user.status()["state"] == "unlocked";
        // A lock goes on when the client that asked for it is gone: files cannot be opened meanwhile.
        if unlocked { user.shell("cat secrets/file").0 == 0 } else { !user.is_mounted() && user.processes().is_empty() }
    });
    unlocked
}

#[test]
fn an_unlock_that_is_killed_leaves_the_vault_unlocked_or_locked() {
    let mut dice = Dice::new();
    let user = User::unlocked();
    user.shell_ok("echo kept > secrets/file; cd p && tazpod lock");
    let whole = time_of(|| user.unlock());
    let mut seen = [0, 0];
    for _ in 0..number_from_environment("TAZPOD_ROUNDS", 12) {
        user.shell_ok("cd p && tazpod lock");
        let after = Duration::from_micros(dice.below(whole.as_micros() as u64 * 5 / 4));
        run_and_kill(&user, "cd p && exec tazpod unlock --passphrase-file ~/pw", after);
        let unlocked = settled(&user);
        seen[usize::from(unlocked)] += 1;
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/file"), "kept\n");
    }
    println!("locked {}, unlocked {}", seen[0], seen[1]);
}

#[test]
fn a_lock_that_is_killed_leaves_the_vault_unlocked_or_locked() {
    let mut dice = Dice::new();
    let user = User::unlocked();
    let whole = time_of(|| drop(user.shell_ok("cd p && tazpod lock")));
    for round in 0..number_from_environment("TAZPOD_ROUNDS", 12) {
        user.unlock();
        // Some of it is not committed yet.
        user.shell_ok(&format!(
            "for i in 1 2 3 4 5; do head -c 100000 /dev/urandom > secrets/$i; done; echo {round} > secrets/file"
        ));
        let after = Duration::from_micros(dice.below(whole.as_micros() as u64 * 5 / 4));
        run_and_kill(&user, "cd p && exec tazpod lock", after);
        if settled(&user) {
            assert_eq!(user.shell_ok("cat secrets/file"), format!("{round}\n"));
            user.shell_ok("cd p && tazpod lock");
        }
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/file"), format!("{round}\n"));
        user.shell_ok("cd p && tazpod lock");
    }
}

fn time_of(function: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    function();
    begun.elapsed()
}
