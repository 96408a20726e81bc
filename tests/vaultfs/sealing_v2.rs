//! Seals plaintexts of any kind as the archive of version 2 that they would be, without the writer's help.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use vaultfs::crypto::{CHUNK_LEN, Hasher, MasterKey, Position, StreamCipher};
use vaultfs::format::v2::{Chain, Head, Header, Sequence};

/// A master and a header that it authenticates.
pub type Secrets = (MasterKey, Header);

/// Seals plaintexts as the segments that they would be.
pub fn sealed(secrets: &Secrets, plains: Vec<Vec<u8>>) -> Vec<u8> {
    let mut file = secrets.1.bytes().to_vec();
    let mut head = Head { sequence: Sequence(0), chain: Chain::genesis(secrets.1.vault_id()) };
    for (index, plain) in plains.into_iter().enumerate() {
        let segment = sealed_segment(secrets, if index == 0 { 1 } else { 2 }, &head, plain);
        if index > 0 {
            let payload = Hasher::hash(&[&segment[88..]]);
            head.chain = Chain(Hasher::hash(&[&segment[..88], &payload]));
        }
        file.extend_from_slice(&segment);
        head.sequence = head.sequence.next();
    }
    file
}

fn sealed_segment((master, header): &Secrets, kind: u8, head: &Head, mut plain: Vec<u8>) -> Vec<u8> {
    plain.resize((plain.len() + 1).next_multiple_of(4096), 0);
    let start = [&b"TSEG"[..], &[kind, 0, 0, 0], &head.sequence.0.to_le_bytes(), &head.chain.0, &[1; 32]].concat();
    let mut cipher = StreamCipher::new(header.suite(), master.segment_key(&[1; 32], &start).unwrap());
    let last = plain.len().div_ceil(CHUNK_LEN) - 1;
    let mut payload = Vec::new();
    for (index, chunk) in plain.chunks(CHUNK_LEN).enumerate() {
        cipher.seal(chunk, &mut payload, if index == last { Position::Last } else { Position::Inner });
    }
    [&start[..], &(payload.len() as u64).to_le_bytes(), &payload].concat()
}

/// The records that a segment begins with.
pub fn first_records(secrets: &Secrets, is_checkpoint: bool) -> Vec<u8> {
    let mut plain = Vec::new();
    put_record(&mut plain, 1, &[0; 8 + 16 + 1 + 1 + 1]);
    if is_checkpoint {
        put_record(&mut plain, 11, &[]);
        put_record(&mut plain, 12, &secrets.1.digest());
    }
    plain
}

/// Adds a record.
pub fn put_record(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// Compresses a record's data.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}
