//! Recipients: what they open, what stays theirs, and what is refused when they come and go.

use std::path::Path;

use super::*;
use crate::crypto::{AGE_FILE_MAX, CryptoError, Identity, RECIPIENT_MAX, Recipient};
use crate::format::v2::{HEADER_MAX, RECIPIENTS_MAX};
use crate::vault::NewRecipient;

pub(super) fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn old() -> Secret {
    Secret::Passphrase(passphrase("old"))
}

pub(super) fn add(label: &str, identity: &Identity) -> KeyChange {
    let recipient = Recipient::parse(&identity.recipients()[0]).unwrap();
    KeyChange::AddRecipient(NewRecipient::new(label, recipient).unwrap())
}

fn remove(name: &str) -> KeyChange {
    KeyChange::RemoveRecipient(name.to_owned())
}

/// Opens an archive with what somebody has.
fn open_as(files: &Files, secret: &Secret, who: &Machine, acceptance: Acceptance) -> Result<Open, VaultError> {
    let disk = Disk::with(files);
    let store = DiskStore::open(&disk, Access::ReadWrite);
    let mut tree = empty_tree();
    let (archive, _) = V2Archive::open(store, secret.duplicate().unwrap(), who.clone(), acceptance, &mut tree)?;
    Ok(Open { disk, tree, archive })
}

/// The archive without any witness, as a machine has it that never saw it.
fn alone(vault: &Open) -> Files {
    Files::from_iter([(ARCHIVE.to_owned(), vault.disk.files().remove(ARCHIVE).unwrap())])
}

fn opens(files: &Files, identity: &Identity) -> Result<Dump, VaultError> {
    let secret = Secret::Identity(identity.duplicate().unwrap());
    open_as(files, &secret, &machine(9), Acceptance::default()).map(|vault| dump(&vault.tree))
}

fn vault_with(identities: &[(&str, &Identity)]) -> (Open, MasterKey) {
    let (files, master) = new_vault(Suite::ChaCha20Poly1305);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("file", 0, b"content");
    for (label, identity) in identities {
        vault.change_keys(&old(), add(label, identity)).unwrap();
    }
    (vault, master)
}

#[test]
fn recipients_stay_through_changes_of_the_passphrase() {
    let (one, two) = (identity(), identity());
    let (mut vault, master) = vault_with(&[("one", &one), ("two", &two)]);
    assert!(open(&vault.disk.files(), &master, &machine(1)).is_ok(), "adding keeps the master");
    for (from, to, rekey) in [("old", "new", Rekey::NewMaster), ("new", "newer", Rekey::KeepMaster)] {
        let before = vault.archive.master.duplicate().unwrap();
        vault.write("file", 0, to.as_bytes());
        vault.set_passphrase(from, to, rekey);
        assert_eq!(open(&vault.disk.files(), &before, &machine(1)).is_ok(), rekey == Rekey::KeepMaster);
        for identity in [&one, &two] {
            assert_eq!(opens(&alone(&vault), identity).unwrap(), dump(&vault.tree));
        }
    }
    // Who lost the passphrase sets another one.
    let change = KeyChange::Passphrase { new: passphrase("found"), rekey: Rekey::NewMaster };
    vault.change_keys(&Secret::Identity(two.duplicate().unwrap()), change).unwrap();
    let found = Secret::Passphrase(passphrase("found"));
    assert!(open_as(&alone(&vault), &found, &machine(1), Acceptance::default()).is_ok());
    assert!(opens(&alone(&vault), &one).is_ok());
}

#[test]
fn who_was_removed_opens_nothing_made_afterwards() {
    let (stays, goes) = (identity(), identity());
    let (mut vault, master) = vault_with(&[("stays", &stays), ("goes", &goes)]);
    let before = alone(&vault);
    vault.change_keys(&old(), remove("goes")).unwrap();
    vault.write("file", 0, b"made afterwards");
    vault.commit().unwrap();
    let after = alone(&vault);
    assert!(matches!(opens(&after, &goes), Err(VaultError::WrongIdentity(left)) if left[0].starts_with("stays (age1")));
    assert!(open(&after, &master, &machine(9)).is_err(), "the master that they know");
    assert_eq!(opens(&after, &stays).unwrap(), dump(&vault.tree));
    assert!(opens(&before, &goes).is_ok(), "a copy from before stays theirs");
    // The header from before, in front of what was made afterwards.
    let length = |files: &Files| Header::parse(&files[ARCHIVE]).unwrap().bytes().len();
    let spliced = [&before[ARCHIVE][..length(&before)], &after[ARCHIVE][length(&after)..]].concat();
    let spliced = Files::from_iter([(ARCHIVE.to_owned(), spliced)]);
    for identity in [&goes, &stays] {
        assert!(matches!(opens(&spliced, identity), Err(VaultError::Format { .. })));
    }
}

/// Under the same master, only the record of the header in the last commit tells.
#[test]
fn a_header_put_back_alone_is_refused() {
    let (one, two) = (identity(), identity());
    let (mut vault, master) = vault_with(&[("one", &one)]);
    let before = alone(&vault);
    vault.change_keys(&old(), add("two", &two)).unwrap();
    let after = alone(&vault);
    let header = |files: &Files| Header::parse(&files[ARCHIVE]).unwrap().bytes().to_vec();
    let spliced = [&header(&before)[..], &after[ARCHIVE][header(&after).len()..]].concat();
    let refused = open(&Files::from_iter([(ARCHIVE.to_owned(), spliced)]), &master, &machine(1)).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::Header(_), .. })), "{refused:?}");
}

#[test]
fn a_rekey_elsewhere_is_asked_about_and_never_hides_commits_made_here() {
    let identity = identity();
    let (mut here, _) = vault_with(&[("one", &identity)]);
    let copy = alone(&here);
    let shared = here.disk.files();
    let secret = Secret::Identity(identity.duplicate().unwrap());
    let mut there = open_as(&copy, &secret, &machine(2), Acceptance::default()).unwrap();
    there.change_keys(&old(), KeyChange::Passphrase { new: passphrase("new"), rekey: Rekey::NewMaster }).unwrap();
    let rekeyed = there.disk.files().remove(ARCHIVE).unwrap();
    let arrives = |here: &Files| {
        let mut files = here.clone();
        files.insert(ARCHIVE.to_owned(), rekeyed.clone());
        files
    };
    let accepting = Acceptance { rollback: false, new_master: true };
    let try_open = |files: &Files, acceptance| open_as(files, &secret, &machine(1), acceptance);
    // Nothing was committed here since: it is asked about, then it follows.
    let refused = try_open(&arrives(&shared), Acceptance::default()).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::UnknownMaster, .. })), "{refused:?}");
    try_open(&arrives(&shared), accepting).unwrap();
    // What was committed here is not in it: that it may be lost is another question.
    here.write("local", 0, b"only here");
    here.commit().unwrap();
    let kept = dump(&here.tree);
    let refused = try_open(&arrives(&here.disk.files()), accepting).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::RolledBack { .. }, .. })), "{refused:?}");
    assert_eq!(dump(&try_open(&here.disk.files(), Acceptance::default()).unwrap().tree), kept);
    // While it is open here, theirs is left as it is, and ours stays in memory.
    here.disk.put(ARCHIVE, &rekeyed);
    here.write("more", 0, b"more");
    assert!(matches!(here.commit(), Err(VaultError::ChangedElsewhere(_))));
    let refused = here.change_keys(&old(), remove("one"));
    assert!(matches!(refused, Err(VaultError::ChangedElsewhere(_))), "{refused:?}");
    assert_eq!(here.disk.files()[ARCHIVE], rekeyed);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (one, other) = (identity(), identity());
    let (mut vault, _) = vault_with(&[("one", &one)]);
    let before = vault.disk.files();
    let own = || Secret::Identity(one.duplicate().unwrap());
    let mut refused = |proof: &Secret, change: KeyChange| vault.change_keys(proof, change).unwrap_err();
    assert!(matches!(refused(&own(), remove("one")), VaultError::PassphraseNeeded));
    assert!(matches!(refused(&old(), remove("nobody")), VaultError::NoRecipient(_)));
    assert!(matches!(refused(&old(), add("another label", &one)), VaultError::RecipientExists(_)));
    assert!(matches!(refused(&old(), add("one", &other)), VaultError::RecipientExists(_)));
    assert!(matches!(refused(&Secret::Passphrase(passphrase("x")), remove("one")), VaultError::WrongPassphrase));
    let wrong = Secret::Identity(other.duplicate().unwrap());
    assert!(matches!(refused(&wrong, add("other", &other)), VaultError::WrongIdentity(_)));
    assert_eq!(vault.disk.files(), before);
    let label = |label: &str| NewRecipient::new(label, Recipient::parse(&other.recipients()[0]).unwrap()).map(drop);
    for wrong in ["", "a\nb", &"x".repeat(256)] {
        assert!(matches!(label(wrong), Err(CryptoError::Recipient(_))), "{wrong:?}");
    }
    label(&"x".repeat(255)).unwrap();
}

#[test]
fn there_are_32_recipients_at_most() {
    let (mut vault, _) = vault_with(&[]);
    let identities: Vec<_> = (0..=RECIPIENTS_MAX).map(|_| identity()).collect();
    for (number, identity) in identities[..RECIPIENTS_MAX].iter().enumerate() {
        vault.change_keys(&old(), add(&number.to_string(), identity)).unwrap();
    }
    let refused = vault.change_keys(&old(), add("too many", &identities[RECIPIENTS_MAX])).unwrap_err();
    assert!(matches!(refused, VaultError::TooManyRecipients));
    for identity in &identities[..RECIPIENTS_MAX] {
        opens(&alone(&vault), identity).unwrap();
    }
}

/// Nobody but holders of the master can make such a vault; the format allows it.
#[test]
fn a_vault_without_a_passphrase_is_opened_and_changed_by_identities() {
    let (one, two) = (identity(), identity());
    let (mut vault, _) = vault_with(&[("one", &one), ("two", &two)]);
    let slots = vault.archive.header.recipients().to_vec();
    let master = vault.archive.master.duplicate().unwrap();
    let header = vault.archive.header.without_passphrase(slots, &master).unwrap();
    let snapshot = Arc::new(vault.tree.snapshot());
    vault.archive.rewrite(&snapshot, News::Header, Some((header, master))).unwrap();
    let without = open_as(&alone(&vault), &old(), &machine(1), Acceptance::default()).map(drop);
    assert!(matches!(without, Err(VaultError::Format { source: FormatError::NoSlot("passphrase"), .. })));
    let own = Secret::Identity(one.duplicate().unwrap());
    vault.change_keys(&own, remove("two")).unwrap();
    assert!(matches!(opens(&alone(&vault), &two), Err(VaultError::WrongIdentity(_))));
    assert!(matches!(vault.change_keys(&own, remove("one")), Err(VaultError::LastWay(_))));
    vault.change_keys(&own, KeyChange::Passphrase { new: passphrase("p"), rekey: Rekey::NewMaster }).unwrap();
    let opened = open_as(&alone(&vault), &Secret::Passphrase(passphrase("p")), &machine(9), Acceptance::default());
    assert!(opened.is_ok() && opens(&alone(&vault), &one).is_ok());
}

/// No command makes such a header, but another program may.
#[test]
fn who_has_two_slots_loses_both() {
    let (twice, stays) = (identity(), identity());
    let (mut vault, _) = vault_with(&[("first", &twice), ("stays", &stays)]);
    let mut slots = vault.archive.header.recipients().to_vec();
    slots.push(RecipientSlot { label: "second".to_owned(), ..slots[0].clone() });
    let master = vault.archive.master.duplicate().unwrap();
    let header = vault.archive.header.with_recipients(slots, &master).unwrap();
    let snapshot = Arc::new(vault.tree.snapshot());
    vault.archive.rewrite(&snapshot, News::Header, Some((header, master))).unwrap();
    opens(&alone(&vault), &twice).unwrap();
    vault.change_keys(&old(), remove("second")).unwrap();
    assert!(matches!(opens(&alone(&vault), &twice), Err(VaultError::WrongIdentity(_))));
    opens(&alone(&vault), &stays).unwrap();
}

/// A header whose recipient slot has some body; its MAC is of no use, since the slots are read before it.
fn with_slot(archive: &[u8], body: &[u8], declared: u16) -> Files {
    let header = Header::parse(archive).unwrap();
    let rest = &archive[header.bytes().len()..];
    let mut bytes = archive[..32].to_vec();
    bytes.extend_from_slice(&[1, 2]);
    bytes.extend_from_slice(&declared.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&[0; 32]);
    let length = (bytes.len() as u32).to_le_bytes();
    bytes[12..16].copy_from_slice(&length);
    Files::from_iter([(ARCHIVE.to_owned(), [&bytes, rest].concat())])
}

fn slot_body(label: &[u8], recipient: &[u8], wrapped: &[u8]) -> Vec<u8> {
    let length = |field: &[u8]| (field.len() as u16).to_le_bytes();
    [&[label.len() as u8], label, &length(recipient), recipient, &length(wrapped), wrapped].concat()
}

#[test]
fn hostile_slots_are_refused_before_anything_is_spent() {
    let one = identity();
    let (vault, _) = vault_with(&[("one", &one)]);
    let archive = alone(&vault).remove(ARCHIVE).unwrap();
    let (own, wrapped) = (one.recipients()[0].as_bytes(), &vault.archive.header.recipients()[0].wrapped);
    let begun = Instant::now();
    let damaged = |body: &[u8], declared: u16| {
        let opened = opens(&with_slot(&archive, body, declared), &one).map(drop);
        assert!(matches!(opened, Err(VaultError::Format { source: FormatError::Header(_), .. })), "{opened:?}");
    };
    let whole = slot_body(b"one", own, wrapped);
    let length = whole.len() as u16;
    // Sound but for the MAC.
    damaged(&whole, length);
    (0..whole.len()).for_each(|cut| damaged(&whole[..cut], cut as u16));
    for declared in [0, 1, length - 1, length + 1, u16::MAX] {
        damaged(&whole, declared);
    }
    damaged(&slot_body(b"one", &vec![b'a'; RECIPIENT_MAX + 1], wrapped), (RECIPIENT_MAX + wrapped.len()) as u16 + 9);
    let long = slot_body(b"one", own, &vec![b'a'; AGE_FILE_MAX + 1]);
    damaged(&long, long.len() as u16);
    damaged(&[&whole[..], &[0]].concat(), length + 1);
    let scrypt = b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\nAAAA\n--- AAAA\n";
    let bomb = slot_body(b"one", own, scrypt);
    damaged(&bomb, bomb.len() as u16);
    damaged(&vec![0xff; HEADER_MAX - 100], (HEADER_MAX - 100) as u16);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_wrong_passphrase_and_a_changed_header_are_told_apart() {
    let (mut vault, _) = vault_with(&[]);
    let known = vault.disk.files();
    let wrong = |files: &Files| {
        let secret = Secret::Passphrase(passphrase("wrong"));
        open_as(files, &secret, &machine(1), Acceptance::default()).map(drop).unwrap_err()
    };
    assert!(matches!(wrong(&known), VaultError::WrongPassphrase));
    let mut flipped = known.clone();
    flipped.get_mut(ARCHIVE).unwrap()[100] ^= 1;
    assert!(matches!(wrong(&flipped), VaultError::WrongPassphraseOrHeader));
    vault.set_passphrase("old", "new", Rekey::KeepMaster);
    let mut changed_elsewhere = known.clone();
    changed_elsewhere.insert(ARCHIVE.to_owned(), vault.disk.files().remove(ARCHIVE).unwrap());
    assert!(matches!(wrong(&changed_elsewhere), VaultError::WrongPassphraseOrHeader));
    // Of an archive that this machine never saw nothing is known.
    let unknown = Files::from_iter([(ARCHIVE.to_owned(), flipped.remove(ARCHIVE).unwrap())]);
    assert!(matches!(wrong(&unknown), VaultError::WrongPassphrase));
}

#[test]
fn looking_at_an_archive_changes_nothing_and_proves_an_identity() {
    use crate::vault::{prove_identity, read_recipients};
    let (one, other) = (identity(), identity());
    let (vault, _) = vault_with(&[("one", &one)]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let bytes = vault.disk.files().remove(ARCHIVE).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read_recipients(&path).unwrap(), vault.archive.header.recipients());
    assert_eq!(prove_identity(&path, &one).unwrap().label, "one");
    assert!(matches!(prove_identity(&path, &other), Err(VaultError::WrongIdentity(_))));
    // The header alone does not prove it.
    let mut flipped = bytes.clone();
    flipped[vault.archive.header.bytes().len() + 100] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let refused = prove_identity(&path, &one).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::Damaged { .. }, .. })), "{refused:?}");
    std::fs::write(&path, [7; 100]).unwrap();
    assert!(matches!(read_recipients(&path), Err(VaultError::Version1(_))));
    assert!(matches!(read_recipients(Path::new("/nowhere")), Err(VaultError::NoArchive(_))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
