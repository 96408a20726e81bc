//! Which credentials are used: those in the environment, else those in the unlocked vault, else a profile's. Pure; bytes come
//! from the caller and stay in memory.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Within a vault, as the AWS tools have them in the home. The old tool's files hold one value each, in the vault's root.
const CREDENTIALS: &str = ".aws/credentials";
const CONFIG: &str = ".aws/config";
/// More than this is no file of credentials.
pub const VAULT_FILE_MAX: u64 = 256 * 1024;

/// The profile that is used when nothing names one.
pub const DEFAULT_PROFILE: &str = "default";

type Secret = Zeroizing<String>;

/// A key as services take it. No Debug: it would be shown somewhere.
pub struct Keys {
    /// Names it.
    pub id: String,
    /// Proves it.
    pub secret: Secret,
    /// Of a key that ends.
    pub token: Option<Secret>,
}

/// The files of the AWS tools, as texts.
#[derive(Default)]
pub struct AwsFiles {
    /// `.aws/credentials`
    pub credentials: Option<Secret>,
    /// `.aws/config`
    pub config: Option<Secret>,
}

/// What an unlocked vault holds of credentials; nothing when it is locked.
#[derive(Default)]
pub struct VaultFiles {
    aws: AwsFiles,
    keys: Option<Keys>,
    covered: Option<Covered>,
}

/// The `.aws` of the home, which a bridge from the vault covers.
struct Covered {
    folder: PathBuf,
    aws: AwsFiles,
}

/// Where credentials come from.
pub enum Source {
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    Environment(Keys),
    /// A profile in the vault's own `.aws`.
    VaultProfile {
        /// Its name.
        profile: String,
        /// Where it is.
        files: AwsFiles,
    },
    /// The old tool's files in the vault.
    VaultKeys(Keys),
    /// A profile of this machine, single sign-on included.
    Profile {
        /// Its name.
        profile: String,
        /// Where it is, if a bridge covers it: nobody else finds it then.
        covered: Option<AwsFiles>,
    },
}

impl VaultFiles {
    /// Reads what there is, with a function that gives the bytes at a path within the vault.
    pub fn read(mut bytes_of: impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>) -> Self {
        let mut text = |path: &str| {
            let bytes = bytes_of(path).filter(|bytes| bytes.len() as u64 <= VAULT_FILE_MAX)?;
            let text = std::str::from_utf8(&bytes).ok()?;
            Some(Zeroizing::new(text.to_owned())).filter(|text| !text.trim().is_empty())
        };
        let mut value = |name: &str| {
            let found = text(name).or_else(|| text(&name.replace('_', "-")))?;
            Some(Zeroizing::new(found.trim().to_owned()))
        };
        let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Some(Keys { id: id.to_string(), secret, token: value("aws_session_token") }),
            _ => None,
        };
        Self { aws: AwsFiles { credentials: text(CREDENTIALS), config: text(CONFIG) }, keys, covered: None }
    }

    /// Adds what lies beneath a bridge to the home's `.aws`: a way to that folder, and the bytes of its files.
    #[must_use]
    pub fn over(mut self, folder: PathBuf, bytes_of: impl FnMut(&str) -> Option<Zeroizing<Vec<u8>>>) -> Self {
        self.covered = Some(Covered { folder, aws: Self::read(bytes_of).aws });
        self
    }

    /// A way to the home's `.aws`, if a bridge covers it.
    pub fn covered_folder(&self) -> Option<&Path> {
        self.covered.as_ref().map(|covered| covered.folder.as_path())
    }

    /// Takes the files beneath a bridge out, if they hold a profile.
    pub fn covered_files_with(&mut self, profile: &str) -> Option<AwsFiles> {
        let covered = self.covered.as_mut().filter(|covered| covered.aws.has_profile(profile))?;
        Some(std::mem::take(&mut covered.aws))
    }

    /// Takes the files of the AWS tools out, if they hold a profile.
    pub fn aws_files_with(&mut self, profile: &str) -> Option<AwsFiles> {
        self.aws.has_profile(profile).then(|| std::mem::take(&mut self.aws))
    }
}

impl AwsFiles {
    fn has_profile(&self, profile: &str) -> bool {
        let in_config = if profile == DEFAULT_PROFILE { profile.to_owned() } else { format!("profile {profile}") };
        has_section(&self.credentials, profile)
            || has_section(&self.config, &in_config)
            || (profile == DEFAULT_PROFILE && has_section(&self.config, "profile default"))
    }
}

/// Decides. Keys in the environment go before everything, so that they never cause a call to a sign-in service.
/// `configured` is the profile that the remote names.
pub fn choose(variable: impl Fn(&str) -> Option<String>, vault: &mut VaultFiles, configured: Option<&str>) -> Source {
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let (Some(id), Some(secret)) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY")) {
        let token = value("AWS_SESSION_TOKEN").map(Zeroizing::new);
        return Source::Environment(Keys { id, secret: Zeroizing::new(secret), token });
    }
    let profile = configured.map(str::to_owned).or_else(|| value("AWS_PROFILE"));
    let profile = profile.unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
    if let Some(files) = vault.aws_files_with(&profile) {
        return Source::VaultProfile { profile, files };
    }
    match vault.keys.take() {
        Some(keys) => Source::VaultKeys(keys),
        None => Source::Profile { covered: vault.covered_files_with(&profile), profile },
    }
}

impl Source {
    /// What people are told.
    pub fn name(&self) -> String {
        match self {
            Self::Environment(_) => "the environment".to_owned(),
            Self::VaultProfile { profile, .. } => format!("the profile '{profile}' in the vault"),
            Self::VaultKeys(_) => "the key files in the vault".to_owned(),
            Self::Profile { profile, .. } => format!("the profile '{profile}' of this machine"),
        }
    }
}

/// Whether an INI file has a section.
fn has_section(text: &Option<Secret>, name: &str) -> bool {
    let Some(text) = text else { return false };
    text.lines().any(|line| {
        let inner = line.trim().strip_prefix('[').and_then(|rest| rest.split_once(']'));
        inner.is_some_and(|(section, _)| section.split_whitespace().eq(name.split_whitespace()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(files: &[(&str, &str)]) -> VaultFiles {
        VaultFiles::read(|path| {
            let found = files.iter().find(|(name, _)| *name == path)?;
            Some(Zeroizing::new(found.1.as_bytes().to_vec()))
        })
    }

    fn chosen(environment: &[(&str, &str)], files: &[(&str, &str)], profile: Option<&str>) -> String {
        let variable = |name: &str| Some(environment.iter().find(|(key, _)| *key == name)?.1.to_owned());
        choose(variable, &mut vault(files), profile).name()
    }

    const ENVIRONMENT: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "SK")];
    const OLD: &[(&str, &str)] = &[("aws-access-key-id", "AKOLD\n"), ("aws-secret-access-key", " SKOLD\n")];

    #[test]
    fn the_environment_goes_before_the_vault_which_goes_before_a_profile() {
        let files = [(".aws/credentials", "[default]\naws_access_key_id = A\n"), OLD[0], OLD[1]];
        assert_eq!(chosen(ENVIRONMENT, &files, Some("sso")), "the environment");
        assert_eq!(chosen(&[], &files, None), "the profile 'default' in the vault");
        assert_eq!(chosen(&[], &files, Some("sso")), "the key files in the vault");
        assert_eq!(chosen(&[], OLD, None), "the key files in the vault");
        assert_eq!(chosen(&[], &files[..1], Some("sso")), "the profile 'sso' of this machine");
        assert_eq!(chosen(&[("AWS_PROFILE", "lab")], &[], None), "the profile 'lab' of this machine");
        assert_eq!(chosen(&[], &[], None), "the profile 'default' of this machine");
    }

    #[test]
    fn what_a_bridge_covers_comes_after_the_vault_and_is_this_machines() {
        let covered = |files: &[(&str, &str)]| {
            let beneath = |path: &str| (path == CONFIG).then(|| Zeroizing::new(b"[profile lab]\n".to_vec()));
            vault(files).over("/beneath".into(), beneath)
        };
        let chosen = |mut files: VaultFiles, profile| choose(|_| None, &mut files, Some(profile));
        let source = chosen(covered(&[]), "lab");
        assert_eq!(source.name(), "the profile 'lab' of this machine");
        assert!(matches!(source, Source::Profile { covered: Some(_), .. }));
        assert!(matches!(chosen(covered(&[]), "other"), Source::Profile { covered: None, .. }));
        assert!(matches!(chosen(covered(OLD), "lab"), Source::VaultKeys(_)));
        let both = covered(&[(CONFIG, "[profile lab]\n")]);
        assert_eq!(both.covered_folder(), Some(Path::new("/beneath")));
        assert!(matches!(chosen(both, "lab"), Source::VaultProfile { .. }));
    }

    #[test]
    fn half_a_key_is_none() {
        assert_eq!(chosen(&ENVIRONMENT[..1], &OLD[..1], None), "the profile 'default' of this machine");
        let empty = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "SK")];
        assert_eq!(chosen(&empty, &[], None), "the profile 'default' of this machine");
    }

    #[test]
    fn profiles_are_found_as_the_aws_tools_name_them() {
        let config = [(".aws/config", "# [profile no]\n[ profile  lab ]\nsso_session = s\n[default]\n")];
        assert_eq!(chosen(&[], &config, Some("lab")), "the profile 'lab' in the vault");
        assert_eq!(chosen(&[], &config, None), "the profile 'default' in the vault");
        assert_eq!(chosen(&[], &config, Some("no")), "the profile 'no' of this machine");
        let credentials = [(".aws/credentials", "[lab]\n")];
        assert_eq!(chosen(&[("AWS_PROFILE", "lab")], &credentials, None), "the profile 'lab' in the vault");
    }

    #[test]
    fn key_files_are_trimmed_and_both_spellings_count() {
        let files = [("aws_access_key_id", "AK\n"), OLD[1], ("aws_session_token", "T\r\n")];
        let keys = vault(&files).keys.unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("AK", "SKOLD"));
        assert_eq!(keys.token.unwrap().as_str(), "T");
    }
}
