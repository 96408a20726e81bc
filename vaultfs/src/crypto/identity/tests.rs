use std::time::{Duration, Instant};

use super::super::Recipient;
use super::*;

/// An SSH key without a passphrase, made for tests.
const SSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQAAAJCfEwtqnxML
agAAAAtzc2gtZWQyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQ
AAAEADBJvjZT8X6JRJI8xVq/1aU8nMVgOtVnmdwqWwrSlXG3sKLqeplhpW+uObz5dvMgjz
1OxfM/XXUB+VHtZ6isGNAAAADHN0cjRkQGNhcmJvbgE=
-----END OPENSSH PRIVATE KEY-----
";

fn identity(text: &str) -> Result<Identity, CryptoError> {
    Identity::new(Zeroizing::new(text.as_bytes().to_vec()))
}

fn is_same(one: &MasterKey, other: &MasterKey) -> bool {
    one.fingerprint(&[0; 16]) == other.fingerprint(&[0; 16])
}

fn wrapped_for(identity: &Identity, master: &MasterKey) -> Vec<u8> {
    Recipient::parse(&identity.recipients()[0]).unwrap().wrap(master).unwrap()
}

#[test]
fn what_is_wrapped_for_a_recipient_is_opened_by_its_identity_only() {
    let master = MasterKey::generate().unwrap();
    for identity in [Identity::generate().unwrap(), identity(SSH).unwrap()] {
        let file = wrapped_for(&identity, &master);
        assert!(is_same(&identity.unwrap(&file).unwrap(), &master));
        assert!(is_same(&identity.duplicate().unwrap().unwrap(&file).unwrap(), &master));
        let other = Identity::generate().unwrap().unwrap(&file);
        assert!(matches!(other.map(drop), Err(CryptoError::Authentication)));
    }
}

#[test]
fn files_of_age_keygen_are_read_in_either_case_and_with_several_keys() {
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let line = |identity: &Identity| identity.expose(|text| String::from_utf8(text.to_vec()).unwrap());
    let file = format!("# created: today\r\n\n  {}\n# two\n{}\n", line(&one), line(&two).to_lowercase());
    let both = identity(&file).unwrap();
    assert_eq!(both.recipients(), [one.recipients(), two.recipients()].concat());
    let master = MasterKey::generate().unwrap();
    assert!(is_same(&both.unwrap(&wrapped_for(&two, &master)).unwrap(), &master));
}

#[test]
fn what_is_not_supported_is_named_and_secrets_are_not_told() {
    let refused = |text: &str| identity(text).map(drop).unwrap_err().to_string();
    assert!(refused("AGE-PLUGIN-YUBIKEY-1QQQ").contains("age-plugin-yubikey"));
    assert!(refused("age-encryption.org/v1\n-> scrypt x 18\n").contains("decrypt it first"));
    assert!(refused("AGE-SECRET-KEY-PQ-1QQQ").contains("kind of secret key"));
    assert!(refused(&SSH.replace("OPENSSH", "EC")).contains("no private key"));
    assert!(refused("age1qqq").contains("public key"));
    assert!(refused("# nothing\n").contains("no secret key"));
    assert!(refused(&"#\n".repeat(40_000)).contains("too long"));
    let told = refused("AGE-SECRET-KEY-1QQQ");
    assert!(told.contains("misspelt") && !told.contains("QQQ"), "{told}");
    assert!(!refused("correct horse").contains("horse"));
}

/// Nothing of what a file asks for is done: stretching a passphrase, reading a payload without an end, trying thousands of keys.
#[test]
fn hostile_age_files_are_refused_before_anything_is_spent() {
    let identity = Identity::generate().unwrap();
    let begun = Instant::now();
    let refused = |file: &[u8]| assert!(matches!(identity.unwrap(file).map(drop), Err(CryptoError::Authentication)));
    let body = "A".repeat(43);
    let scrypt = "-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\n";
    let end = format!("--- {body}\n{}", "x".repeat(64));
    refused(format!("age-encryption.org/v1\n{scrypt}{body}\n{end}").as_bytes());
    refused(format!("age-encryption.org/v1\n{scrypt}{body}\n-> X25519 {body}\n{body}\n{end}").as_bytes());
    let stanza = format!("-> X25519 {body}\n{body}\n");
    refused(format!("age-encryption.org/v1\n{}{end}", stanza.repeat(36)).as_bytes());
    refused(format!("age-encryption.org/v1\n-> {}\n{end}", "a ".repeat(1900)).as_bytes());
    refused(format!("age-encryption.org/v1\n-> a\n{}\n{end}", "A".repeat(3900)).as_bytes());
    refused(format!("age-encryption.org/v2\n{end}").as_bytes());
    refused(&vec![b'a'; AGE_FILE_MAX + 1]);
    refused(b"");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_payload_of_another_length_is_refused() {
    use std::io::Write;
    let identity = Identity::generate().unwrap();
    let recipient: age::x25519::Recipient = identity.recipients()[0].parse().unwrap();
    for length in [0, 31, 33, 2000] {
        let mut file = Vec::new();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _)).unwrap();
        let mut writer = encryptor.wrap_output(&mut file).unwrap();
        writer.write_all(&vec![1; length]).unwrap();
        writer.finish().unwrap();
        assert!(matches!(identity.unwrap(&file).map(drop), Err(CryptoError::Authentication)), "{length}");
    }
}

#[test]
fn no_flip_cut_or_splice_is_taken_or_panics() {
    let master = MasterKey::generate().unwrap();
    for identity in [Identity::generate().unwrap(), identity(SSH).unwrap()] {
        let file = wrapped_for(&identity, &master);
        let refused = |changed: &[u8]| assert!(identity.unwrap(changed).is_err(), "{changed:?}");
        for at in 0..file.len() {
            refused(&file[..at]);
            for bit in [1, 16, 128] {
                let mut changed = file.clone();
                changed[at] ^= bit;
                refused(&changed);
            }
            refused(&[&file[..at], &file[at + 1..]].concat());
            refused(&[&file[..at], b"\n", &file[at..]].concat());
            refused(&[&file[..=at], &file[at.div_ceil(2)..]].concat()[..]);
        }
    }
}
