//! Tests that search the memory of this process for what should not be there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

use super::*;

/// Bytes to be searched for, kept so that the search does not find them here.
struct Needle(Vec<u8>);

const MASK: u8 = 0xa5;

impl Needle {
    fn new(bytes: impl IntoIterator<Item = u8>) -> Self {
        Self(bytes.into_iter().map(|byte| byte ^ MASK).collect())
    }

    fn is_at(&self, memory: &[u8]) -> bool {
        memory.len() >= self.0.len() && memory.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked)
    }

    /// Where it lies in the writable memory of this process: names of mappings.
    fn traces(&self) -> Vec<String> {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut piece = Zeroizing::new(vec![0; 1 << 20]);
        let mut found = Vec::new();
        for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw")) {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [mut at, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            while at < end {
                let len = piece.len().min((end - at) as usize);
                // Secret memory cannot be read, and other tests unmap theirs.
                if memory.read_exact_at(&mut piece[..len], at).is_err() {
                    break;
                }
                let first = self.0[0] ^ MASK;
                let mut hits = (0..len).filter(|&offset| piece[offset] == first && self.is_at(&piece[offset..len]));
                if let Some(offset) = hits.next() {
                    found.push(format!("{:x} in {line}", at + offset as u64));
                }
                at += (len as u64).min((end - at).saturating_sub(64)).max(1);
            }
        }
        found
    }
}

/// Letters that occur nowhere else, without being written down anywhere.
fn marker(seed: u8) -> impl Iterator<Item = u8> {
    (0..40_u8).map(move |at| b'A' + (at.wrapping_mul(seed) ^ (at >> 2)) % 58)
}

fn passphrase(seed: u8) -> Passphrase {
    let mut bytes = Zeroizing::new(Vec::with_capacity(40));
    bytes.extend(marker(seed));
    Passphrase::new(bytes).unwrap()
}

#[test]
fn the_search_finds_what_is_there() {
    let there: Vec<u8> = std::hint::black_box(marker(23).collect());
    assert!(!Needle::new(marker(23)).traces().is_empty());
    drop(there);
}

#[test]
fn no_copy_of_passphrase_or_key_stays_after_derivation_and_ciphers() {
    let passphrase = passphrase(37);
    let key = ArchiveKey::derive(&passphrase, [4; 32]).unwrap();
    let mut data = vec![1; 100_000];
    wiping_stack::<65_536, _>(|| {
        let mut encryptor = GcmEncryptor::new(&key, &[2; 12]);
        encryptor.update(&mut data);
        let tag = encryptor.finish();
        let mut decryptor = GcmDecryptor::new(&key, &[2; 12]);
        decryptor.update(&mut data);
        decryptor.verify(&tag).unwrap();
    });
    // What cannot be hidden from a reader of all memory is the secret memory itself, where it is not memfd_secret.
    let visible = usize::from(key.kind() != SecretMemoryKind::MemfdSecret);
    let traces = Needle::new(marker(37)).traces();
    assert_eq!(traces.len(), visible, "of the passphrase: {traces:#?}");
    for half in key.expose().chunks(16) {
        let traces = Needle::new(half.iter().copied()).traces();
        assert_eq!(traces.len(), visible, "of the key: {traces:#?}");
    }
}

#[test]
fn no_copy_of_the_session_key_stays_after_sealing() {
    let sealer = SessionSealer::new().unwrap();
    let mut plain = vec![1; PAGE_SIZE];
    for _ in 0..10 {
        let page = sealer.seal(&plain);
        sealer.with_cipher(|cipher| cipher.open(&page, &mut plain)).unwrap();
    }
    let visible = usize::from(sealer.memory_kind() != SecretMemoryKind::MemfdSecret);
    for half in sealer.expose().chunks(16) {
        let traces = Needle::new(half.iter().copied()).traces();
        assert_eq!(traces.len(), visible, "{traces:#?}");
    }
}

#[test]
fn no_copy_of_passphrase_master_or_segment_key_stays_after_what_version_2_does_with_them() {
    const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 2, lanes: 1 };
    let passphrase = passphrase(41);
    let master = MasterKey::generate().unwrap();
    let slot = PassphraseSlot::wrap(&master, &passphrase, CHEAP, b"context").unwrap();
    drop(slot.unwrap(&passphrase, b"context").unwrap());
    slot.unwrap(&passphrase, b"other").map(drop).unwrap_err();
    let mac = master.mac(MacPurpose::Header, &[1; 16], b"message").unwrap();
    master.verify_mac(MacPurpose::Header, &[1; 16], b"message", &mac).unwrap();
    master.fingerprint(&[1; 16]);
    let segment_key = || master.segment_key(&[2; 32], &[3; 80]).unwrap();
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let mut chunk = Vec::new();
        StreamCipher::new(suite, segment_key()).seal(&[1; CHUNK_LEN], &mut chunk, Position::Last);
        let mut cipher = StreamCipher::new(suite, segment_key());
        cipher.open(&mut chunk.clone(), Position::Last).unwrap();
        cipher.open(&mut chunk, Position::Last).unwrap_err();
    }
    let segment_key = segment_key();
    // As above: the pieces of secret memory that still live.
    let probe = SecretMemory::new(1).unwrap();
    let visible = usize::from(probe.kind() != SecretMemoryKind::MemfdSecret);
    let traces = Needle::new(marker(41)).traces();
    assert_eq!(traces.len(), visible, "of the passphrase: {traces:#?}");
    for half in master.expose().chunks(16).chain(segment_key.expose().chunks(16)) {
        let traces = Needle::new(half.iter().copied()).traces();
        assert_eq!(traces.len(), visible, "of a key: {traces:#?}");
    }
}

/// What age itself leaves on the heap it wipes for the most part; a program that wipes what is freed (`tazpod`) has it all wiped.
#[test]
fn no_copy_of_an_identity_or_master_stays_after_age() {
    let identity = Identity::generate().unwrap();
    let recipient = Recipient::parse(&identity.recipients()[0]).unwrap();
    let master = MasterKey::generate().unwrap();
    let file = recipient.wrap(&master).unwrap();
    drop(identity.unwrap(&file).unwrap());
    identity.unwrap(&file[..file.len() - 1]).map(drop).unwrap_err();
    let needle = identity.expose(|text| Needle::new(text.iter().copied()));
    let probe = SecretMemory::new(1).unwrap();
    let visible = usize::from(probe.kind() != SecretMemoryKind::MemfdSecret);
    let traces = needle.traces();
    assert_eq!(traces.len(), visible, "of the identity: {traces:#?}");
    for half in master.expose().chunks(16) {
        let traces = Needle::new(half.iter().copied()).traces();
        assert_eq!(traces.len(), visible, "of the master: {traces:#?}");
    }
}
