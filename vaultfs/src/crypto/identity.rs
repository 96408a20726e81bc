//! age identities, which open what was wrapped for their recipients: X25519 keys and SSH private keys. Their text rests in secret
//! memory and becomes a key only while it is used.

use std::io::Read;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::recipient::{AGE_FILE_MAX, STACK_OF_AGE};
use super::{CryptoError, MasterKey, Passphrase, SecretMemory, wiping_stack};

/// The longest identity that is taken, in bytes.
const IDENTITY_MAX: usize = 64 * 1024;
const SECRET_KEY: &str = "AGE-SECRET-KEY-1";

/// One or more secret keys of age, or one SSH private key, as their file has them. No Clone, Debug or Serialize.
pub struct Identity {
    text: SecretMemory,
    passphrase: Option<Passphrase>,
    recipients: Vec<String>,
    protection: Protection,
}

/// Whether a private key is encrypted itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    None,
    Passphrase,
}

/// What age makes of it.
enum Key {
    X25519(age::x25519::Identity),
    Ssh(age::ssh::Identity),
}

impl Identity {
    /// Takes the content of an identity file over and wipes the source.
    ///
    /// # Errors
    /// [`CryptoError::Identity`], which says what is wrong or not supported; [`CryptoError::SecretMemory`].
    pub fn new(text: Zeroizing<Vec<u8>>) -> Result<Self, CryptoError> {
        if text.len() > IDENTITY_MAX {
            return Err(refused("it is too long"));
        }
        let mut memory = SecretMemory::new(text.len())?;
        memory.bytes_mut().copy_from_slice(&text);
        let (recipients, protection) = wiping_stack::<STACK_OF_AGE, _>(|| {
            let keys = parse(memory.bytes())?;
            let recipients = keys.iter().map(Key::recipient).collect::<Result<Vec<_>, _>>()?;
            let is_encrypted = keys.iter().any(|key| matches!(key, Key::Ssh(age::ssh::Identity::Encrypted(_))));
            Ok((recipients, if is_encrypted { Protection::Passphrase } else { Protection::None }))
        })?;
        Ok(Self { text: memory, passphrase: None, recipients, protection })
    }

    /// Makes a new X25519 key.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn generate() -> Result<Self, CryptoError> {
        let text = wiping_stack::<STACK_OF_AGE, _>(|| {
            let text = age::x25519::Identity::generate().to_string();
            Zeroizing::new(text.expose_secret().as_bytes().to_vec())
        });
        Self::new(text)
    }

    /// Whether it is of use only with [`Identity::with_passphrase`].
    pub fn needs_passphrase(&self) -> bool {
        self.protection == Protection::Passphrase && self.passphrase.is_none()
    }

    /// Adds the passphrase of an encrypted SSH key. Whether it is right shows when it is used.
    #[must_use]
    pub fn with_passphrase(self, passphrase: Passphrase) -> Self {
        Self { passphrase: Some(passphrase), ..self }
    }

    /// Tries the passphrase; takes as long as the key's derivation, a fraction of a second.
    ///
    /// # Errors
    /// [`CryptoError::IdentityPassphrase`].
    pub fn check_passphrase(&self) -> Result<(), CryptoError> {
        wiping_stack::<STACK_OF_AGE, _>(|| self.keys().map(drop))
    }

    /// The passphrase of an encrypted SSH key, where one was given.
    pub fn passphrase(&self) -> Option<&Passphrase> {
        self.passphrase.as_ref()
    }

    /// The public halves, as age writes them.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Copies it into further pieces of secret memory.
    ///
    /// # Errors
    /// [`CryptoError::SecretMemory`].
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        let mut text = SecretMemory::new(self.text.bytes().len())?;
        text.bytes_mut().copy_from_slice(self.text.bytes());
        let passphrase = self.passphrase.as_ref().map(Passphrase::duplicate).transpose()?;
        Ok(Self { text, passphrase, recipients: self.recipients.clone(), protection: self.protection })
    }

    /// Gives the text to one function, which must not keep it.
    pub fn expose<R>(&self, function: impl FnOnce(&[u8]) -> R) -> R {
        function(self.text.bytes())
    }

    /// Takes the master out of an age file that was made for one of the recipients. Files for passphrases are not looked at.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`]: the file is damaged, or for somebody else. [`CryptoError::IdentityPassphrase`],
    /// [`CryptoError::SecretMemory`].
    pub fn unwrap(&self, file: &[u8]) -> Result<MasterKey, CryptoError> {
        if file.len() > AGE_FILE_MAX {
            return Err(CryptoError::Authentication);
        }
        wiping_stack::<STACK_OF_AGE, _>(|| {
            let keys = self.keys()?;
            let keys = keys.iter().map(|key| match key {
                Key::X25519(key) => key as &dyn age::Identity,
                Key::Ssh(key) => key,
            });
            let decryptor = age::Decryptor::new_buffered(file).map_err(|_| CryptoError::Authentication)?;
            if decryptor.is_scrypt() {
                return Err(CryptoError::Authentication);
            }
            let mut reader = decryptor.decrypt(keys).map_err(|_| CryptoError::Authentication)?;
            MasterKey::fill(|bytes| {
                reader.read_exact(bytes).map_err(|_| CryptoError::Authentication)?;
                match reader.read(&mut [0]) {
                    Ok(0) => Ok(()),
                    _ => Err(CryptoError::Authentication),
                }
            })
        })
    }

    /// The keys, decrypted.
    fn keys(&self) -> Result<Vec<Key>, CryptoError> {
        parse(self.text.bytes())?.into_iter().map(|key| key.decrypt(self.passphrase.as_ref())).collect()
    }
}

impl Key {
    fn recipient(&self) -> Result<String, CryptoError> {
        match self {
            Self::X25519(key) => Ok(key.to_public().to_string()),
            Self::Ssh(key) => age::ssh::Recipient::try_from(key.clone())
                .map(|recipient| recipient.to_string())
                .map_err(|_| refused("its public half cannot be used")),
        }
    }

    fn decrypt(self, passphrase: Option<&Passphrase>) -> Result<Self, CryptoError> {
        let Self::Ssh(age::ssh::Identity::Encrypted(key)) = self else { return Ok(self) };
        let passphrase = passphrase.ok_or(CryptoError::IdentityPassphrase)?;
        let text = passphrase.expose(|bytes| std::str::from_utf8(bytes).map(|text| text.to_owned().into()));
        let text = text.map_err(|_| CryptoError::IdentityPassphrase)?;
        let key = key.decrypt(text).map_err(|_| CryptoError::IdentityPassphrase)?;
        Ok(Self::Ssh(key.into()))
    }
}

fn refused(reason: &str) -> CryptoError {
    CryptoError::Identity(reason.to_owned())
}

fn parse(text: &[u8]) -> Result<Vec<Key>, CryptoError> {
    let text = std::str::from_utf8(text).map_err(|_| refused("it is no text"))?;
    let first = text.trim_start().lines().next().unwrap_or_default();
    if first.starts_with("age-encryption.org/") || first.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
        return Err(refused("it is encrypted with a passphrase; decrypt it first: age -d FILE"));
    }
    if first.starts_with("-----BEGIN") {
        return parse_ssh(text.trim_start()).map(|key| vec![Key::Ssh(key)]);
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(|line| parse_line(line).map(Key::X25519)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(refused("there is no secret key in it")) } else { Ok(keys) }
}

/// Parses one line; nothing of it is told but the name of a plugin.
fn parse_line(line: &str) -> Result<age::x25519::Identity, CryptoError> {
    let is_lower = line.get(..SECRET_KEY.len()).is_some_and(|start| start == SECRET_KEY.to_ascii_lowercase());
    let line = Zeroizing::new(if is_lower { line.to_ascii_uppercase() } else { line.to_owned() });
    if line.starts_with(SECRET_KEY) {
        return line.parse().map_err(|_| refused("the secret key in it is misspelt"));
    }
    if let Some(plugin) = line.strip_prefix("AGE-PLUGIN-") {
        let name: String = plugin.split("-1").next().unwrap_or_default().chars().take(40).collect();
        let name = name.to_ascii_lowercase();
        return Err(refused(&format!("it is for age-plugin-{name}, and no plugin is run")));
    }
    Err(match line.as_str() {
        line if line.starts_with("AGE-SECRET-KEY-") => {
            refused("its kind of secret key is not supported, only AGE-SECRET-KEY-1…")
        }
        line if line.starts_with("age1") || line.starts_with("ssh-") => {
            refused("it is a public key, and the secret one is what is wanted")
        }
        _ => refused("it is neither AGE-SECRET-KEY-1… nor an SSH private key"),
    })
}

fn parse_ssh(text: &str) -> Result<age::ssh::Identity, CryptoError> {
    use age::ssh::{Identity, UnsupportedKey};
    match Identity::from_buffer(text.as_bytes(), None) {
        Ok(Identity::Unsupported(key)) => Err(match key {
            UnsupportedKey::EncryptedPem => {
                refused("it is encrypted in an old way; 'ssh-keygen -o -p -f FILE' changes that")
            }
            UnsupportedKey::EncryptedSsh(cipher) => {
                refused(&format!("it is encrypted with {cipher}, which is not supported"))
            }
            UnsupportedKey::Hardware(kind) | UnsupportedKey::Type(kind) => {
                refused(&format!("keys of type {kind} are not supported, only ssh-ed25519 and ssh-rsa"))
            }
        }),
        Ok(key) => Ok(key),
        Err(_) => Err(refused("it is no private key that can be read")),
    }
}

#[cfg(test)]
mod tests;
