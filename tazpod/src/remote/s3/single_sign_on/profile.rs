//! What the AWS tools' files say about a profile's single sign-on: by a section `sso-session`, or by keys of the profile itself,
//! which is the older form.

use std::borrow::Cow;

use aws_config::profile::{Profile, ProfileSet};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};

use crate::remote::RemoteError;

/// Asked for where a session names no scopes: without it there is no token that renews itself.
const DEFAULT_SCOPE: &str = "sso:account:access";
/// How many profiles may take their credentials from the next one.
const CHAIN_MAX: usize = 8;

/// What is signed in to.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// The profile that has it.
    pub profile: String,
    /// Name of the section; `None`: the older form.
    pub name: Option<String>,
    /// Where people sign in.
    pub start_url: String,
    /// The service's region, which need not be a bucket's.
    pub region: String,
    /// What the token is for; empty in the older form.
    pub scopes: Vec<String>,
    /// Account and role that the profile gets keys of for a token, if it gets any.
    pub role: Option<(String, String)>,
}

impl Session {
    /// Reads the vault's files, or this machine's where there are none.
    ///
    /// # Errors
    /// [`RemoteError::NoProfile`], [`RemoteError::NotSingleSignOn`].
    pub async fn of(profile: &str, files: Option<&EnvConfigFiles>) -> Result<Self, RemoteError> {
        let machine = EnvConfigFiles::default();
        let selected = Some(Cow::Owned(profile.to_owned()));
        let set = aws_config::profile::load(&Fs::real(), &Env::real(), files.unwrap_or(&machine), selected).await;
        let set = set.map_err(|error| RemoteError::Credentials(super::super::failure::innermost(&error)))?;
        Self::find(profile, &set)
    }

    /// What is used to look a token up, and hashed for the name of its file.
    pub fn cache_key(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.start_url)
    }

    fn find(wanted: &str, set: &ProfileSet) -> Result<Self, RemoteError> {
        let mut name = wanted;
        for _ in 0..CHAIN_MAX {
            let profile = set.get_profile(name).ok_or_else(|| RemoteError::NoProfile(name.to_owned()))?;
            if let Some(session) = Self::within(profile, set)? {
                return Ok(session);
            }
            match profile.get("source_profile") {
                Some(next) if next != name => name = next,
                _ => break,
            }
        }
        let reason = "it has neither sso_session nor sso_start_url".to_owned();
        Err(RemoteError::NotSingleSignOn { profile: wanted.to_owned(), reason })
    }

    /// `None`: the profile is of another kind.
    fn within(profile: &Profile, set: &ProfileSet) -> Result<Option<Self>, RemoteError> {
        let wrong = |reason: String| RemoteError::NotSingleSignOn { profile: profile.name().to_owned(), reason };
        let missing = |what: &str| wrong(format!("{what} is missing"));
        let profile_name = profile.name().to_owned();
        let role = profile.get("sso_account_id").zip(profile.get("sso_role_name"));
        let role = role.map(|(account, name)| (account.to_owned(), name.to_owned()));
        if let Some(name) = profile.get("sso_session") {
            let section =
                set.sso_session(name).ok_or_else(|| wrong(format!("there is no section [sso-session {name}]")))?;
            let value = |key: &str| section.get(key).map(str::to_owned).ok_or_else(|| missing(key));
            let scopes = section.get("sso_registration_scopes").map(scopes).filter(|scopes| !scopes.is_empty());
            return Ok(Some(Self {
                profile: profile_name,
                name: Some(name.to_owned()),
                start_url: value("sso_start_url")?,
                region: value("sso_region")?,
                scopes: scopes.unwrap_or_else(|| vec![DEFAULT_SCOPE.to_owned()]),
                role,
            }));
        }
        let Some(start_url) = profile.get("sso_start_url") else { return Ok(None) };
        let region = profile.get("sso_region").ok_or_else(|| missing("sso_region"))?.to_owned();
        let start_url = start_url.to_owned();
        Ok(Some(Self { profile: profile_name, name: None, start_url, region, scopes: Vec::new(), role }))
    }
}

fn scopes(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use aws_runtime::env_config::file::EnvConfigFileKind;

    use super::*;

    fn find(config: &str, profile: &str) -> Result<Session, RemoteError> {
        let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, config).build();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Session::of(profile, Some(&files)))
    }

    const SESSION: &str = "[profile lab]\nsso_session = work\nsso_account_id = 1\nsso_role_name = r\n\
                           [profile role]\nrole_arn = arn\nsource_profile = lab\n\
                           [profile loop]\nsource_profile = loop\n\
                           [sso-session work]\nsso_start_url = https://s\nsso_region = eu-west-1\n";

    #[test]
    fn both_forms_are_read_and_profiles_lead_to_each_other() {
        for profile in ["lab", "role"] {
            let session = find(SESSION, profile).unwrap();
            assert_eq!((session.profile.as_str(), session.cache_key()), ("lab", "work"));
            assert_eq!((session.start_url.as_str(), session.region.as_str()), ("https://s", "eu-west-1"));
            assert_eq!(session.scopes, [DEFAULT_SCOPE]);
        }
        let scoped = format!("{SESSION}sso_registration_scopes = a:b, c,,\n");
        assert_eq!(find(&scoped, "lab").unwrap().scopes, ["a:b", "c"]);
        let old = "[default]\nsso_start_url = https://o\nsso_region = us-east-1\n";
        let session = find(old, "default").unwrap();
        assert_eq!((session.cache_key(), session.scopes.len()), ("https://o", 0));
    }

    #[test]
    fn what_is_no_single_sign_on_is_told() {
        let told = |config: &str, profile: &str| find(config, profile).unwrap_err().to_string();
        assert!(told(SESSION, "nobody").contains("no profile 'nobody'"));
        assert!(told(SESSION, "loop").contains("neither sso_session nor sso_start_url"));
        assert!(told("[profile p]\nsso_session = s\n", "p").contains("[sso-session s]"));
        assert!(told("[profile p]\nsso_start_url = https://s\n", "p").contains("sso_region is missing"));
        assert!(told("[profile p]\nsource_profile = q\n", "p").contains("no profile 'q'"));
    }
}
