//! The store on a real file system: what is acknowledged lies under the archive's name, whatever happened to the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::format::v2::Source;
use crate::vault::replacement::Replacement;

/// A file store some calls of which can be made to fail.
struct Failing {
    store: FileStore,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    sync: AtomicBool,
    cut: AtomicBool,
    /// Writes fail half way.
    write: AtomicBool,
    aside: AtomicBool,
}

fn fail_if(fault: &AtomicBool) -> io::Result<()> {
    if fault.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
}

impl Source for Failing {
    fn length(&self) -> io::Result<u64> {
        self.store.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.store.read_exact_at(buffer, offset)
    }
}

impl Store for Failing {
    type Draft = Replacement;

    fn path(&self) -> &Path {
        self.store.path()
    }

    fn access(&self) -> Access {
        self.store.access()
    }

    fn reader(&self) -> io::Result<Box<dyn Source + Send>> {
        self.store.reader()
    }

    fn keep_as(&mut self, suffix: &str) -> Result<PathBuf, VaultError> {
        self.store.keep_as(suffix)
    }

    fn presence(&mut self) -> Result<Presence, VaultError> {
        self.store.presence()
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.faults.write.load(Ordering::Relaxed) {
            self.store.write_at(&bytes[..bytes.len() / 2], offset)?;
        }
        fail_if(&self.faults.write)?;
        self.store.write_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        fail_if(&self.faults.sync)?;
        self.store.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        fail_if(&self.faults.cut)?;
        self.store.truncate(length)
    }

    fn settle(&mut self) -> Result<(), VaultError> {
        self.store.settle()
    }

    fn keep_aside(&mut self, offset: u64) -> Result<String, VaultError> {
        fail_if(&self.faults.aside).map_err(VaultError::io("keep", Path::new("x")))?;
        self.store.keep_aside(offset)
    }

    fn room(&self) -> u64 {
        self.store.room()
    }

    fn draft(&mut self) -> Result<Replacement, VaultError> {
        self.store.draft()
    }

    fn replace(&mut self, draft: Replacement) -> Result<(), VaultError> {
        self.store.replace(draft)
    }

    fn read_witness(&self) -> io::Result<Vec<u8>> {
        self.store.read_witness()
    }

    fn write_witness(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.store.write_witness(bytes, offset)
    }

    fn sync_witness(&mut self) -> io::Result<()> {
        self.store.sync_witness()
    }
}

struct Scene {
    folder: tempfile::TempDir,
    faults: Arc<Faults>,
    tree: Tree,
    archive: V2Archive<Failing>,
    report: ReadReport,
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("archive")
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let file = ArchiveFile::reserve(&path(&folder)).unwrap();
    let snapshot = empty_tree().snapshot();
    create(file, &passphrase("p"), Suite::Aes256Gcm, CHEAP, &machine(1), &snapshot).unwrap();
    reopen(folder, Arc::default())
}

fn reopen(folder: tempfile::TempDir, faults: Arc<Faults>) -> Scene {
    let mut file = ArchiveFile::open(&path(&folder)).unwrap();
    let reader = file.open_for_reading().unwrap();
    let store = FileStore::new(file, reader, Some(&folder.path().join("witness"))).unwrap();
    let store = Failing { store, faults: faults.clone() };
    let mut tree = empty_tree();
    let secret = Secret::Passphrase(passphrase("p"));
    let (archive, report) = V2Archive::open(store, secret, machine(1), Acceptance::default(), &mut tree).unwrap();
    Scene { folder, faults, tree, archive, report }
}

impl Scene {
    fn write(&self, name: &str, bytes: &[u8]) {
        let new = NewNode { kind: NewKind::File, mode: 0o600, owner: OWNER };
        let ino = self.tree.make(Ino::ROOT, name.as_bytes(), new).unwrap().ino;
        self.tree.write(ino, 0, bytes, WriteOptions::default()).unwrap();
    }

    fn commit(&mut self) -> Result<(), VaultError> {
        let snapshot = Arc::new(self.tree.snapshot());
        self.archive.commit(&snapshot)
    }

    /// Closes it and checks that the file under the name holds the state.
    fn check_kept(self) -> Scene {
        let Self { folder, faults, tree, archive, .. } = self;
        drop(archive);
        let again = reopen(folder, faults);
        assert_eq!(dump(&again.tree), dump(&tree));
        again
    }

    /// Puts a copy of the archive in its place, as a program does that brings files back.
    fn copy_over(&self) {
        let (archive, copy) = (path(&self.folder), self.folder.path().join("copy"));
        fs::copy(&archive, &copy).unwrap();
        fs::rename(copy, archive).unwrap();
    }
}

#[test]
fn after_a_copy_took_its_place_commits_go_into_the_file_under_the_name() {
    let mut scene = scene();
    scene.write("a", b"1");
    scene.commit().unwrap();
    scene.copy_over();
    scene.write("b", b"2");
    scene.commit().unwrap();
    scene.write("c", b"3");
    scene.commit().unwrap();
    scene.check_kept();
}

#[test]
fn what_was_written_into_a_file_that_was_taken_away_is_not_acknowledged() {
    let mut scene = scene();
    scene.write("a", b"1");
    scene.commit().unwrap();
    // The file goes after the look before the write: that is, before the archive is settled.
    assert_eq!(scene.archive.store.presence().unwrap(), Presence::Ours);
    scene.copy_over();
    assert!(matches!(scene.archive.store.settle(), Err(VaultError::ChangedElsewhere(_))));
    fs::remove_file(path(&scene.folder)).unwrap();
    assert!(matches!(scene.archive.store.settle(), Err(VaultError::ChangedElsewhere(_))));
    scene.write("b", b"2");
    scene.commit().unwrap();
    scene.check_kept();
}

#[test]
fn failed_syncs_cuts_and_writes_do_not_make_the_archive_somebody_elses() {
    type Pick = fn(&Faults) -> [&AtomicBool; 2];
    let picks: [Pick; 4] = [
        |faults| [&faults.sync, &faults.sync],
        |faults| [&faults.write, &faults.write],
        |faults| [&faults.write, &faults.cut],
        |faults| [&faults.write, &faults.sync],
    ];
    for pick in picks {
        let mut scene = scene();
        scene.write("a", &[7; 5000]);
        scene.commit().unwrap();
        scene.write("b", &[8; 5000]);
        pick(&scene.faults).iter().for_each(|fault| fault.store(true, Ordering::Relaxed));
        assert!(matches!(scene.commit(), Err(VaultError::Io { .. })));
        // Written anew it may succeed; what it must not say is that the archive is somebody else's.
        assert!(matches!(scene.commit(), Ok(()) | Err(VaultError::Io { .. })));
        pick(&scene.faults).iter().for_each(|fault| fault.store(false, Ordering::Relaxed));
        scene.commit().unwrap();
        scene.write("c", b"3");
        scene.commit().unwrap();
        scene.check_kept();
    }
}

#[test]
fn a_torn_end_that_cannot_be_kept_aside_keeps_nobody_from_the_vault() {
    let mut scene = scene();
    scene.write("a", b"1");
    scene.commit().unwrap();
    let Scene { folder, faults, tree, archive, .. } = scene;
    drop(archive);
    let whole = fs::read(path(&folder)).unwrap();
    fs::write(path(&folder), [&whole[..], &[9; 3000]].concat()).unwrap();
    faults.aside.store(true, Ordering::Relaxed);
    let mut scene = reopen(folder, faults);
    assert_eq!(dump(&scene.tree), dump(&tree));
    assert!(matches!(scene.report.warnings[..], [crate::format::ReadWarning::TornEnd { bytes: 3000, kept: None }]));
    scene.write("b", b"2");
    assert!(matches!(scene.commit(), Err(VaultError::Io { .. })));
    assert_eq!(fs::metadata(path(&scene.folder)).unwrap().len(), whole.len() as u64 + 3000, "it is still there");
    scene.faults.aside.store(false, Ordering::Relaxed);
    scene.commit().unwrap();
    let scene = scene.check_kept();
    let names = fs::read_dir(scene.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let torn = names.filter(|name| name.to_string_lossy().contains(".torn-")).collect::<Vec<_>>();
    assert_eq!(torn.len(), 1);
    assert_eq!(fs::read(scene.folder.path().join(&torn[0])).unwrap(), [9; 3000]);
}

#[test]
fn an_archive_of_version_1_where_one_of_version_2_was_is_a_rollback() {
    use crate::vault::{NewArchive, Vault};
    let folder = tempfile::tempdir().unwrap();
    let path = path(&folder);
    let acceptance = Acceptance::default();
    let witness = Some(folder.path().join("witness"));
    let options = VaultOptions { witness, acceptance, ..VaultOptions::new(OWNER, 1 << 20, Duration::ZERO) };
    Vault::create(&path, &passphrase("p"), NewArchive::V1, &machine(1)).unwrap();
    let kept = Vault::upgrade(&path, passphrase("p"), Suite::Aes256Gcm, CHEAP, &options).unwrap();
    drop(Vault::open(&path, passphrase("p"), &options).unwrap());
    fs::rename(kept, &path).unwrap();
    let refused = Vault::open(&path, passphrase("p"), &options).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::OtherVault, .. })), "{refused:?}");
    let accepting = VaultOptions { acceptance: Acceptance { rollback: true, new_master: false }, ..options.clone() };
    drop(Vault::open(&path, passphrase("p"), &accepting).unwrap());
    drop(Vault::open(&path, passphrase("p"), &options).unwrap());
}
