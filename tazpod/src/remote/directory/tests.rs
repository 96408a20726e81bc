//! What only a folder has: several heads, files that people see, and media that fail.

use std::os::unix::fs::PermissionsExt;

use crate::remote::tests::{Bench, Sample, done, head, names_in, run};

use super::*;

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ready(&self, name: &str) -> DirectoryRemote {
        let remote = DirectoryRemote::new(&self.path(name));
        remote.make_storage().unwrap();
        remote
    }
}

impl Bench for Folders {
    fn open(&self, name: &str) -> Box<dyn Remote> {
        Box::new(DirectoryRemote::new(&self.path(name)))
    }

    fn damage_head(&self, name: &str) {
        let path = self.path(name).join(&head(&*self.open(name)).version.0);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    fn plant_copy(&self, name: &str, file: &str, bytes: &[u8]) {
        let folder = self.path(name).join("history");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), bytes).unwrap();
    }

    fn history_files(&self, name: &str) -> Vec<String> {
        names_in(&self.path(name).join("history"))
    }
}

fn put(remote: &DirectoryRemote, sample: &Sample, seen: &[Version]) -> Version {
    done(remote.put(&sample.path, &sample.description, seen).unwrap())
}

#[test]
fn a_folder_keeps_the_contract() {
    run(&Folders::new());
}

#[test]
fn two_heads_stay_until_one_that_stands_for_both_is_put() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    let samples: Vec<_> = (1..4).map(Sample::v1).collect();
    let first = put(&remote, &samples[0], &[]);
    // Another machine wrote at the same moment, or its program that synchronises brought it later.
    let second = names::head_file(&samples[1].description.state);
    std::fs::write(folders.path("f").join(&second), &samples[1].bytes).unwrap();
    let heads = remote.heads().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].state < heads[1].state, "the lowest first");
    let both: Vec<_> = heads.into_iter().map(|head| head.version).collect();
    for seen in [&both[..1], &both[1..], std::slice::from_ref(&first)] {
        assert_eq!(remote.put(&samples[2].path, &samples[2].description, seen).unwrap(), Put::Conflict);
    }
    let merged = put(&remote, &samples[2], &both);
    assert_eq!(head(&remote).version, merged);
    assert_eq!(names_in(&folders.path("f")), [merged.0.clone(), "vault.tar.aes".to_owned()]);
    assert_eq!(std::fs::read(folders.path("f").join("vault.tar.aes")).unwrap(), samples[2].bytes);
}

#[test]
fn a_machine_that_died_before_it_cleaned_up_is_followed() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    let states = Sample::v2_states();
    let old = put(&remote, &states[0], &[]);
    // The new head is in place, the copy and the old head are as before.
    std::fs::write(folders.path("f").join(names::head_file(&states[1].description.state)), &states[1].bytes).unwrap();
    std::fs::write(folders.path("f").join(".tazpod-abc.tmp"), b"half").unwrap();
    assert_eq!(remote.heads().unwrap().len(), 2);
    let new = put(&remote, &states[1], &[old]);
    assert_eq!(head(&remote).version, new);
    assert_eq!(std::fs::read(folders.path("f").join("vault.tar.aes")).unwrap(), states[1].bytes);
}

#[test]
fn an_archive_that_was_brought_by_hand_is_a_head_and_is_never_lost() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    let (brought, next, stranger) = (Sample::v1(1), Sample::v1(2), Sample::v1(3));
    let place = folders.path("f").join("vault.tar.aes");
    std::fs::write(&place, &brought.bytes).unwrap();
    let found = head(&remote);
    assert_eq!(found.state, Some(brought.description.state));
    let target = brought.path.with_extension("fetched");
    assert_eq!(remote.fetch(&found.version, &target).unwrap(), brought.description);
    assert_eq!(remote.put(&next.path, &next.description, &[]).unwrap(), Put::Conflict);
    let version = put(&remote, &next, std::slice::from_ref(&found.version));
    assert!(matches!(
        remote.fetch(&found.version, &target),
        Err(RemoteError::Damaged { .. } | RemoteError::Changed(_))
    ));
    // Somebody replaces the copy beside a head: it is not what travels, and is kept.
    std::fs::write(&place, &stranger.bytes).unwrap();
    assert_eq!(head(&remote).version, version);
    let Put::Done(put) = remote.put(&brought.path, &brought.description, &[version]).unwrap() else { panic!() };
    assert!(put.warnings[0].contains("history"), "{:?}", put.warnings);
    let [copy] = remote.copies().unwrap().try_into().unwrap();
    assert_eq!(remote.fetch_copy(&copy.name, &target).unwrap(), stranger.description);
    assert_eq!(std::fs::read(&place).unwrap(), brought.bytes);
}

#[test]
fn files_are_the_users_alone_and_strange_ones_are_left_alone() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    std::fs::write(folders.path("f").join("vault-1-short.tar.aes"), b"?").unwrap();
    std::fs::create_dir(folders.path("f").join("vault-2.tar.aes")).unwrap();
    let sample = Sample::v1(1);
    let version = put(&remote, &sample, &[]);
    remote.put_copy(&sample.path, &sample.description, &version).unwrap();
    let copy = format!("history/{}", names_in(&folders.path("f").join("history"))[0]);
    for name in [version.0.as_str(), "vault.tar.aes", copy.as_str()] {
        let mode = std::fs::metadata(folders.path("f").join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert!(folders.path("f").join("vault-1-short.tar.aes").exists());
    assert!(remote.fetch_copy(&CopyName("../vault.tar.aes".into()), &sample.path).is_err());
    assert!(remote.fetch(&Version("../x".into()), &sample.path).is_err());
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let folders = Folders::new();
    let sample = Sample::v1(1);
    let unwritable = DirectoryRemote::new(Path::new("/proc"));
    assert!(matches!(unwritable.probe(), Err(RemoteError::File { .. })));
    assert!(matches!(unwritable.put(&sample.path, &sample.description, &[]), Err(RemoteError::File { .. })));
    let file = folders.path("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(DirectoryRemote::new(&file).heads(), Err(RemoteError::File { .. })));
}

/// Who can write into the folder must not make this user delete files elsewhere.
#[test]
fn nothing_is_removed_through_a_link_in_place_of_the_history() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    let elsewhere = folders.path("backups");
    std::fs::create_dir(&elsewhere).unwrap();
    let backup = elsewhere.join("vault-20250102-030405.tar.aes");
    std::fs::write(&backup, b"the only one").unwrap();
    std::os::unix::fs::symlink(&elsewhere, folders.path("f").join("history")).unwrap();
    for copy in remote.copies().unwrap() {
        assert!(matches!(remote.remove_copy(&copy.name), Err(RemoteError::File { .. })));
    }
    assert!(backup.exists());
}

/// Opening a FIFO waits for somebody who writes into it, reading a device has no end, and links lead anywhere.
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folders = Folders::new();
    let (remote, sample) = (folders.ready("f"), Sample::v1(1));
    folders.plant_copy("f", "vault-1.tar.aes", &sample.bytes);
    let path = folders.path("f").join("history/vault-2.tar.aes");
    let planted: [&dyn Fn(); 4] = [
        &|| rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
        &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        &|| std::os::unix::fs::symlink("vault-1.tar.aes", &path).unwrap(),
        &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
    ];
    for plant in planted {
        plant();
        let begun = std::time::Instant::now();
        let error = remote.fetch_copy(&CopyName("vault-2.tar.aes".into()), &sample.path).unwrap_err();
        assert!(
            matches!(&error, RemoteError::File { source, .. } if source.kind() == ErrorKind::InvalidData),
            "{error:?}"
        );
        assert!(files::format_of(&path).is_err() && begun.elapsed().as_secs() < 5);
        std::fs::remove_file(&path).unwrap();
    }
    let device = files::open_regular(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(device.kind(), ErrorKind::InvalidData);
    assert_eq!(std::fs::read(&sample.path).unwrap(), sample.bytes);
}

/// A file with holes is of any size at no cost.
#[test]
fn what_is_huge_is_told_before_it_is_read() {
    let folders = Folders::new();
    let mut remote = folders.ready("f");
    let sample = Sample::v1(1);
    let name = format!("vault-9-{}.tar.aes", "0".repeat(64));
    for (name, most) in [("vault.tar.aes", 1 << 30), (name.as_str(), 1 << 30), (name.as_str(), u64::MAX)] {
        let path = folders.path("f").join(name);
        std::fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
        remote.set_transfers(Transfers::new(None, most));
        let begun = std::time::Instant::now();
        let error = match remote.heads() {
            Ok(heads) => remote.fetch(&heads[0].version, &sample.path).unwrap_err(),
            Err(error) => error,
        };
        let fits = match most {
            u64::MAX => matches!(error, RemoteError::NoRoom { .. }),
            _ => matches!(error, RemoteError::TooLarge { .. }),
        };
        assert!(fits && begun.elapsed().as_secs() < 5, "{error:?}");
        std::fs::remove_file(path).unwrap();
    }
}

/// Opening a FIFO waits for somebody who writes into it.
#[test]
fn what_is_no_file_in_place_of_the_copy_is_moved_away_and_not_read() {
    let folders = Folders::new();
    let remote = folders.ready("f");
    let place = folders.path("f").join("vault.tar.aes");
    rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let sample = Sample::v1(1);
    let tried = std::thread::spawn(move || {
        assert_eq!(remote.heads().unwrap(), []);
        let Put::Done(put) = remote.put(&sample.path, &sample.description, &[]).unwrap() else { panic!() };
        assert!(put.warnings[0].contains("history"), "{:?}", put.warnings);
        std::fs::read(&place).unwrap() == sample.bytes
    });
    let begun = std::time::Instant::now();
    while !tried.is_finished() {
        assert!(begun.elapsed().as_secs() < 20, "it waits");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(tried.join().unwrap());
}

#[test]
fn what_killed_machines_left_goes_a_day_later() {
    let (folders, sample) = (Folders::new(), Sample::v1(1));
    let remote = folders.ready("left");
    let place = folders.path("left");
    std::fs::create_dir(place.join("history")).unwrap();
    let hours = |hours: u64| SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
    for folder in [&place, &place.join("history")] {
        for (name, age) in [(".tazpod-old.tmp", 25), (".tazpod-new.tmp", 23), (".tazpod-old.keep", 25), ("old.tmp", 25)]
        {
            let file = std::fs::File::create(folder.join(name)).unwrap();
            file.set_modified(hours(age)).unwrap();
        }
    }
    std::fs::create_dir(place.join(".tazpod-folder.tmp")).unwrap();
    std::os::unix::fs::symlink("/nowhere", place.join(".tazpod-link.tmp")).unwrap();
    put(&remote, &sample, &[]);
    let left = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("vault")).collect::<Vec<_>>();
    assert_eq!(left(names_in(&place.join("history"))), [".tazpod-new.tmp", ".tazpod-old.keep", "old.tmp"]);
    let expected =
        [".tazpod-folder.tmp", ".tazpod-link.tmp", ".tazpod-new.tmp", ".tazpod-old.keep", "history", "old.tmp"];
    assert_eq!(left(names_in(&place)), expected);
}
