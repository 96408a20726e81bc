//! What a damaged archive still gives: never a byte that was in no committed state of its file, never a panic, and all that
//! the damage did not reach.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::crypto::random;
use crate::entry::EntryKind;
use crate::format::v2::{Archive as Segments, Segment, Source};
use crate::vault::recover_file;
use crate::vault::v2::recover::Recovered;

/// An archive in a folder of its own, and every content that each file ever had.
pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub bytes: Vec<u8>,
    pub segments: Vec<Segment>,
    contents: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

/// Content that says whose it is in every page.
fn content(name: &str, version: u32, len: usize) -> Vec<u8> {
    let line = format!("{name}:{version};");
    line.bytes().cycle().take(len).zip(noise(len)).map(|(byte, noise)| if noise < 128 { byte } else { noise }).collect()
}

fn noise(len: usize) -> impl Iterator<Item = u8> {
    let mut seed = u64::from_le_bytes(random().unwrap());
    (0..len).map(move |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    })
}

/// A checkpoint of 12 files in folders, then commits that rewrite, touch, make, move and delete.
fn scene() -> Scene {
    scene_with(&|_| {})
}

/// The same of a vault to which something was done before.
pub(super) fn scene_with(prepare: &dyn Fn(&mut Open)) -> Scene {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    prepare(&mut vault);
    let mut contents: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let put =
        |contents: &mut BTreeMap<String, BTreeSet<Vec<u8>>>, vault: &Open, path: &str, name: &str, bytes: Vec<u8>| {
            let ino = vault.ino(path).unwrap_or_else(|| vault.make(path, NewKind::File));
            let set = crate::tree::SetAttributes { size: Some(bytes.len() as u64), ..Default::default() };
            vault.tree.set_attributes(ino, &set).unwrap();
            vault.tree.write(ino, 0, &bytes, WriteOptions::default()).unwrap();
            contents.entry(name.to_owned()).or_default().insert(bytes);
        };
    for folder in 0..3 {
        vault.make(&format!("folder{folder}"), NewKind::Folder);
        for file in 0..4 {
            let (name, len) = (format!("f{folder}-{file}"), 40_000 + 30_000 * file);
            put(&mut contents, &vault, &format!("folder{folder}/{name}"), &name, content(&name, 0, len));
        }
    }
    vault.commit().unwrap();
    let snapshot = Arc::new(vault.tree.snapshot());
    vault.archive.compact(&snapshot).unwrap();
    for version in 1..8_u32 {
        put(&mut contents, &vault, "folder0/f0-0", "f0-0", content("f0-0", version, 50_000));
        put(&mut contents, &vault, &format!("new{version}"), &format!("new{version}"), content("new", version, 9_000));
        if version == 4 {
            let (from, to) = (vault.ino("folder1").unwrap(), vault.ino("folder2").unwrap());
            vault.tree.rename(from, b"f1-1", to, b"moved", RenameMode::Replace).unwrap();
            vault.tree.unlink(from, b"f1-2").unwrap();
            let old = contents.get("f1-1").cloned().unwrap();
            contents.insert("moved".to_owned(), old);
        }
        vault.commit().unwrap();
    }
    let bytes = vault.disk.files()[ARCHIVE].clone();
    let segments = segments(&bytes, &master);
    assert!(segments.len() == 8, "{}", segments.len());
    Scene { folder: tempfile::tempdir().unwrap(), bytes, segments, contents }
}

struct Bytes(Vec<u8>);

impl Source for Bytes {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.as_slice().read_exact_at(buffer, offset)
    }
}

fn segments(bytes: &[u8], master: &MasterKey) -> Vec<Segment> {
    let header = Header::parse(bytes).unwrap();
    let source = Bytes(bytes.to_vec());
    let archive = Segments::new(&source, header.suite(), master, header.vault_id()).unwrap();
    let (mut all, mut at, mut head) = (Vec::new(), header.bytes().len() as u64, None);
    while at < bytes.len() as u64 {
        let segment = archive.check(at, head).unwrap().unwrap();
        (at, head) = (segment.end, Some(segment.head));
        all.push(segment);
    }
    all
}

impl Scene {
    pub fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    pub fn recover(&self, bytes: &[u8]) -> Result<(Recovered, Dump), VaultError> {
        self.recover_as(bytes, &Secret::Passphrase(passphrase("old")))
    }

    /// Also opens what was recovered, with the same secret.
    pub fn recover_as(&self, bytes: &[u8], secret: &Secret) -> Result<(Recovered, Dump), VaultError> {
        let (damaged, out) = (self.folder.path().join("damaged"), self.out());
        let _ = std::fs::remove_file(&out);
        std::fs::write(&damaged, bytes).unwrap();
        let options = VaultOptions { machine: machine(1), ..VaultOptions::new(OWNER, 64 << 20, Duration::ZERO) };
        let recovered = recover_file(&damaged, secret, &out, &options, &Arc::default())?;
        assert_eq!(std::fs::read(&damaged).unwrap(), bytes, "the damaged archive was changed");
        let (vault, _) = crate::vault::Vault::open_with(&out, secret.duplicate().unwrap(), &options).unwrap();
        let dump = dump(vault.tree());
        vault.discard();
        Ok((recovered, dump))
    }

    pub fn flip(&self, at: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at as usize] ^= 0x10;
        bytes
    }

    /// Every file holds what a file of its name once held, whole.
    pub fn assert_true(&self, recovered: &Recovered, dump: &Dump, what: &str) {
        let all: BTreeSet<&Vec<u8>> = self.contents.values().flatten().collect();
        for (entry, content) in dump.iter().filter(|(entry, _)| matches!(entry.kind, EntryKind::File { .. })) {
            let path = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
            let name = path.rsplit('/').next().unwrap_or_default().split('~').next().unwrap_or_default().to_owned();
            let known = self.contents.get(&name).is_some_and(|contents| contents.contains(content));
            assert!(known || (path.contains("without-name") && all.contains(content)), "{what}: {path}: {recovered:?}");
        }
    }
}

fn names(dump: &Dump) -> Vec<String> {
    dump.iter().map(|(entry, _)| String::from_utf8_lossy(entry.path.as_bytes()).into_owned()).collect()
}

fn content_of<'a>(dump: &'a Dump, path: &str) -> Option<&'a [u8]> {
    dump.iter().find(|(entry, _)| entry.path.as_bytes() == path.as_bytes()).map(|(_, content)| content.as_slice())
}

#[test]
fn a_sound_archive_is_taken_over_whole_under_another_id() {
    let scene = scene();
    let (recovered, dump) = scene.recover(&scene.bytes).unwrap();
    assert!(recovered.damage.is_empty() && recovered.folder.is_none() && recovered.lost.is_empty(), "{recovered:?}");
    assert_eq!(recovered.commit, recovered.newest);
    scene.assert_true(&recovered, &dump, "sound");
    assert!(names(&dump).contains(&"folder2/moved".to_owned()), "{:?}", names(&dump));
    let out = std::fs::read(scene.folder.path().join("out")).unwrap();
    assert_ne!(out[16..32], scene.bytes[16..32], "the vault id");
}

#[test]
fn damage_in_the_last_segment_costs_that_commit_only() {
    let scene = scene();
    let last = scene.segments.last().unwrap();
    let (recovered, dump) = scene.recover(&scene.flip(last.end - 30)).unwrap();
    assert_eq!(recovered.commit, Some(last.head.sequence.0 - 1));
    assert_eq!(recovered.damage.len(), 1, "{recovered:?}");
    assert_eq!(recovered.damage[0].0, last.offset);
    assert!(names(&dump).contains(&"new6".to_owned()) && !names(&dump).contains(&"new7".to_owned()));
    scene.assert_true(&recovered, &dump, "last");
}

#[test]
fn what_comes_after_a_damaged_commit_is_salvaged_where_it_is_whole() {
    let scene = scene();
    let middle = &scene.segments[3];
    for at in [middle.offset + 3, middle.offset + 60, middle.end - 30] {
        let (recovered, dump) = scene.recover(&scene.flip(at)).unwrap();
        assert_eq!(recovered.commit, Some(middle.head.sequence.0 - 1), "{recovered:?}");
        let found = names(&dump);
        // The newest whole version of what later commits wrote whole, and all that they made.
        for name in
            [".tazpod-recovered/folder0/f0-0", ".tazpod-recovered/new7", ".tazpod-recovered/new4", "folder1/f1-1"]
        {
            assert!(found.contains(&name.to_owned()), "{name}: {found:?} {recovered:?}");
        }
        assert!(!found.iter().any(|name| name.ends_with("new3")), "{found:?}");
        assert!(content_of(&dump, ".tazpod-recovered/folder0/f0-0") != content_of(&dump, "folder0/f0-0"));
        scene.assert_true(&recovered, &dump, "middle");
    }
}

#[test]
fn a_damaged_checkpoint_gives_its_files_with_what_was_committed_later() {
    let scene = scene();
    let first = &scene.segments[0];
    let chunk = 65_536 + 16;
    let (mut least, mut most) = (usize::MAX, 0);
    for number in 0..(first.end - first.offset) / chunk {
        let (recovered, dump) = scene.recover(&scene.flip(first.offset + 88 + number * chunk + 1000)).unwrap();
        assert_eq!(recovered.commit, None);
        scene.assert_true(&recovered, &dump, &format!("chunk {number}"));
        let found = names(&dump);
        assert!(found.contains(&".tazpod-recovered/new7".to_owned()), "chunk {number}: {found:?}");
        least = least.min(recovered.salvaged.len());
        most = most.max(recovered.salvaged.len());
    }
    // 11 files of the checkpoint are left, of which one chunk holds pieces of few.
    assert!(least >= 14 && most <= 19, "{least} {most}");
    let (recovered, dump) = scene.recover(&scene.flip(first.offset + 20)).unwrap();
    assert!(recovered.commit.is_none() && !recovered.salvaged.is_empty(), "{recovered:?}");
    scene.assert_true(&recovered, &dump, "the checkpoint's header");
}

#[test]
fn a_damaged_header_costs_nothing_while_the_slot_is_whole() {
    let scene = scene();
    let sound = scene.recover(&scene.bytes).unwrap().1;
    for at in [0, 9, 10, 12, 13, 32, 33, 34, 155, 183] {
        let (recovered, dump) = scene.recover(&scene.flip(at)).unwrap();
        assert!(recovered.is_header_damaged && recovered.commit == recovered.newest, "{at}: {recovered:?}");
        assert!(dump == sound, "byte {at}: {recovered:?}");
    }
    for at in [20, 60, 90, 110, 140] {
        assert!(matches!(scene.recover(&scene.flip(at)), Err(VaultError::WrongPassphrase)), "byte {at} of the slot");
        assert!(!scene.folder.path().join("out").exists());
    }
}

#[test]
fn a_length_that_leads_nowhere_is_found_out() {
    let scene = scene();
    for (index, segment) in scene.segments.iter().enumerate() {
        for at in [80, 82, 87] {
            let (recovered, dump) = scene.recover(&scene.flip(segment.offset + at)).unwrap();
            assert!(!recovered.damage.is_empty(), "segment {index}");
            scene.assert_true(&recovered, &dump, &format!("segment {index}, byte {at}"));
            let found = names(&dump);
            assert!(found.iter().any(|name| name.ends_with("new7")), "segment {index}: {found:?} {recovered:?}");
        }
    }
}

/// Random flips, cuts and swaps. `TAZPOD_RECOVERIES` says how many.
#[test]
fn no_damage_makes_a_byte_that_was_not_there() {
    let scene = scene();
    let count = std::env::var("TAZPOD_RECOVERIES").map_or(25, |count| count.parse().unwrap());
    let mut kept = 0;
    for round in 0..count {
        let pick = |below: usize| (u64::from_le_bytes(random().unwrap()) % below as u64) as usize;
        let mut bytes = scene.bytes.clone();
        for _ in 0..1 + pick(4) {
            let len = bytes.len();
            match pick(8) {
                0 => bytes.truncate(len - pick(len / 2)),
                1 => {
                    let (from, cut) = (pick(len), pick(3000));
                    bytes.drain(from..(from + cut).min(len));
                }
                2 => {
                    let segment = &scene.segments[pick(scene.segments.len())];
                    let copy = scene.bytes[segment.offset as usize..segment.end as usize].to_vec();
                    bytes.splice(len..len, copy);
                }
                3 => {
                    let from = pick(len);
                    let end = (from + pick(100_000)).min(len);
                    bytes[from..end].fill(0);
                }
                _ => bytes[pick(len)] ^= 1 << pick(8),
            }
        }
        match scene.recover(&bytes) {
            Ok((recovered, dump)) => {
                kept += 1;
                scene.assert_true(&recovered, &dump, &format!("round {round}"));
            }
            Err(VaultError::WrongPassphrase | VaultError::Format { .. }) => {}
            Err(error) => panic!("round {round}: {error:?}"),
        }
    }
    assert!(kept * 2 > count, "{kept} of {count}");
}
