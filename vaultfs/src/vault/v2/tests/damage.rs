//! Every cut and every flip: an archive opens at a state that it had and that is not older than the witness, or it is refused
//! and nothing on the disk changes.

use super::disk::WITNESS;
use super::*;

/// An archive of some commits, compacted once: what is kept is counted from there.
struct Specimen {
    master: MasterKey,
    states: Vec<Dump>,
    /// Length of the archive after each commit.
    lengths: Vec<usize>,
    /// The witness after each commit.
    witnesses: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

fn specimen(before: usize, commits: usize) -> Specimen {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    let mut specimen =
        Specimen { master, states: Vec::new(), lengths: Vec::new(), witnesses: Vec::new(), bytes: Vec::new() };
    for number in 1..=before + commits {
        // Some change each time, whatever the numbered one does.
        vault.write("count", 0, number.to_string().as_bytes());
        let _ = vault.change(number);
        vault.commit().unwrap();
        if number == before {
            vault.archive.compact(&Arc::new(vault.tree.snapshot())).unwrap();
        }
        if number >= before {
            let files = vault.disk.files();
            specimen.states.push(dump(&vault.tree));
            specimen.lengths.push(files[ARCHIVE].len());
            specimen.witnesses.push(files[WITNESS].clone());
            specimen.bytes = files[ARCHIVE].clone();
        }
    }
    specimen
}

/// How an archive opened.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// At the state after this commit; so many bytes were torn.
    At(usize, usize),
    Damaged,
    RolledBack,
    OtherwiseRefused,
}

impl Specimen {
    /// Opens some bytes with the witness after a commit, or none. Checks that a refusal changes nothing on the disk.
    fn open(&self, bytes: &[u8], witness: Option<usize>, machine: &Machine) -> Outcome {
        let mut files = Files::from_iter([(ARCHIVE.to_owned(), bytes.to_vec()), (WITNESS.to_owned(), Vec::new())]);
        if let Some(number) = witness {
            files.insert(WITNESS.to_owned(), self.witnesses[number].clone());
        }
        let disk = Disk::with(&files);
        match open_on(&disk, &self.master, machine, Acceptance::default()) {
            Ok((vault, report)) => {
                let state = dump(&vault.tree);
                let at = self.states.iter().position(|known| *known == state).expect("a state that was there");
                let torn = report.warnings.iter().map(|warning| match warning {
                    crate::format::ReadWarning::TornEnd { bytes, kept } => {
                        assert!(kept.is_some() && disk.files().contains_key("archive.torn"));
                        *bytes as usize
                    }
                    other => panic!("{other:?}"),
                });
                Outcome::At(at, torn.sum())
            }
            Err(error) => {
                assert_eq!(disk.files(), files, "a refusal changed something");
                match error {
                    VaultError::Format { source: FormatError::Damaged { .. }, .. } => Outcome::Damaged,
                    VaultError::Format { source: FormatError::RolledBack { .. }, .. } => Outcome::RolledBack,
                    VaultError::Format { .. } => Outcome::OtherwiseRefused,
                    error => panic!("{error:?}"),
                }
            }
        }
    }

    fn last(&self) -> usize {
        self.states.len() - 1
    }

    /// The commit that ends at a length, if one does.
    fn commit_ending_at(&self, length: usize) -> Option<usize> {
        self.lengths.iter().position(|&end| end == length)
    }
}

#[test]
fn cuts() {
    let specimen = specimen(22, 8);
    let last = specimen.last();
    let tail = specimen.lengths[last - 2]..specimen.lengths[last];
    for length in specimen.lengths.iter().copied().chain(tail) {
        let (cut, whole) = (&specimen.bytes[..length], specimen.commit_ending_at(length));
        // Nobody knows better: a whole commit at the end is believed, and nothing else.
        let expected = whole.map_or(Outcome::Damaged, |commit| Outcome::At(commit, 0));
        assert_eq!(specimen.open(cut, None, &machine(1)), expected, "cut at {length}, no witness");
        // This machine knows of the last commit.
        let expected = match whole {
            Some(commit) if commit == last => Outcome::At(commit, 0),
            Some(_) => Outcome::RolledBack,
            None => Outcome::Damaged,
        };
        assert_eq!(specimen.open(cut, Some(last), &machine(1)), expected, "cut at {length}");
        // It knows of the last but two: what comes behind may be torn.
        if length >= specimen.lengths[last - 2] {
            let sound = specimen.lengths.iter().rposition(|&end| end <= length).unwrap();
            let expected = Outcome::At(sound, length - specimen.lengths[sound]);
            assert_eq!(specimen.open(cut, Some(last - 2), &machine(1)), expected, "cut at {length}, old witness");
            // Unless somebody else committed it.
            let expected = match whole {
                Some(commit) => Outcome::At(commit, 0),
                None if sound == last - 2 => Outcome::At(sound, length - specimen.lengths[sound]),
                None => Outcome::Damaged,
            };
            assert_eq!(specimen.open(cut, Some(last - 2), &machine(2)), expected, "cut at {length}, another machine");
        }
    }
}

#[test]
fn flips_of_headers() {
    let specimen = specimen(4, 8);
    let header = Header::parse(&specimen.bytes).unwrap().bytes().len();
    let starts = std::iter::once(header).chain(specimen.lengths[..specimen.last()].iter().copied());
    let places = (0..header).chain(starts.flat_map(|start| start..start + 88));
    for (count, at) in places.enumerate() {
        let mut bytes = specimen.bytes.clone();
        bytes[at] ^= 1 << (count % 8);
        for witness in [None, Some(specimen.last())] {
            let outcome = specimen.open(&bytes, witness, &machine(1));
            let expected = matches!(outcome, Outcome::Damaged | Outcome::OtherwiseRefused);
            assert!(expected, "byte {at} flipped, witness {witness:?}: {outcome:?}");
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

#[test]
fn flips_anywhere_are_refused() {
    let specimen = specimen(3, 8);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..12_000 {
        let at = dice.below(specimen.bytes.len());
        let mut bytes = specimen.bytes.clone();
        bytes[at] ^= 1 << dice.below(8);
        let witness = [None, Some(specimen.last())][round % 2];
        let outcome = specimen.open(&bytes, witness, &machine(1));
        assert!(matches!(outcome, Outcome::Damaged | Outcome::OtherwiseRefused), "byte {at}, {witness:?}: {outcome:?}");
    }
}

#[test]
fn a_flip_behind_an_old_witness_is_torn_only_at_the_end() {
    let specimen = specimen(3, 8);
    let last = specimen.last();
    for at in (specimen.lengths[last - 2]..specimen.lengths[last]).step_by(7) {
        let mut bytes = specimen.bytes.clone();
        bytes[at] ^= 0x20;
        let expected = if at >= specimen.lengths[last - 1] {
            Outcome::At(last - 1, specimen.bytes.len() - specimen.lengths[last - 1])
        } else {
            // A sound commit follows, so this was no cut-off write.
            Outcome::Damaged
        };
        assert_eq!(specimen.open(&bytes, Some(last - 2), &machine(1)), expected, "byte {at}");
    }
}

#[test]
fn splices() {
    let (ours, theirs) = (specimen(3, 8), specimen(3, 8));
    let last = ours.last();
    // An older copy of the same vault that went another way.
    let fork = {
        let files = Files::from_iter([(ARCHIVE.to_owned(), ours.bytes[..ours.lengths[4]].to_vec())]);
        let (mut vault, _) = open(&files, &ours.master, &machine(1)).unwrap();
        for number in 20..24 {
            let _ = vault.change(number);
            vault.write("fork", 0, number.to_string().as_bytes());
            vault.commit().unwrap();
        }
        vault.disk.files()[ARCHIVE].clone()
    };
    let piece = |specimen: &Specimen, commit: usize| {
        let start = if commit == 0 { 0 } else { specimen.lengths[commit - 1] };
        specimen.bytes[start..specimen.lengths[commit]].to_vec()
    };
    let mut dice = Dice(77);
    for round in 0..8_000 {
        let mut pieces: Vec<Vec<u8>> = (0..=last).map(|commit| piece(&ours, commit)).collect();
        let (one, other) = (1 + dice.below(last), 1 + dice.below(last));
        match round % 6 {
            0 => pieces.swap(one, other),
            1 => pieces.insert(one, pieces[other].clone()),
            2 => drop(pieces.remove(one)),
            3 => pieces[one] = piece(&theirs, one),
            4 => pieces.push(fork[ours.lengths[4]..].to_vec()),
            _ => pieces[one].truncate(dice.below(200)),
        }
        let bytes = pieces.concat();
        let witness = [None, Some(last), Some(4)][dice.below(3)];
        match ours.open(&bytes, witness, &machine(1)) {
            Outcome::At(at, torn) => {
                assert!(at >= witness.unwrap_or(0), "older than the witness");
                let is_whole = bytes == ours.bytes || ours.commit_ending_at(bytes.len()) == Some(at) && torn == 0;
                let is_torn = witness.is_some_and(|witness| at >= witness) && bytes.len() == ours.lengths[at] + torn;
                assert!(is_whole || is_torn, "round {round}: {at} with {torn} torn");
                assert!(bytes.starts_with(&ours.bytes[..ours.lengths[at]]), "not what was written");
            }
            outcome => assert_ne!(bytes, ours.bytes, "{outcome:?}"),
        }
    }
    // The fork is sound, but this machine has seen another history.
    assert_eq!(ours.open(&fork, Some(last), &machine(1)), Outcome::RolledBack);
}

#[test]
fn a_tail_full_of_headers_is_damage_and_soon_known_as_such() {
    let specimen = specimen(3, 3);
    // A header every 24 bytes, each with a length that fits.
    let piece = [&b"TSEG\x02\0\0\0"[..], &(4 * 65_552_u64).to_le_bytes(), &[0; 8]].concat();
    let bytes = [&specimen.bytes[..], b"x", &piece.repeat(60_000)].concat();
    let begun = std::time::Instant::now();
    assert_eq!(specimen.open(&bytes, Some(specimen.last()), &machine(1)), Outcome::Damaged);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn what_is_accepted_goes_on_and_is_told() {
    let specimen = specimen(3, 8);
    let files = Files::from_iter([
        (ARCHIVE.to_owned(), specimen.bytes[..specimen.lengths[5]].to_vec()),
        (WITNESS.to_owned(), specimen.witnesses[8].clone()),
    ]);
    let disk = Disk::with(&files);
    let acceptance = Acceptance { rollback: true, new_master: false };
    let (mut vault, report) = open_on(&disk, &specimen.master, &machine(1), acceptance).unwrap();
    assert_eq!(report.warnings, [crate::format::ReadWarning::RollbackAccepted]);
    let head = vault.archive.head;
    vault.commit().unwrap();
    assert_ne!(vault.archive.head, head, "the acceptance is a commit");
    let (again, report) = open(&disk.files(), &specimen.master, &machine(1)).unwrap();
    assert_eq!(dump(&again.tree), specimen.states[5]);
    assert!(report.warnings.is_empty());
}

#[test]
fn another_master_is_asked_about() {
    let specimen = specimen(3, 3);
    let (files, other) = new_vault(Suite::Aes256Gcm);
    // The same vault id under another master: what somebody who changed the passphrase elsewhere sends.
    let disk = Disk::with(&Files::from_iter([
        (ARCHIVE.to_owned(), specimen.bytes.clone()),
        (WITNESS.to_owned(), specimen.witnesses[3].clone()),
    ]));
    let (mut vault, _) = open_on(&disk, &specimen.master, &machine(1), Acceptance::default()).unwrap();
    vault.set_passphrase("old", "new", Rekey::NewMaster);
    let changed = vault.disk.files().remove(ARCHIVE).unwrap();
    let master = vault.archive.master.duplicate().unwrap();
    let here = Files::from_iter([(ARCHIVE.to_owned(), changed), (WITNESS.to_owned(), specimen.witnesses[3].clone())]);
    let refused = open_on(&Disk::with(&here), &master, &machine(2), Acceptance::default()).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::UnknownMaster, .. })), "{refused:?}");
    let accepted = Acceptance { rollback: false, new_master: true };
    let disk = Disk::with(&here);
    let (vault, _) = open_on(&disk, &master, &machine(2), accepted).unwrap();
    assert_eq!(dump(&vault.tree), specimen.states[3]);
    // It is asked once, also where nothing was committed.
    drop(vault);
    open(&disk.files(), &master, &machine(2)).unwrap();
    // A witness of another vault: somebody put that one there.
    let swapped = Files::from_iter([
        (ARCHIVE.to_owned(), files[ARCHIVE].clone()),
        (WITNESS.to_owned(), specimen.witnesses[3].clone()),
    ]);
    let refused = open(&swapped, &other, &machine(1)).map(drop);
    assert!(matches!(refused, Err(VaultError::Format { source: FormatError::OtherVault, .. })), "{refused:?}");
    let disk = Disk::with(&swapped);
    open_on(&disk, &other, &machine(1), Acceptance { rollback: true, new_master: false }).unwrap();
    open(&disk.files(), &other, &machine(1)).unwrap();
}

/// Whoever asks for a compaction may know why: what lies on the disk may not be what was written.
#[test]
fn compacting_what_has_no_deltas_writes_it_whole() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut vault, _) = open(&files, &master, &machine(1)).unwrap();
    vault.write("file", 0, b"content");
    let snapshot = Arc::new(vault.tree.snapshot());
    vault.archive.compact(&snapshot).unwrap();
    assert_eq!(vault.archive.deltas, 0);
    let (head, mut damaged) = (vault.archive.head, vault.disk.files()[ARCHIVE].clone());
    let last = damaged.len() - 20;
    damaged[last] ^= 1;
    vault.disk.overwrite(ARCHIVE, &damaged);
    assert!(open(&vault.disk.files(), &master, &machine(1)).is_err(), "it is damaged");
    vault.archive.compact(&snapshot).unwrap();
    assert_eq!((vault.archive.head, vault.archive.deltas), (head, 0), "it is the same commit");
    let (found, _) = open(&vault.disk.files(), &master, &machine(1)).unwrap();
    assert!(dump(&found.tree) == dump(&vault.tree));
}
