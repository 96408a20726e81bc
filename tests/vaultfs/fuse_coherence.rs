//! Several mounts of one vault see one state; borders hold; a lock takes everything back. Needs root and /dev/fuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mapping;
#[path = "mount_support.rs"]
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mapping::{Mapping, PAGE};
use support::*;
use vaultfs::entry::EntryPath;
use vaultfs::fuse::{Access, View};
use vaultfs::tree::Ino;

/// A small generator, so that a failure can be repeated (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn errno(outcome: std::io::Result<()>) -> Option<i32> {
    outcome.expect_err("this must fail").raw_os_error()
}

/// A vault with a folder `sub`, mounted whole and `sub` once more.
fn two_mounts() -> (Fixture, PathBuf, PathBuf) {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::create_dir(whole.join("sub")).unwrap();
    let inner = fixture.mount_subtree("inner", "sub", Access::ReadWrite);
    (fixture, whole, inner)
}

#[test]
fn shared_mappings_are_written_and_seen() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("mapped");
    fs::write(&path, vec![b'a'; 2 * PAGE]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut mapping = Mapping::new(&path);
    mapping.write(100, b"through the mapping");
    let mut read = [0; 19];
    file.read_exact_at(&mut read, 100).unwrap();
    assert_eq!(&read, b"through the mapping", "a read sees the mapping at once");
    mapping.sync();
    assert_eq!(&fixture.content("mapped")[100..119], b"through the mapping");
    file.write_all_at(b"by write", 0).unwrap();
    assert_eq!(mapping.read(8).unwrap(), b"by write", "the mapping sees a write at once");
    mapping.write(0, b"dirty");
    drop((mapping, file));
    eventually("dirty pages come home on close", || fixture.content("mapped").starts_with(b"dirty"));
}

#[test]
fn dirty_mapped_pages_come_home_by_invalidation() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("mapped");
    fs::write(&path, vec![b'a'; PAGE]).unwrap();
    let mut mapping = Mapping::new(&path);
    mapping.write(0, b"not yet synced");
    fixture.mounts.invalidate_all();
    assert!(fixture.content("mapped").starts_with(b"not yet synced"));
}

/// What lies in a folder according to a model, and the operations on it through one of its mounts.
struct Model {
    contents: Vec<Option<Vec<u8>>>,
}

impl Model {
    fn step(&mut self, random: &mut Random, folder: &Path) -> String {
        let index = random.below(self.contents.len());
        let path = folder.join(format!("file{index}"));
        let fill = random.below(255) as u8 + 1;
        match (random.below(7), &mut self.contents[index]) {
            (_, None) => {
                fs::write(&path, vec![fill; 10]).unwrap();
                self.contents[index] = Some(vec![fill; 10]);
                format!("make {index}")
            }
            (0, Some(_)) => {
                fs::remove_file(&path).unwrap();
                self.contents[index] = None;
                format!("remove {index}")
            }
            (1, Some(content)) => {
                let size = random.below(20_000);
                OpenOptions::new().write(true).open(&path).unwrap().set_len(size as u64).unwrap();
                content.resize(size, 0);
                format!("truncate {index} to {size}")
            }
            (2, Some(content)) => {
                let data = vec![fill; random.below(3000)];
                OpenOptions::new().append(true).open(&path).unwrap().write_all(&data).unwrap();
                content.extend_from_slice(&data);
                format!("append {} to {index}", data.len())
            }
            (3, Some(_)) => {
                let target = random.below(self.contents.len());
                fs::rename(&path, folder.join(format!("file{target}"))).unwrap();
                if target != index {
                    self.contents[target] = self.contents[index].take();
                }
                format!("rename {index} to {target}")
            }
            (_, Some(content)) => {
                let (offset, data) = (random.below(20_000), vec![fill; random.below(5000)]);
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&data, offset as u64).unwrap();
                if !data.is_empty() {
                    content.resize(content.len().max(offset + data.len()), 0);
                    content[offset..offset + data.len()].copy_from_slice(&data);
                }
                format!("write {} at {offset} to {index}", data.len())
            }
        }
    }

    fn check(&self, folder: &Path, history: &[String]) {
        let tail = || history[history.len().saturating_sub(8)..].join(", ");
        for (index, expected) in self.contents.iter().enumerate() {
            let path = folder.join(format!("file{index}"));
            match expected {
                None => assert!(!path.exists(), "{} is there after {}", path.display(), tail()),
                Some(expected) => {
                    let size = fs::metadata(&path).unwrap_or_else(|error| panic!("{error} after {}", tail())).len();
                    assert_eq!(size, expected.len() as u64, "size of {} after {}", path.display(), tail());
                    let found = fs::read(&path).unwrap();
                    assert!(found == *expected, "content of {} after {}", path.display(), tail());
                }
            }
        }
        let listed = fs::read_dir(folder).unwrap().count();
        assert_eq!(listed, self.contents.iter().flatten().count(), "listing after {}", tail());
    }

    /// Syncs one file or the folder and looks at what the archive on the disk holds of all.
    fn check_synced(&self, fixture: &Fixture, random: &mut Random, folder: &Path, history: &[String]) {
        let file = folder.join(format!("file{}", random.below(self.contents.len())));
        File::open(&file).unwrap_or_else(|_| File::open(folder).unwrap()).sync_all().unwrap();
        let archived = fixture.archived();
        for (index, expected) in self.contents.iter().enumerate() {
            let found = content(archived.tree(), &format!("sub/file{index}"));
            assert!(found == *expected, "archived content of file{index} after {}", history.last().unwrap());
        }
        archived.discard();
    }
}

#[test]
fn every_read_through_either_of_two_mounts_sees_the_newest() {
    let (fixture, whole, inner) = two_mounts();
    let folders = [whole.join("sub"), inner];
    let mut model = Model { contents: vec![None; 4] };
    for seed in 1..=3 {
        let mut random = Random(seed);
        model.contents.fill(None);
        folders[0].read_dir().unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        let mut history = vec![format!("seed {seed}")];
        for _ in 0..250 {
            let writer = random.below(2);
            let done = model.step(&mut random, &folders[writer]);
            history.push(format!("{done} through {writer}"));
            model.check(&folders[random.below(2)], &history);
            if random.below(50) == 0 {
                model.check_synced(&fixture, &mut random, &folders[writer], &history);
            }
        }
        folders.iter().for_each(|folder| model.check(folder, &history));
        model.check_synced(&fixture, &mut random, &folders[0], &history);
    }
    let (vault, _folder) = fixture.reopened();
    for (index, expected) in model.contents.iter().enumerate() {
        assert!(content(vault.tree(), &format!("sub/file{index}")) == *expected, "file{index} after reopening");
    }
}

#[test]
fn held_descriptors_of_two_mounts_see_each_other() {
    let (_fixture, whole, inner) = two_mounts();
    fs::write(inner.join("file"), vec![0; 10_000]).unwrap();
    let open = |path: PathBuf| OpenOptions::new().read(true).write(true).open(path).unwrap();
    let files = [open(whole.join("sub/file")), open(inner.join("file"))];
    let append = |path: PathBuf| OpenOptions::new().append(true).open(path).unwrap();
    let mut appenders = [append(whole.join("sub/file")), append(inner.join("file"))];
    let mut expected = vec![0; 10_000];
    let mut random = Random(99);
    let mut check = |files: &[File; 2], appenders: &mut [File; 2], rounds: usize| {
        for round in 0..rounds {
            let (offset, data) = (random.below(12_000), vec![round as u8; random.below(4000) + 1]);
            let writer = random.below(2);
            if random.below(3) == 0 {
                appenders[writer].write_all(&data).unwrap();
                expected.extend_from_slice(&data);
            } else {
                files[writer].write_all_at(&data, offset as u64).unwrap();
                expected.resize(expected.len().max(offset + data.len()), 0);
                expected[offset..offset + data.len()].copy_from_slice(&data);
            }
            let reader = &files[random.below(2)];
            // Not each time: asking makes the kernel look, which a read has to do by itself.
            if random.below(3) == 0 {
                assert_eq!(reader.metadata().unwrap().len(), expected.len() as u64, "round {round}");
            }
            let mut found = vec![1; expected.len()];
            reader.read_exact_at(&mut found, 0).unwrap();
            assert!(found == expected, "round {round}");
        }
    };
    check(&files, &mut appenders, 200);
    // The same without a name: neither mount can find it any more, both have it open.
    fs::remove_file(inner.join("file")).unwrap();
    assert_eq!(files[0].metadata().unwrap().nlink(), 0);
    check(&files, &mut appenders, 200);
}

#[test]
fn a_mount_that_comes_later_is_seen_by_one_that_had_cached_all() {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::create_dir(whole.join("sub")).unwrap();
    for index in 0..300 {
        fs::write(whole.join(format!("sub/{index}")), b"old").unwrap();
    }
    let held = File::open(whole.join("sub/0")).unwrap();
    let list = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!((list(&whole.join("sub")), list(&whole.join("sub"))), (300, 300));
    fs::read(whole.join("sub/1")).unwrap();

    let inner = fixture.mount_subtree("inner", "sub", Access::ReadWrite);
    for index in 0..3 {
        fs::write(inner.join(index.to_string()), b"newer").unwrap();
    }
    fs::write(inner.join("more"), b"").unwrap();
    fs::remove_file(inner.join("299")).unwrap();
    fs::rename(inner.join("298"), inner.join("297")).unwrap();
    let mut content = [0; 5];
    assert_eq!(held.read_at(&mut content, 0).unwrap(), 5);
    assert_eq!(&content, b"newer");
    assert_eq!(fs::metadata(whole.join("sub/1")).unwrap().len(), 5);
    assert_eq!(fs::read(whole.join("sub/1")).unwrap(), b"newer");
    assert_eq!(list(&whole.join("sub")), 299);
    assert!(!whole.join("sub/299").exists() && !whole.join("sub/298").exists());

    // And back: alone again, what the other left is seen, and caching starts anew.
    fixture.points.pop();
    eventually("the mount is gone", || fixture.mounts.served().len() == 1);
    assert_eq!(fs::read(whole.join("sub/2")).unwrap(), b"newer");
    fs::write(whole.join("sub/2"), b"newest").unwrap();
    assert_eq!(fs::read(whole.join("sub/2")).unwrap(), b"newest");
}

#[test]
fn working_folders_keep_their_path_when_a_mount_comes() {
    let mut fixture = Fixture::mounted();
    let folder = fixture.whole().join("sub/deeper");
    fs::create_dir_all(&folder).unwrap();
    // As the kernel has it: a folder whose entry was dropped shows as deleted.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "read line; exec readlink /proc/self/cwd"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    fixture.mount_subtree("inner", "sub", Access::ReadWrite);
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), folder.to_str().unwrap());
}

#[test]
fn nothing_crosses_the_border_of_a_mounted_subtree() {
    let (fixture, whole, inner) = two_mounts();
    fs::create_dir(whole.join("sub/inside")).unwrap();
    for name in ["outside", "sub/file", "sub/inside/file"] {
        fs::write(whole.join(name), b"x").unwrap();
    }
    let rename = |from: &str, to: &str| fs::rename(whole.join(from), whole.join(to));
    assert_eq!(errno(rename("outside", "sub/outside")), Some(libc::EXDEV));
    assert_eq!(errno(rename("sub/file", "file")), Some(libc::EXDEV));
    assert_eq!(errno(rename("sub/inside", "inside")), Some(libc::EXDEV));
    assert_eq!(errno(fs::hard_link(whole.join("outside"), whole.join("sub/link"))), Some(libc::EXDEV));
    assert_eq!(errno(fs::hard_link(whole.join("sub/file"), whole.join("link"))), Some(libc::EXDEV));
    assert_eq!(errno(rename("sub", "other")), Some(libc::EBUSY));
    fs::remove_dir_all(inner.join("inside")).unwrap();
    fs::remove_file(inner.join("file")).unwrap();
    assert_eq!(errno(fs::remove_dir(whole.join("sub"))), Some(libc::EBUSY));
    // On one side everything goes, and a program that moves copies instead.
    rename("outside", "moved").unwrap();
    fs::hard_link(whole.join("moved"), whole.join("linked")).unwrap();
    let (from, to) = (whole.join("moved"), whole.join("sub/moved"));
    assert!(Command::new("mv").args([from, to]).status().unwrap().success());
    fs::rename(inner.join("moved"), inner.join("moved again")).unwrap();
    assert_eq!(fixture.content("sub/moved again"), b"x");
}

#[test]
fn borders_go_with_their_mount() {
    let (mut fixture, whole, _) = two_mounts();
    fs::write(whole.join("file"), b"x").unwrap();
    fixture.points.pop();
    eventually("the mount is gone", || fixture.mounts.served().len() == 1);
    fs::rename(whole.join("file"), whole.join("sub/file")).unwrap();
    fs::rename(whole.join("sub"), whole.join("other")).unwrap();
    assert_eq!(fixture.content("other/file"), b"x");
}

#[test]
fn a_hard_link_that_spans_two_mounts_stays_coherent() {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::create_dir(whole.join("one")).unwrap();
    fs::create_dir(whole.join("two")).unwrap();
    fs::write(whole.join("one/file"), b"old").unwrap();
    fs::hard_link(whole.join("one/file"), whole.join("two/file")).unwrap();
    let one = fixture.mount_subtree("one-mount", "one", Access::ReadWrite);
    let two = fixture.mount_subtree("two-mount", "two", Access::ReadWrite);
    fixture.points.remove(0);
    eventually("only the two are left", || fixture.mounts.served().len() == 2);
    assert_eq!(fs::read(one.join("file")).unwrap(), b"old");
    assert_eq!(fs::read(two.join("file")).unwrap(), b"old");
    let held = File::options().write(true).open(two.join("file")).unwrap();
    held.write_all_at(b"newer", 0).unwrap();
    assert_eq!(fs::read(one.join("file")).unwrap(), b"newer");
    // One name left, which lies in one mount; the other still has it open.
    fs::remove_file(two.join("file")).unwrap();
    assert_eq!(fs::metadata(one.join("file")).unwrap().nlink(), 1);
    fs::read(one.join("file")).unwrap();
    held.write_all_at(b"newest", 0).unwrap();
    assert_eq!(fs::read(one.join("file")).unwrap(), b"newest");
}

#[test]
fn hidden_entries_cannot_be_seen_or_uncovered() {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::create_dir_all(whole.join(".ssh/deep")).unwrap();
    for name in [".ssh/id", ".ssh/config", ".ssh/deep/id", "other"] {
        fs::write(whole.join(name), b"secret").unwrap();
    }
    let hidden = [".ssh/id", ".ssh/deep", ".aws"].map(|path| EntryPath::parse(path.as_bytes()).unwrap());
    let view = View { root: Ino::ROOT, access: Access::ReadWrite, hidden: hidden.to_vec() };
    let filtered = fixture.mount("filtered", view);
    let missing = |name: &str| {
        assert_eq!(fs::metadata(filtered.join(name)).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    };
    let listed = |folder: &str| {
        let mut names: Vec<_> =
            fs::read_dir(filtered.join(folder)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    missing(".ssh/id");
    missing(".ssh/deep");
    missing(".ssh/deep/id");
    assert_eq!(listed(".ssh"), ["config"]);
    assert_eq!(listed("."), [".ssh", "other"]);
    let denied = |outcome: std::io::Result<()>| assert_eq!(errno(outcome), Some(libc::EACCES));
    denied(fs::write(filtered.join(".ssh/id"), b"mine"));
    denied(fs::create_dir(filtered.join(".aws")));
    denied(fs::rename(filtered.join("other"), filtered.join(".ssh/id")));
    denied(fs::hard_link(filtered.join("other"), filtered.join(".ssh/id")));
    denied(fs::rename(filtered.join(".ssh"), filtered.join("shown")));
    assert!(fs::remove_file(filtered.join(".ssh/id")).is_err());
    assert!(fs::remove_dir(filtered.join(".ssh")).is_err());
    // A new file in its place, then the whole folder moved by who may: neither uncovers it.
    fs::write(whole.join(".ssh/new"), b"new secret").unwrap();
    fs::rename(whole.join(".ssh/new"), whole.join(".ssh/id")).unwrap();
    missing(".ssh/id");
    fs::rename(whole.join(".ssh"), whole.join("moved")).unwrap();
    assert_eq!(listed("moved"), ["config"]);
    missing("moved/id");
    missing("moved/deep");
    denied(fs::rename(filtered.join("moved/config"), filtered.join("moved/id")));
    assert_eq!(fs::read(whole.join("moved/id")).unwrap(), b"new secret");
}

#[test]
fn a_read_only_view_changes_nothing() {
    let (mut fixture, whole, _) = two_mounts();
    fs::write(whole.join("sub/file"), b"x").unwrap();
    let view = fixture.mount_subtree("read-only", "sub", Access::ReadOnly);
    let refused = |outcome: std::io::Result<()>| assert_eq!(errno(outcome), Some(libc::EROFS));
    assert_eq!(fs::read(view.join("file")).unwrap(), b"x");
    refused(fs::write(view.join("file"), b"y"));
    refused(fs::write(view.join("new"), b"y"));
    refused(OpenOptions::new().append(true).open(view.join("file")).map(drop));
    refused(fs::create_dir(view.join("folder")));
    refused(fs::remove_file(view.join("file")));
    refused(fs::rename(view.join("file"), view.join("other")));
    refused(fs::hard_link(view.join("file"), view.join("other")));
    refused(std::os::unix::fs::symlink("x", view.join("other")));
    refused(fs::set_permissions(view.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o777)));
    assert_eq!(
        rustix::fs::setxattr(view.join("file"), "user.x", b"", rustix::fs::XattrFlags::empty()),
        Err(rustix::io::Errno::ROFS)
    );
    fs::write(whole.join("sub/file"), b"changed").unwrap();
    assert_eq!(fs::read(view.join("file")).unwrap(), b"changed");
}

#[test]
fn after_a_lock_nothing_held_reads_any_more() {
    let (mut fixture, whole, inner) = two_mounts();
    fs::write(whole.join("sub/secret"), vec![b's'; PAGE]).unwrap();
    let open = |path: PathBuf| OpenOptions::new().read(true).write(true).open(path).unwrap();
    let files = [open(whole.join("sub/secret")), open(inner.join("secret"))];
    let mut mappings = [Mapping::new(&whole.join("sub/secret")), Mapping::new(&inner.join("secret"))];
    let folder = File::open(whole.join("sub")).unwrap();
    for (file, mapping) in files.iter().zip(&mut mappings) {
        assert_eq!(file.read_at(&mut [0; PAGE], 0).unwrap(), PAGE);
        assert_eq!(mapping.read(6).unwrap(), b"ssssss");
    }
    mappings[0].write(0, b"last words");

    fixture.mounts.invalidate_all();
    assert!(fixture.content("sub/secret").starts_with(b"last words"));
    assert!(fixture.mounts.stop_answering(Duration::from_secs(5)));
    fixture.mounts.invalidate_all();
    fixture.points.clear();

    for (file, mapping) in files.iter().zip(&mut mappings) {
        assert!(file.read_at(&mut [0; 1], 0).is_err(), "a held descriptor fails");
        assert_eq!(mapping.read(6), Err(Some(libc::SIGBUS)), "a held mapping fails");
        assert!(file.metadata().is_err());
    }
    let opened = rustix::fs::openat(&folder, "secret", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    assert!(opened.is_err(), "a held folder opens nothing");
    assert!(!whole.join("sub").exists() && fs::read_dir(&whole).unwrap().next().is_none());
}

#[test]
fn writers_in_many_threads_do_not_wait_for_a_mount_that_comes() {
    let mut fixture = Fixture::mounted();
    let whole = fixture.whole().to_owned();
    fs::create_dir(whole.join("sub")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (stop, whole) = (&stop, &whole);
            scope.spawn(move || {
                let mut round = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let path = whole.join(format!("sub/{thread}-{}", round % 5));
                    let content = round.to_string().repeat(500);
                    fs::write(&path, &content).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), content);
                    fs::rename(&path, whole.join(format!("sub/{thread}-moved"))).unwrap();
                    round += 1;
                }
                assert!(round > 0);
            });
        }
        for _ in 0..10 {
            fixture.mount_subtree("inner", "sub", Access::ReadWrite);
            std::thread::sleep(Duration::from_millis(20));
            fixture.mounts.invalidate_all();
            fixture.points.pop();
            eventually("the mount is gone", || fixture.mounts.served().len() == 1);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn what_is_removed_through_one_mount_leaves_the_vault_though_the_other_knew_it() {
    let (fixture, whole, inner) = two_mounts();
    let outer = whole.join("sub");
    let usage = || (fixture.tree().usage().used, fixture.tree().usage().entries);
    let free = || rustix::fs::statfs(&whole).unwrap().f_bfree;
    // Listed, so that the kernels know all there is at the beginning.
    for folder in [&outer, &inner] {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }
    let (empty, all_free) = (usage(), free());
    let content = vec![b'x'; 8 << 20];
    let removals: [&dyn Fn(&Path); 2] = [&|path| fs::remove_file(path).unwrap(), &|path| {
        fs::write(path.with_extension("new"), b"").unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"");
        fs::remove_file(path).unwrap();
    }];
    for (remove, other) in [(&outer, &inner), (&inner, &outer)] {
        for removal in &removals {
            fs::create_dir(remove.join("folder")).unwrap();
            fs::write(remove.join("folder/file"), &content).unwrap();
            assert!(fs::read(other.join("folder/file")).unwrap() == content);
            let held = File::open(other.join("folder/file")).unwrap();
            removal(&remove.join("folder/file"));
            fs::remove_dir(remove.join("folder")).unwrap();
            assert!(!other.join("folder").exists());
            std::thread::sleep(Duration::from_secs(1));
            assert!(usage().0 > content.len() as u64, "what is open stays");
            for at in [0, content.len() as u64 - 1] {
                let mut read = [0];
                held.read_exact_at(&mut read, at).unwrap();
                assert_eq!(&read, b"x");
            }
            drop(held);
            eventually("there is as much room as before", || (usage(), free()) == (empty, all_free));
        }
    }
}

#[test]
fn a_flood_of_removals_through_one_mount_is_forgotten_by_the_other() {
    let (fixture, whole, inner) = two_mounts();
    let outer = whole.join("sub");
    let used = || fixture.tree().usage().used;
    let before = used();
    for round in 0..3_u8 {
        for number in 0..700 {
            fs::write(outer.join(format!("file{number}")), [round; 4096]).unwrap();
        }
        fs::hard_link(outer.join("file0"), outer.join("further")).unwrap();
        fs::rename(outer.join("file1"), outer.join("moved")).unwrap();
        let known =
            fs::read_dir(&inner).unwrap().filter(|entry| fs::read(entry.as_ref().unwrap().path()).is_ok()).count();
        assert_eq!(known, 701);
        for entry in fs::read_dir(&outer).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
    }
    eventually("nothing is left of them", || used() == before);
}
