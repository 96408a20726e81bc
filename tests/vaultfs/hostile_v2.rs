//! Archives of version 2 that only somebody with the key could have made, and that nobody should take: each is opened by a process
//! of its own, which must not need more memory than the vault's limits give it, and is refused by name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "sealing_v2.rs"]
mod sealing;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sealing::{Secrets, deflate, first_records, put_record, sealed};
use vaultfs::crypto::{KdfCost, MasterKey, Passphrase, Suite};
use vaultfs::entry::Change;
use vaultfs::format::FormatError;
use vaultfs::format::v2::{Archive, Header, Record, VaultId};
use vaultfs::tree::Owner;
use vaultfs::vault::{Secret, Vault, VaultError, VaultOptions};

const ARCHIVE_OF_CHILD: &str = "VAULT_TEST_ARCHIVE";
const MIB: u64 = 1 << 20;
/// What opening takes beside what the archive holds: buffers of a few chunks, tables.
const OVERHEAD: u64 = 24 * MIB;
/// What an entry may take in memory, names and tables included.
const ENTRY: u64 = 1024;
const VAULT: VaultId = VaultId([6; 16]);

fn secrets() -> Secrets {
    let master = master();
    let passphrase = Passphrase::new(zeroize::Zeroizing::new(b"correct horse".to_vec())).unwrap();
    let cost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    let header = Header::with_passphrase(VAULT, Suite::of_this_machine(), &master, &passphrase, cost).unwrap();
    (master, header)
}

fn master() -> MasterKey {
    let fill = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    MasterKey::fill(fill).unwrap()
}

fn options() -> VaultOptions {
    VaultOptions::new(Owner { uid: 1000, gid: 1000 }, 64 * MIB, Duration::from_secs(3600))
}

/// Opens an archive in a process of its own; returns what came of it, and the bytes that its memory grew by at most.
fn open(archive: &[u8]) -> (String, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.tar.aes");
    std::fs::write(&path, archive).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_opens", "--ignored", "--nocapture"])
        .env(ARCHIVE_OF_CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    let outcome = line("outcome ").unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (outcome, line("grown ").unwrap().parse().unwrap())
}

#[test]
#[ignore = "run by the others"]
fn child_that_opens() {
    let Some(archive) = std::env::var_os(ARCHIVE_OF_CHILD) else { return };
    // From here on the peak counts.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let outcome = match Vault::open_with(Path::new(&archive), Secret::Master(master()), &options()) {
        Ok((vault, _)) => {
            println!("grown {}", peak() - before);
            vault.discard();
            "opened".to_owned()
        }
        Err(error) => {
            println!("grown {}", peak() - before);
            format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))
        }
    };
    println!("outcome {outcome}");
}

/// The most memory that this process has had, bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Records of a checkpoint, in order.
struct Plain(Vec<u8>);

impl Plain {
    fn new(secrets: &Secrets) -> Self {
        Self(first_records(secrets, true))
    }

    fn inode(&mut self, number: u64, kind: u8, size: u64) {
        let mut body = [&id(number)[..], &[kind], &0o600u32.to_le_bytes(), &[0; 24]].concat();
        body.extend_from_slice(&[size.to_le_bytes(), [0; 8]].concat());
        put_record(&mut self.0, 2, &body);
    }

    fn data(&mut self, offset: u64, told: u32, packed: &[u8]) {
        put_record(&mut self.0, 3, &[&offset.to_le_bytes()[..], &told.to_le_bytes(), &[1], packed].concat());
    }

    fn content(&mut self, offset: u64, bytes: &[u8]) {
        put_record(
            &mut self.0,
            3,
            &[&offset.to_le_bytes()[..], &(bytes.len() as u32).to_le_bytes(), &[0], bytes].concat(),
        );
    }

    fn attribute(&mut self, name: &str, value: &[u8]) {
        put_record(&mut self.0, 7, &[&[name.len() as u8], name.as_bytes(), value].concat());
    }

    fn link(&mut self, number: u64, name: &str) {
        put_record(&mut self.0, 5, &[&[0; 16], &id(number)[..], name.as_bytes()].concat());
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..30_000).map(next).collect()
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

/// An archive of one segment must be refused with some words, or opened, without more memory than is allowed.
fn check(what: &str, fill: impl FnOnce(&mut Plain), expected: &str, allowed: u64) {
    let secrets = secrets();
    let mut plain = Plain::new(&secrets);
    fill(&mut plain);
    let archive = sealed(&secrets, vec![plain.0]);
    let (outcome, grown) = open(&archive);
    println!("{what}: {outcome}; {} KiB of archive, {} KiB of memory", archive.len() / 1024, grown / 1024);
    assert!(outcome.contains(expected), "{what}: {outcome}");
    assert!(grown <= OVERHEAD + allowed, "{what}: {grown} bytes of memory for an archive of {}", archive.len());
}

#[test]
fn compressed_data_take_no_more_memory_than_they_say_and_may() {
    let block = deflate(&vec![b'x'; 65_536]);
    let bomb = deflate(&vec![b'x'; 4 << 20]);
    check("a file past the limit", |plain| plain.inode(1, 2, 5 << 30), "cannot be opened", 0);
    let well_packed = |plain: &mut Plain| {
        plain.inode(1, 2, 48 * MIB);
        (0..48 * 16).for_each(|at| plain.data(at * 65_536, 65_536, &block));
        plain.link(1, "file");
    };
    check("a file that packs well", well_packed, "opened", 48 * MIB * 13 / 10);
    let more_than_told = |plain: &mut Plain| {
        plain.inode(1, 2, 48 * MIB);
        plain.data(0, 65_536, &bomb);
    };
    check("a record that unpacks to more than it says", more_than_told, "a record is not what it says", 0);
    let more_than_allowed = |plain: &mut Plain| {
        plain.inode(1, 2, 128 * MIB);
        plain.data(0, 4 << 20, &bomb);
    };
    check("a record that says more than a record may", more_than_allowed, "a record is not what it says", 0);
    let past_the_end = |plain: &mut Plain| {
        plain.inode(1, 2, 65_536);
        (0..1000).for_each(|at| plain.data(at * 65_536, 65_536, &block));
    };
    check("data past the end of a file", past_the_end, "no tree can be", 0);
}

/// Records of content for a segment so large that several threads read it: some inflate, some do not.
fn put_much(plain: &mut Plain, records: u64) {
    let text = deflate(&b"key = value\n".repeat(5000));
    plain.inode(1, 2, 1 << 30);
    for at in 0..records {
        match at % 3 {
            0 => plain.data(at * 65_536, 60_000, &text),
            _ => plain.content(at * 65_536, &noise(at)),
        }
    }
}

#[test]
fn of_a_large_segment_all_before_a_flaw_is_handed_out_and_nothing_behind_it() {
    const BEFORE: u64 = 100;
    let secrets = secrets();
    let mut sound = Plain::new(&secrets);
    put_much(&mut sound, BEFORE);
    let flawed = |flaw: &dyn Fn(&mut Plain)| {
        let mut plain = Plain(sound.0.clone());
        flaw(&mut plain);
        (0..BEFORE).for_each(|at| plain.data((BEFORE + at) * 65_536, 10, &deflate(b"behind it.")));
        read(&sealed(&secrets, vec![plain.0]), u64::MAX)
    };
    let bomb = deflate(&vec![b'x'; 4 << 20]);
    let (handed_out, error) = flawed(&|plain| plain.data(BEFORE * 65_536, 65_536, &bomb));
    assert!(handed_out == BEFORE && error.contains("a record is not what it says"), "{handed_out}: {error}");
    let (handed_out, error) = flawed(&|plain| put_record(&mut plain.0, 14, &[]));
    assert!(handed_out == BEFORE && error.contains("not known or not in its place"), "{handed_out}: {error}");
    let (handed_out, error) = flawed(&|plain| plain.0.extend_from_slice(&[3, 0xff, 0xff, 0xff, 0x7f]));
    assert!(handed_out == BEFORE && error.contains("impossible length"), "{handed_out}: {error}");

    let mut archive = sealed(&secrets, vec![sound.0.clone()]);
    let (handed_out, error) = read(&archive, BEFORE / 2);
    assert!(handed_out == BEFORE / 2 && error.contains("enough"), "{handed_out}: {error}");
    let at = archive.len() - 100_000;
    archive[at] ^= 1;
    let (handed_out, error) = read(&archive, u64::MAX);
    assert!(
        handed_out < BEFORE && handed_out > BEFORE - 12 && error.contains("does not authenticate"),
        "{handed_out}: {error}"
    );
}

/// Reads the first segment of an archive; returns how many pieces of content came, and what was wrong. Gives up after some pieces.
fn read(archive: &[u8], enough: u64) -> (u64, String) {
    let (master, header) = secrets();
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(archive).unwrap();
    let segments = Archive::new(&file, header.suite(), &master, &VAULT).unwrap();
    let first = segments.next(header.bytes().len() as u64, None).unwrap().unwrap();
    let mut handed_out = 0;
    let outcome = segments.read(&first, &mut |record| {
        if let Record::Change(Change::Data { offset, .. }) = record {
            if handed_out == enough {
                return Err(FormatError::Unsupported("that is enough".to_owned()));
            }
            assert_eq!(offset, handed_out * 65_536);
            handed_out += 1;
        }
        Ok(())
    });
    (handed_out, outcome.map_or_else(|error| error.to_string(), |()| "sound".to_owned()))
}

#[test]
fn a_large_segment_takes_no_more_memory_however_well_it_packs() {
    let block = deflate(&vec![b'x'; 65_536]);
    let well_packed = |plain: &mut Plain| {
        put_much(plain, 60);
        // The file has had its last byte.
        plain.data((1 << 30) - 65_536, 65_536, &block);
        (0..30_000).for_each(|_| plain.data((1 << 30) - 65_536, 65_536, &block));
    };
    check("records that pack well in a large segment", well_packed, "no tree can be", 4 * MIB);
}

#[test]
fn records_without_end_take_no_more_memory_than_the_entries_they_make() {
    let tiny = |plain: &mut Plain| {
        plain.inode(1, 2, 0);
        (0..1_000_000).for_each(|_| plain.attribute("user.a", b"x"));
        plain.link(1, "file");
    };
    check("a million records for one attribute", tiny, "opened", 0);
    let attributes = |plain: &mut Plain| {
        plain.inode(1, 2, 0);
        (0..300_000).for_each(|number| plain.attribute(&format!("user.{number}"), &[7; 100]));
    };
    check("attributes without end", attributes, "no tree can be", 0);
    let links = |plain: &mut Plain| {
        plain.inode(1, 2, 0);
        (0..1_000_000).for_each(|number| plain.link(1, &number.to_string()));
    };
    check("a million links to one file", links, "no tree can be", 65_536 * ENTRY);
    let loose = |plain: &mut Plain| (0..100_000).for_each(|number| plain.inode(number, 2, 0));
    check("inodes without a name", loose, "no tree can be", 100_000 * ENTRY);
    let files = |plain: &mut Plain| {
        (0..50_000).for_each(|number| plain.inode(number, 2, 0));
        (0..50_000).for_each(|number| plain.link(number, &number.to_string()));
    };
    check("many small files", files, "opened", 50_000 * ENTRY);
    let unfinished = |plain: &mut Plain| plain.0.extend_from_slice(&[2, 0xff, 0xff, 0xff, 0x7f]);
    check("a record without end", unfinished, "impossible length", 0);
}

#[test]
fn lengths_of_segments_are_believed_only_as_far_as_there_are_bytes() {
    let secrets = secrets();
    let mut plain = Plain::new(&secrets);
    plain.inode(1, 2, 0);
    plain.link(1, "file");
    let archive = sealed(&secrets, vec![plain.0]);
    let at = secrets.1.bytes().len() + 80;
    for chunks in [2, 1 << 20, 1 << 46, u64::MAX / 65_552] {
        let mut hostile = archive.clone();
        hostile[at..at + 8].copy_from_slice(&(chunks * 65_552).to_le_bytes());
        let (outcome, grown) = open(&hostile);
        assert!(outcome.contains("damaged at byte") && grown <= OVERHEAD, "{outcome}: {grown}");
    }
}

#[test]
fn a_thousand_small_commits_take_no_memory_of_their_own() {
    let secrets = secrets();
    let mut plains = vec![Plain::new(&secrets).0];
    plains.extend((0..1000).map(|_| first_records(&secrets, false)));
    let (outcome, grown) = open(&sealed(&secrets, plains));
    assert!(outcome == "opened" && grown <= OVERHEAD, "{outcome}: {grown}");
}

#[test]
fn a_header_that_asks_for_too_much_is_refused_before_it_is_spent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault.tar.aes");
    let secrets = secrets();
    let plain = Plain::new(&secrets).0;
    let archive = sealed(&secrets, vec![plain]);
    for (memory_kib, passes, lanes) in
        [(u32::MAX, 1, 1), (2 << 20, 3, 1), (2 << 20, u32::MAX, 1), (64, 1, 17), (0, 0, 0)]
    {
        let mut hostile = archive.clone();
        for (at, value) in [(36, memory_kib), (40, passes), (44, lanes)] {
            hostile[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        std::fs::write(&path, hostile).unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = peak();
        let passphrase = Passphrase::new(zeroize::Zeroizing::new(b"correct horse".to_vec())).unwrap();
        let refused = Vault::open(&path, passphrase, &options()).map(drop);
        assert!(matches!(refused, Err(VaultError::Crypto(_))), "{refused:?}");
        assert!(peak() - before <= OVERHEAD);
    }
}
