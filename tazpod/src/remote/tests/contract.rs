//! The list. Each entry gets a place of its own.

use std::os::unix::fs::PermissionsExt;

use super::*;

type Rule = fn(&dyn Bench, &str);

const RULES: [(&str, Rule); 16] = [
    ("storage_is_made_once_and_until_then_missing", storage_is_made_once_and_until_then_missing),
    ("an_empty_place_holds_nothing", an_empty_place_holds_nothing),
    ("what_is_put_is_fetched_byte_for_byte", what_is_put_is_fetched_byte_for_byte),
    ("a_large_archive_travels_too", a_large_archive_travels_too),
    ("a_put_follows_what_was_seen_and_nothing_else", a_put_follows_what_was_seen_and_nothing_else),
    ("a_put_whose_answer_was_lost_is_done", a_put_whose_answer_was_lost_is_done),
    ("of_racing_puts_one_wins", of_racing_puts_one_wins),
    ("a_version_that_is_gone_is_told", a_version_that_is_gone_is_told),
    ("an_archive_that_changes_meanwhile_is_not_put", an_archive_that_changes_meanwhile_is_not_put),
    ("damage_is_found_and_nothing_is_replaced", damage_is_found_and_nothing_is_replaced),
    ("copies_are_listed_and_fetched", copies_are_listed_and_fetched),
    ("fifty_five_copies_leave_fifty_and_the_newest", fifty_five_copies_leave_fifty_and_the_newest),
    ("without_a_number_no_copy_goes", without_a_number_no_copy_goes),
    ("conditions_are_kept", conditions_are_kept),
    ("who_watches_is_told_of_every_byte", who_watches_is_told_of_every_byte),
    ("what_is_larger_than_its_bound_is_not_fetched", what_is_larger_than_its_bound_is_not_fetched),
];

/// Runs the whole list; says which rule is broken.
pub fn run(bench: &dyn Bench) {
    run_except(bench, &[]);
}

/// Runs the list but for some rules, which must be in it.
pub fn run_except(bench: &dyn Bench, exceptions: &[&str]) {
    assert!(exceptions.iter().all(|exception| RULES.iter().any(|(name, _)| name == exception)));
    for (name, rule) in RULES.iter().filter(|(name, _)| !exceptions.contains(name)) {
        println!("{name}");
        rule(bench, &name.replace('_', "-"));
    }
}

/// Opens a place whose storage is made.
fn ready(bench: &dyn Bench, name: &str) -> Box<dyn Remote> {
    let remote = bench.open(name);
    remote.make_storage().unwrap();
    remote
}

fn storage_is_made_once_and_until_then_missing(bench: &dyn Bench, name: &str) {
    let (remote, sample) = (bench.open(name), Sample::v1(1));
    let missing = |outcome: Option<RemoteError>| match outcome {
        Some(RemoteError::NoStorage(_)) => {}
        other => panic!("{other:?}"),
    };
    missing(remote.heads().err());
    missing(remote.copies().err());
    missing(remote.put(&sample.path, &sample.description, &[]).err());
    missing(remote.put_copy(&sample.path, &sample.description, &Version("x".into())).err());
    missing(remote.fetch(&Version("x".into()), &sample.path).err());
    assert_eq!(std::fs::read(&sample.path).unwrap(), sample.bytes);
    let made = remote.make_storage().unwrap();
    assert!(made[0].starts_with("Made "), "{made:?}");
    done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    let again = remote.make_storage().unwrap();
    assert!(again[0].contains("already"), "{again:?}");
    assert_eq!(head(&*remote).bytes, sample.description.bytes);
}

fn an_empty_place_holds_nothing(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    assert_eq!(remote.heads().unwrap(), []);
    assert_eq!(remote.copies().unwrap(), []);
}

fn what_is_put_is_fetched_byte_for_byte(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    let mut samples = Sample::v2_states();
    samples.push(Sample::of(vec![7]));
    samples.push(Sample::v1(1));
    let mut seen = Vec::new();
    for sample in samples {
        let version = done(remote.put(&sample.path, &sample.description, &seen).unwrap());
        let found = head(&*bench.open(name));
        assert_eq!((&found.version, found.bytes), (&version, sample.description.bytes));
        assert_eq!(found.state, Some(sample.description.state));
        assert!(found.modified.elapsed().is_ok_and(|age| age.as_secs() < 600), "{:?}", found.modified);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("fetched");
        assert_eq!(remote.fetch(&version, &target).unwrap(), sample.description);
        assert_eq!(std::fs::read(&target).unwrap(), sample.bytes);
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names_in(folder.path()), ["fetched"]);
        seen = vec![version];
    }
}

fn a_large_archive_travels_too(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    // Several parts, the last of them short.
    let (large, other) = (Sample::of(noise(1, (20 << 20) + 17)), Sample::of(noise(2, 20 << 20)));
    let version = done(remote.put(&large.path, &large.description, &[]).unwrap());
    assert_eq!(remote.put(&other.path, &other.description, &[]).unwrap(), Put::Conflict);
    let target = other.path.with_extension("fetched");
    // By who looked at it before, and by who did not.
    assert_eq!(head(&*remote).version, version);
    for fetching in [&remote, &bench.open(name)] {
        assert_eq!(fetching.fetch(&version, &target).unwrap(), large.description);
        assert!(std::fs::read(&target).unwrap() == large.bytes);
    }
    keep(&*remote, &large, &version, Retention::All);
    let second = done(remote.put(&other.path, &other.description, std::slice::from_ref(&version)).unwrap());
    assert_eq!(remote.put(&large.path, &large.description, &[version]).unwrap(), Put::Conflict);
    assert_eq!(head(&*remote).version, second);
    let [copy] = remote.copies().unwrap().try_into().unwrap();
    assert_eq!(remote.fetch_copy(&copy.name, &target).unwrap(), large.description);
}

fn a_put_follows_what_was_seen_and_nothing_else(bench: &dyn Bench, name: &str) {
    let (remote, other) = (ready(bench, name), bench.open(name));
    let samples: Vec<_> = (0..4).map(Sample::v1).collect();
    let put = |remote: &dyn Remote, sample: &Sample, seen: &[Version]| {
        remote.put(&sample.path, &sample.description, seen).unwrap()
    };
    let strange = Version("\"strange\"".to_owned());
    assert_eq!(put(&*remote, &samples[0], std::slice::from_ref(&strange)), Put::Conflict, "nothing is there");
    let first = done(put(&*remote, &samples[0], &[]));
    assert_eq!(put(&*other, &samples[1], &[]), Put::Conflict);
    assert_eq!(put(&*other, &samples[1], std::slice::from_ref(&strange)), Put::Conflict);
    let second = done(put(&*other, &samples[1], std::slice::from_ref(&first)));
    assert_eq!(put(&*remote, &samples[2], std::slice::from_ref(&first)), Put::Conflict);
    assert_eq!(put(&*remote, &samples[2], &[]), Put::Conflict);
    let found = head(&*remote);
    assert_eq!((&found.version, found.state), (&second, Some(samples[1].description.state)));
    let third = done(put(&*remote, &samples[2], &[second]));
    assert_eq!(head(&*other).version, third);
}

fn a_put_whose_answer_was_lost_is_done(bench: &dyn Bench, name: &str) {
    let (remote, first, second) = (ready(bench, name), Sample::v1(1), Sample::v1(2));
    let version = done(remote.put(&first.path, &first.description, &[]).unwrap());
    assert_eq!(done(remote.put(&first.path, &first.description, &[]).unwrap()), version);
    let seen = [version];
    let next = done(remote.put(&second.path, &second.description, &seen).unwrap());
    assert_eq!(done(remote.put(&second.path, &second.description, &seen).unwrap()), next);
    assert_eq!(head(&*remote).version, next);
}

fn of_racing_puts_one_wins(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    let mut seen: Vec<Version> = Vec::new();
    for round in 0..3 {
        let samples: Vec<_> = (0..8).map(|racer| Sample::v1(round * 8 + racer + 1)).collect();
        let racers: Vec<_> = samples.iter().map(|_| bench.open(name)).collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let put = |(sample, racer): (&Sample, Box<dyn Remote>)| {
                let (path, description, seen) = (sample.path.clone(), sample.description, seen.clone());
                scope.spawn(move || racer.put(&path, &description, &seen).unwrap())
            };
            let running: Vec<_> = samples.iter().zip(racers).map(put).collect();
            running.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..8).filter(|racer| outcomes[*racer] != Put::Conflict).collect();
        let [winner] = winners[..] else { panic!("round {round}: {outcomes:?}") };
        let found = head(&*remote);
        assert_eq!(found.state, Some(samples[winner].description.state));
        assert_eq!(done(outcomes[winner].clone()), found.version);
        seen = vec![found.version];
    }
}

fn a_version_that_is_gone_is_told(bench: &dyn Bench, name: &str) {
    let (remote, first, second) = (ready(bench, name), Sample::v1(1), Sample::v1(2));
    let old = done(remote.put(&first.path, &first.description, &[]).unwrap());
    done(remote.put(&second.path, &second.description, std::slice::from_ref(&old)).unwrap());
    let outcome = remote.fetch(&old, &first.path);
    assert!(matches!(outcome, Err(RemoteError::Changed(_))), "{outcome:?}");
    assert_eq!(std::fs::read(&first.path).unwrap(), first.bytes);
    assert_eq!(names_in(first.path.parent().unwrap()), ["archive"]);
}

fn an_archive_that_changes_meanwhile_is_not_put(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    for sample in [Sample::v1(1), Sample::of(noise(1, 17 << 20))] {
        let mut changed = sample.bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&sample.path, &changed).unwrap();
        let outcome = remote.put(&sample.path, &sample.description, &[]);
        assert!(matches!(outcome, Err(RemoteError::ArchiveChanged(_))), "{outcome:?}");
        let outcome = remote.put_copy(&sample.path, &sample.description, &Version("x".into()));
        assert!(matches!(outcome, Err(RemoteError::ArchiveChanged(_))), "{outcome:?}");
        assert_eq!((remote.heads().unwrap(), remote.copies().unwrap()), (vec![], vec![]));
    }
}

fn damage_is_found_and_nothing_is_replaced(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    let states = Sample::v2_states();
    let (newest, here) = (states.last().unwrap(), &states[0]);
    done(remote.put(&newest.path, &newest.description, &[]).unwrap());
    bench.damage_head(name);
    let outcome = remote.fetch(&head(&*remote).version, &here.path);
    assert!(matches!(outcome, Err(RemoteError::Damaged { .. })), "{outcome:?}");
    assert_eq!(std::fs::read(&here.path).unwrap(), here.bytes);
    assert_eq!(names_in(here.path.parent().unwrap()), ["archive"]);
}

fn copies_are_listed_and_fetched(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    let states = Sample::v2_states();
    bench.plant_copy(name, "vault-20250102-030405.tar.aes", b"of the old tool");
    bench.plant_copy(name, "notes.txt", b"somebody's");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut seen = Vec::new();
    for sample in &states {
        seen = vec![done(remote.put(&sample.path, &sample.description, &seen).unwrap())];
        keep(&*remote, sample, &seen[0], Retention::All);
    }
    // Of a version that is not there any more, which another machine put something on top of.
    let stale = remote.put_copy(&states[0].path, &states[0].description, &Version("\"gone\"".into())).unwrap();
    let copies = remote.copies().unwrap();
    assert_eq!(copies.len(), states.len() + 2);
    assert_eq!(copies.last().unwrap().sequence, None, "the oldest is the old tool's: {copies:?}");
    for sample in &states {
        let number = sample.description.state.sequence;
        let copy = copies.iter().find(|copy| copy.sequence == Some(number) && copy.name != stale).unwrap();
        let target = sample.path.with_extension("copy");
        assert_eq!(remote.fetch_copy(&copy.name, &target).unwrap(), sample.description);
        assert_eq!((std::fs::read(&target).unwrap(), copy.bytes), (sample.bytes.clone(), sample.description.bytes));
    }
    let target = states[0].path.with_extension("old");
    remote.fetch_copy(&copies.last().unwrap().name, &target).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"of the old tool");
    remote.remove_copy(&stale).unwrap();
    remote.remove_copy(&stale).unwrap();
    let outcome = remote.fetch_copy(&stale, &target);
    assert!(matches!(outcome, Err(RemoteError::Changed(_))), "{outcome:?}");
    assert_eq!(remote.copies().unwrap().len(), states.len() + 1);
}

fn fifty_five_copies_leave_fifty_and_the_newest(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    bench.plant_copy(name, "notes.txt", b"somebody's");
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    for number in 0..55 {
        let sample = Sample::of(format!("archive number {number}").into_bytes());
        seen = vec![done(remote.put(&sample.path, &sample.description, &seen).unwrap())];
        keep(&*remote, &sample, &seen[0], Retention::Newest(50));
        kept.push(sample.description);
    }
    let copies = remote.copies().unwrap();
    assert_eq!(copies.len(), 50);
    assert_eq!(bench.history_files(name).len(), 51, "a file that is no copy stays");
    let target = tempfile::tempdir().unwrap();
    let target = target.path().join("fetched");
    for (copy, description) in copies.iter().zip(kept.iter().rev()) {
        assert_eq!(remote.fetch_copy(&copy.name, &target).unwrap(), *description);
    }
}

fn without_a_number_no_copy_goes(bench: &dyn Bench, name: &str) {
    let (remote, sample) = (ready(bench, name), Sample::v1(1));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    for (index, retention) in [Retention::All, Retention::Newest(0), Retention::Newest(3)].into_iter().enumerate() {
        keep(&*remote, &sample, &version, retention);
        assert_eq!(remote.copies().unwrap().len(), index + 1);
    }
    keep(&*remote, &sample, &version, Retention::Newest(1));
    assert_eq!(remote.copies().unwrap().len(), 1);
}

fn conditions_are_kept(bench: &dyn Bench, name: &str) {
    let remote = ready(bench, name);
    let found = remote.probe().unwrap();
    assert!(matches!(found, Conditions::Kept | Conditions::KeptInOneRequest), "{found:?}");
    assert_eq!(remote.heads().unwrap(), []);
}

fn who_watches_is_told_of_every_byte(bench: &dyn Bench, name: &str) {
    let mut remote = ready(bench, name);
    let (notes, sample) = (Notes::watch(&mut *remote), Sample::of(noise(1, (17 << 20) + 5)));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    let sent = notes.take();
    let all =
        |direction| Note { direction, bytes: sample.description.bytes, reached: sample.description.bytes, ended: true };
    assert!(!sent.is_empty() && sent.iter().all(|note| *note == all(Direction::Out)), "{sent:?}");
    remote.fetch(&version, &sample.path.with_extension("fetched")).unwrap();
    assert_eq!(notes.take(), [all(Direction::In)]);
}

fn what_is_larger_than_its_bound_is_not_fetched(bench: &dyn Bench, name: &str) {
    let mut remote = ready(bench, name);
    let sample = Sample::of(noise(1, 70_000));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    keep(&*remote, &sample, &version, Retention::All);
    let [copy] = remote.copies().unwrap().try_into().unwrap();
    let here = Sample::v1(1);
    remote.set_transfers(Transfers::new(None, 69_999));
    let errors =
        [remote.fetch(&version, &here.path).unwrap_err(), remote.fetch_copy(&copy.name, &here.path).unwrap_err()];
    for error in errors {
        let fits = matches!(error, RemoteError::TooLarge { bytes: 70_000, most: 69_999, .. });
        assert!(fits && error.hint().contains("vault.size"), "{error:?}");
    }
    assert_eq!(
        (std::fs::read(&here.path).unwrap(), names_in(here.path.parent().unwrap())),
        (here.bytes, vec!["archive".into()])
    );
    remote.set_transfers(Transfers::new(None, 70_000));
    assert_eq!(remote.fetch(&version, &here.path).unwrap(), sample.description);
}
