//! Archives that a release wrote (`tests/fixtures/v2`), which every later one reads; and the example in docs/FORMAT.md.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use super::python::{assert_same, entries, entries_as, hex, json_lines, segments};
use super::support::{passphrase, patient};
use vaultfs::crypto::Identity;
use vaultfs::vault::{Secret, Vault};

const PASSPHRASE: &str = "correct horse battery staple";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(name: &str) -> PathBuf {
    project().join("tests/fixtures/v2").join(name)
}

fn is_read_as_its_manifest_says(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("vault.tar.aes");
    std::fs::copy(fixture(&format!("{name}.tar.aes")), &archive).unwrap();
    let manifest = json_lines(&std::fs::read_to_string(fixture(&format!("{name}.manifest.jsonl"))).unwrap());
    assert_eq!(manifest.len(), 19);
    let (vault, _) = Vault::open(&archive, passphrase(PASSPHRASE), &patient()).unwrap();
    assert_same(vault.tree(), &manifest, "the library");
    assert_eq!(vault.sequence(), Some(9));
    vault.discard();
    assert_eq!(entries(&archive, PASSPHRASE), manifest, "the reader in Python");
    let kinds: Vec<_> = segments(&archive, PASSPHRASE).iter().map(|segment| segment["kind"].clone()).collect();
    assert_eq!(kinds, ["checkpoint", "delta", "delta", "delta", "delta", "delta"]);
}

#[test]
fn the_golden_archive_in_aes_gcm_is_read_as_its_manifest_says() {
    is_read_as_its_manifest_says("aes-256-gcm");
}

#[test]
fn the_golden_archive_in_chacha20_poly1305_is_read_as_its_manifest_says() {
    is_read_as_its_manifest_says("chacha20-poly1305");
}

/// Recipients, shared heads in a checkpoint and in a delta, a second parent.
#[test]
fn the_golden_archive_with_recipients_is_opened_by_each_of_them() {
    let archive = fixture("recipients.tar.aes");
    let manifest = json_lines(&std::fs::read_to_string(fixture("recipients.manifest.jsonl")).unwrap());
    assert_eq!(manifest.len(), 6);
    let identities = ["recipients.age-identity", "recipients.ssh-ed25519"].map(fixture);
    let secrets = identities.iter().map(|path| Identity::new(std::fs::read(path).unwrap().into()).unwrap());
    for secret in secrets.map(Secret::Identity).chain([Secret::Passphrase(passphrase(PASSPHRASE))]) {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("vault.tar.aes");
        std::fs::copy(&archive, &copy).unwrap();
        let (vault, _) = Vault::open_with(&copy, secret, &patient()).unwrap();
        assert_same(vault.tree(), &manifest, "the library");
        assert_eq!(vault.sequence(), Some(7));
        assert_eq!(vault.recipients().unwrap().len(), 2);
        vault.discard();
    }
    for identity in &identities {
        assert_eq!(entries_as(identity, &archive), manifest, "the reader in Python");
    }
    assert_eq!(entries(&archive, PASSPHRASE), manifest, "the reader in Python");
    let shared: Vec<_> = segments(&archive, PASSPHRASE).iter().map(|it| it["records"]["shared"].as_u64()).collect();
    assert_eq!(shared, [Some(1), None, Some(1), None]);
}

/// The example's lines are `| offset | bytes in hexadecimal digits | meaning |` and cover the beginning without a gap.
#[test]
fn the_example_in_the_document_is_the_beginning_of_the_golden_archive() {
    let document = std::fs::read_to_string(project().join("docs/FORMAT.md")).unwrap();
    let example = document.split("### Example").nth(1).unwrap().split("\n### ").next().unwrap();
    let archive = std::fs::read(fixture("aes-256-gcm.tar.aes")).unwrap();
    let mut end = 0;
    for line in example.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(offset) = cells.get(1).and_then(|cell| cell.parse::<usize>().ok()) else { continue };
        let bytes = cells[2].replace([' ', '`'], "");
        assert_eq!(offset, end, "{line}");
        end = offset + bytes.len() / 2;
        assert_eq!(bytes, hex(&archive[offset..end]), "{line}");
    }
    assert_eq!(end, 184 + 88, "the header and the header of the first segment");
}
