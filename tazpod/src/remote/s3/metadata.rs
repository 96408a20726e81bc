//! What an object tells of the archive in it. All of it is of ciphertext, and nothing is believed that the bytes do not bear out.

use std::collections::HashMap;

use crate::remote::description::{Format, from_hex, hex};
use crate::remote::receive::Expected;
use crate::remote::{Description, State};

const FORMAT: &str = "tazpod-format";
const VAULT: &str = "tazpod-vault";
const SEQUENCE: &str = "tazpod-sequence";
const HEAD: &str = "tazpod-head";
const SHA256: &str = "tazpod-sha256";

/// Names and values for an archive.
pub fn write(description: &Description) -> HashMap<String, String> {
    let state = &description.state;
    let mut metadata = HashMap::from([
        (FORMAT.to_owned(), state.format.number().to_string()),
        (SEQUENCE.to_owned(), state.sequence.to_string()),
        (HEAD.to_owned(), state.head.to_string()),
        (SHA256.to_owned(), description.sha256.to_string()),
    ]);
    if let Some(vault) = &state.vault {
        metadata.insert(VAULT.to_owned(), hex(vault));
    }
    metadata
}

/// What is told; objects of other programs tell nothing.
pub fn read(metadata: Option<&HashMap<String, String>>) -> Expected {
    let value = |name: &str| metadata.and_then(|metadata| metadata.get(name)).map(String::as_str);
    let state = || {
        let format = Format::from_number(value(FORMAT)?)?;
        let vault = match value(VAULT) {
            Some(text) => Some(from_hex(text)?),
            None => None,
        };
        Some(State { format, vault, sequence: value(SEQUENCE)?.parse().ok()?, head: value(HEAD)?.parse().ok()? })
    };
    Expected { bytes: None, sha256: value(SHA256).and_then(|text| text.parse().ok()), state: state() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Digest;

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_nothing() {
        let state = State { format: Format::V2, vault: Some([1; 16]), sequence: 9, head: Digest([2; 32]) };
        let description = Description { state, bytes: 5, sha256: Digest([3; 32]) };
        let mut metadata = write(&description);
        let told = read(Some(&metadata));
        assert_eq!((told.state, told.sha256), (Some(state), Some(Digest([3; 32]))));
        metadata.insert(VAULT.to_owned(), "01".to_owned());
        assert_eq!(read(Some(&metadata)).state, None);
        assert_eq!(read(None).state, None);
    }
}
