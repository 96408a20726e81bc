//! The power goes at every step of commits, compactions and changes of passphrase: what is found then is a state that was
//! there, and none older than the last that was acknowledged. Calls of the system fail: nothing is lost then either.

use super::disk::Failure;
use super::*;
use crate::crypto::{Identity, Recipient};
use crate::vault::NewRecipient;
use crate::vault::copy::ArchiveCopy;

/// Every state of a vault in turn, with the masters that its archive was under.
struct History {
    states: Vec<Dump>,
    masters: Vec<MasterKey>,
}

/// Opens what a crash left, and returns which state it is.
fn state_found(files: &Files, history: &History) -> usize {
    let opened = history.masters.iter().find_map(|master| {
        let header = Header::parse(&files[ARCHIVE]).expect("the header is whole");
        header.verify(master).is_ok().then(|| open(files, master, &machine(1)))
    });
    let (vault, _) = opened.expect("one of the masters fits").unwrap_or_else(|error| panic!("refused: {error:?}"));
    let found = dump(&vault.tree);
    history.states.iter().rposition(|state| *state == found).expect("a state that was there")
}

/// Does something to a vault, cuts the power at every moment of it, and checks what is left.
fn check_every_crash(act: impl FnOnce(&mut Open, &mut History)) -> usize {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("before", 0, b"before");
    vault.commit().unwrap();
    let start = vault.disk.files();
    drop(vault);
    let (mut vault, _) = open(&start, &master, &machine(1)).unwrap();
    let mut history = History { states: vec![dump(&vault.tree)], masters: vec![master] };
    act(&mut vault, &mut history);
    let mut crashes = 0;
    vault.disk.each_crash(&start, &mut |files, acknowledged| {
        crashes += 1;
        let found = state_found(files, &history);
        assert!(found >= acknowledged.unwrap_or(0), "state {found} after {acknowledged:?} was acknowledged");
    });
    crashes
}

impl History {
    fn commit(&mut self, vault: &mut Open, number: usize) {
        let _ = vault.change(number);
        self.states.push(dump(&vault.tree));
        vault.commit().unwrap();
        vault.disk.acknowledge(self.states.len() - 1);
    }
}

#[test]
fn commits() {
    let crashes = check_every_crash(|vault, history| (0..12).for_each(|number| history.commit(vault, number)));
    assert!(crashes > 300, "{crashes}");
}

#[test]
fn commits_larger_than_a_write() {
    check_every_crash(|vault, history| {
        let noise: Vec<u8> = (0..40).flat_map(|_| random::<65_536>().unwrap()).collect();
        vault.write("noise", 0, &noise);
        history.commit(vault, 0);
        history.commit(vault, 1);
    });
}

#[test]
fn compactions() {
    let crashes = check_every_crash(|vault, history| {
        (0..4).for_each(|number| history.commit(vault, number));
        vault.compact_beside(|vault| (4..7).for_each(|number| history.commit(vault, number)));
        (7..9).for_each(|number| history.commit(vault, number));
        vault.archive.compact(&Arc::new(vault.tree.snapshot())).unwrap();
        history.commit(vault, 9);
    });
    assert!(crashes > 300, "{crashes}");
}

#[test]
fn changes_of_the_passphrase() {
    for rekey in [Rekey::NewMaster, Rekey::KeepMaster] {
        check_every_crash(|vault, history| {
            history.commit(vault, 0);
            let _ = vault.change(1);
            history.states.push(dump(&vault.tree));
            vault.set_passphrase("old", "new", rekey);
            vault.disk.acknowledge(history.states.len() - 1);
            history.masters.push(vault.archive.master.duplicate().unwrap());
            (2..5).for_each(|number| history.commit(vault, number));
        });
    }
}

#[test]
fn changes_of_the_recipients() {
    let recipient = |label: &str| {
        let identity = Identity::generate().unwrap();
        NewRecipient::new(label, Recipient::parse(&identity.recipients()[0]).unwrap()).unwrap()
    };
    check_every_crash(|vault, history| {
        history.commit(vault, 0);
        let changes = [
            KeyChange::AddRecipient(recipient("one")),
            KeyChange::AddRecipient(recipient("two")),
            KeyChange::RemoveRecipient("one".to_owned()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let _ = vault.change(number + 1);
            history.states.push(dump(&vault.tree));
            vault.change_keys(&Secret::Passphrase(passphrase("old")), change).unwrap();
            vault.disk.acknowledge(history.states.len() - 1);
            history.masters.push(vault.archive.master.duplicate().unwrap());
        }
        history.commit(vault, 5);
    });
}

#[test]
fn failing_calls_are_errors_until_they_work_again() {
    for failure in [Failure::Writes, Failure::WritesAndCuts, Failure::Syncs] {
        let crashes = check_every_crash(|vault, history| {
            history.commit(vault, 0);
            for number in 1..4 {
                vault.disk.fail(Some(failure));
                let _ = vault.change(number);
                history.states.push(dump(&vault.tree));
                for _ in 0..2 {
                    assert!(matches!(vault.commit(), Err(VaultError::Io { .. })), "{failure:?}");
                }
                vault.disk.fail(None);
                vault.commit().unwrap();
                vault.disk.acknowledge(history.states.len() - 1);
                history.commit(vault, number + 3);
            }
        });
        assert!(crashes > 100, "{crashes}");
    }
}

/// What another machine has, which went on from some files.
struct Elsewhere {
    folder: tempfile::TempDir,
    vault: Open,
}

impl Elsewhere {
    fn begin(files: &Files, master: &MasterKey) -> Self {
        let files = Files::from_iter([(ARCHIVE.to_owned(), files[ARCHIVE].clone())]);
        let (vault, _) = open(&files, master, &machine(2)).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), vault }
    }

    fn edit(&mut self, name: &str) {
        self.vault.write(name, 0, format!("edited elsewhere: {name}").as_bytes());
        self.vault.commit().unwrap();
    }

    /// A copy of its archive as it is now.
    fn copy(&self) -> ArchiveCopy {
        let path = self.folder.path().join("copy");
        std::fs::write(&path, &self.vault.disk.files()[ARCHIVE]).unwrap();
        let secret = Secret::Master(self.vault.archive.master.duplicate().unwrap());
        ArchiveCopy::open(&path, secret, None, &VaultOptions::new(OWNER, 64 << 20, Duration::ZERO)).unwrap()
    }
}

impl History {
    fn join(&mut self, vault: &mut Open, theirs: &ArchiveCopy, base: Option<&ArchiveCopy>) {
        vault.archive.join(&vault.tree, theirs, base).unwrap();
        self.states.push(dump(&vault.tree));
        vault.disk.acknowledge(self.states.len() - 1);
    }
}

#[test]
fn joins() {
    let crashes = check_every_crash(|vault, history| {
        let mut elsewhere = Elsewhere::begin(&vault.disk.files(), &history.masters[0]);
        elsewhere.edit("theirs");
        history.join(vault, &elsewhere.copy(), None);
        let base = elsewhere.copy();
        elsewhere.edit("file0");
        (0..3).for_each(|number| history.commit(vault, number));
        history.join(vault, &elsewhere.copy(), Some(&base));
        (3..5).for_each(|number| history.commit(vault, number));
    });
    assert!(crashes > 150, "{crashes}");
}

#[test]
fn joins_with_an_archive_that_got_another_master() {
    check_every_crash(|vault, history| {
        let mut elsewhere = Elsewhere::begin(&vault.disk.files(), &history.masters[0]);
        let base = elsewhere.copy();
        elsewhere.edit("file0");
        let change = KeyChange::Passphrase { new: passphrase("new"), rekey: Rekey::NewMaster };
        elsewhere.vault.change_keys(&Secret::Passphrase(passphrase("old")), change).unwrap();
        history.masters.push(elsewhere.vault.archive.master.duplicate().unwrap());
        (0..2).for_each(|number| history.commit(vault, number));
        history.join(vault, &elsewhere.copy(), Some(&base));
        (2..4).for_each(|number| history.commit(vault, number));
    });
}

#[test]
fn a_join_that_fails_leaves_the_archive_and_the_next_commit_writes_what_was_merged() {
    for failure in [Failure::Writes, Failure::Syncs] {
        let (files, master) = new_vault(Suite::Aes256Gcm);
        let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
        vault.write("ours", 0, b"before");
        vault.commit().unwrap();
        let mut elsewhere = Elsewhere::begin(&vault.disk.files(), &master);
        let base = elsewhere.copy();
        elsewhere.edit("theirs");
        vault.write("ours", 0, b"edited here");
        vault.commit().unwrap();
        let before = vault.disk.files()[ARCHIVE].clone();
        vault.disk.fail(Some(failure));
        assert!(vault.archive.join(&vault.tree, &elsewhere.copy(), Some(&base)).is_err(), "{failure:?}");
        assert!(vault.disk.files()[ARCHIVE].starts_with(&before), "{failure:?}");
        vault.disk.fail(None);
        vault.commit().unwrap();
        let (again, _) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
        assert_eq!(dump(&again.tree), dump(&vault.tree));
        assert!(again.ino("theirs").is_some() && again.ino("ours").is_some());
        // Once more, and it is joined.
        vault.archive.join(&vault.tree, &elsewhere.copy(), Some(&base)).unwrap();
        let (joined, _) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
        assert_eq!(dump(&joined.tree), dump(&again.tree));
        assert!(joined.archive.history.holds(&elsewhere.vault.archive.head));
    }
}
