//! age recipients: wrapping the master for whoever holds the secret half (age-encryption.org/v1). Programs, which is what plugins
//! are, are never run.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{CryptoError, MasterKey, wiping_stack};

/// The longest recipient that is taken, in bytes: an RSA key of 4,096 bits has 730.
pub const RECIPIENT_MAX: usize = 1024;
/// The longest age file that holds a master, in bytes: one for an RSA key of 4,096 bits has 1,100.
pub const AGE_FILE_MAX: usize = 4096;

/// Bytes of stack that the ciphers of age use at most.
pub(super) const STACK_OF_AGE: usize = 64 * 1024;

/// Somebody whom the master can be wrapped for: the public half of an X25519 or SSH key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    text: String,
    comment: String,
}

/// What age makes of it.
enum Parsed {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl Recipient {
    /// Parses `age1…`, or a line of an SSH public key file.
    ///
    /// # Errors
    /// [`CryptoError::Recipient`], which says what is wrong or not supported.
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let text = text.trim();
        let text = match parse(text)? {
            Parsed::X25519(key) => (key.to_string(), ""),
            Parsed::Ssh(key) => (key.to_string(), text.splitn(3, ' ').nth(2).unwrap_or_default()),
        };
        Ok(Self { text: text.0, comment: text.1.trim().to_owned() })
    }

    /// As age writes it, without a comment: equal for equal keys.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The comment of an SSH key, perhaps empty: mostly user and host.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Makes an age file that holds the master.
    ///
    /// # Errors
    /// [`CryptoError::Recipient`].
    pub fn wrap(&self, master: &MasterKey) -> Result<Vec<u8>, CryptoError> {
        let failed = |_| CryptoError::Recipient("age cannot encrypt for it".to_owned());
        let file = wiping_stack::<STACK_OF_AGE, _>(|| {
            let parsed = parse(&self.text)?;
            let recipient: &dyn age::Recipient = match &parsed {
                Parsed::X25519(key) => key,
                Parsed::Ssh(key) => key,
            };
            let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient))
                .map_err(|_| CryptoError::Recipient("age cannot encrypt for it".to_owned()))?;
            let mut file = Vec::with_capacity(AGE_FILE_MAX);
            let mut writer = encryptor.wrap_output(&mut file).map_err(failed)?;
            writer.write_all(master.expose()).and_then(|()| writer.finish()).map_err(failed)?;
            Ok(file)
        })?;
        if file.len() > AGE_FILE_MAX {
            return Err(CryptoError::Recipient("what is encrypted for it is too long".to_owned()));
        }
        Ok(file)
    }
}

fn parse(text: &str) -> Result<Parsed, CryptoError> {
    let refused = |reason: &str| CryptoError::Recipient(reason.to_owned());
    if text.len() > RECIPIENT_MAX + 256 || text.contains(['\n', '\r']) {
        return Err(refused("it is too long, or more than one line"));
    }
    if let Ok(key) = text.parse() {
        return Ok(Parsed::X25519(key));
    }
    let upper = text.get(..16).unwrap_or(text).to_ascii_uppercase();
    if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("-----BEGIN") {
        return Err(refused("it is a secret key; its public half is what is wanted"));
    }
    if let Some(key) = text.strip_prefix("age1") {
        // A plugin's own name comes between two ones: age1yubikey1….
        return Err(match key.split_once('1') {
            Some((plugin, _)) => refused(&format!("keys of age-plugin-{plugin} are not supported: no plugin is run")),
            None => refused("it is misspelt"),
        });
    }
    let kind = text.split(' ').next().unwrap_or_default();
    match kind {
        "ssh-ed25519" | "ssh-rsa" => {}
        _ if kind.starts_with("ssh-") || kind.starts_with("sk-") || kind.starts_with("ecdsa-") => {
            let kind: String = kind.chars().take(40).collect();
            return Err(refused(&format!("keys of type {kind} are not supported, only ssh-ed25519 and ssh-rsa")));
        }
        _ => return Err(refused("it is neither age1… nor an SSH public key")),
    }
    if !is_sane_blob(text) {
        return Err(refused("it is damaged"));
    }
    use age::ssh::ParseRecipientKeyError as Error;
    text.parse().map(Parsed::Ssh).map_err(|error| match error {
        Error::RsaModulusTooLarge => refused("RSA keys of more than 4,096 bits are not supported"),
        Error::RsaModulusTooSmall => refused("RSA keys of less than 2,048 bits are too weak"),
        _ => refused("it is damaged"),
    })
}

/// Whether the numbers of an SSH key are such that age (0.12) reads them without a panic: none is a row of zeros.
fn is_sane_blob(text: &str) -> bool {
    let Some(blob) = text.split(' ').nth(1).and_then(decode_base64) else { return false };
    let (mut rest, mut fields) = (blob.as_slice(), 0);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((field, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize) else { return false };
        if field.iter().all(|byte| *byte == 0) {
            return false;
        }
        (rest, fields) = (after, fields + 1);
    }
    rest.is_empty() && fields >= 2
}

/// Base64 (RFC 4648, section 4); padding is not checked, since age does that.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN str4d@carbon laptop";

    fn refused(text: &str) -> String {
        Recipient::parse(text).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let bare = Recipient::parse(SSH).unwrap();
        assert_eq!((bare.as_str(), bare.comment()), (&SSH[..80], "str4d@carbon laptop"));
        assert!(refused("age1yubikey1qabc").contains("age-plugin-yubikey"));
        assert!(refused("ecdsa-sha2-nistp256 AAAA").contains("ecdsa-sha2-nistp256"));
        assert!(refused("sk-ssh-ed25519@openssh.com AAAA").contains("sk-ssh-ed25519"));
        assert!(refused("AGE-SECRET-KEY-1QQQ").contains("secret key"));
        assert!(refused("hello").contains("neither"));
        assert!(refused("age1qqqq").contains("misspelt"));
        assert!(refused(&format!("{SSH}\n{SSH}")).contains("more than one line"));
    }

    /// `ssh-rsa` with numbers of zeros only, and with lengths beyond the end.
    #[test]
    fn numbers_that_age_cannot_read_are_refused_without_a_panic() {
        for blob in ["AAAAB3NzaC1yc2EAAAABAAAAAAEA", "AAAAB3NzaC1yc2EAAAABAwAAAAIAAA==", "AAAAB3NzaC1yc2H/////"] {
            assert!(refused(&format!("ssh-rsa {blob}")).contains("damaged"), "{blob}");
        }
    }
}
