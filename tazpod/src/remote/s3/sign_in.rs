//! A token of single sign-on that a bridge covers: `aws sso login` left it in the home while the vault was locked, and the SDK looks
//! for it in the home only, where the vault's `.aws` lies now.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_smithy_types::timeout::TimeoutConfig;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::FieldFormat;
use crate::environment::field;

/// Where tokens are, in `.aws`.
const CACHE: &str = "sso/cache";
/// The address of the service, where it is another one than Amazon's; as the SDK has it.
const ENDPOINT: &str = "AWS_ENDPOINT_URL_SSO";

/// Keys for a token that is somewhere else than the SDK thinks. No key is logged: Debug shows the file's name only.
#[derive(Debug)]
pub struct CoveredToken {
    file: PathBuf,
    region: String,
    account: String,
    role: String,
    http: SharedHttpClient,
    timeouts: TimeoutConfig,
}

/// What a token file holds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    // Wiped when it is freed, as all that this program allocates.
    access_token: String,
    expires_at: Option<String>,
}

impl CoveredToken {
    /// Finds the token of a profile below the covered `.aws`; `None`: the profile is of another kind, or there is no token, or there
    /// is one where the SDK looks.
    pub fn find(
        config: &str,
        profile: &str,
        covered: &Path,
        http: SharedHttpClient,
        timeouts: TimeoutConfig,
    ) -> Option<Self> {
        let section = if profile == "default" { "default".to_owned() } else { format!("profile {profile}") };
        let of = |section: &str, key: &str| field(config, FieldFormat::Ini, &format!("{section}.{key}")).ok();
        let session = of(&section, "sso_session");
        // A session goes before what old profiles say themselves.
        let (named_by, region) = match session {
            Some(name) => (name.clone(), of(&format!("sso-session {name}"), "sso_region")?),
            None => (of(&section, "sso_start_url")?, of(&section, "sso_region")?),
        };
        let name = Path::new(CACHE).join(format!("{}.json", sha1(&named_by)));
        let in_home = std::env::home_dir().map(|home| home.join(".aws").join(&name));
        let file = covered.join(name);
        if in_home.is_some_and(|path| path.exists()) || !file.exists() {
            return None;
        }
        let (account, role) = (of(&section, "sso_account_id")?, of(&section, "sso_role_name")?);
        Some(Self { file, region, account, role, http, timeouts })
    }

    async fn keys(&self) -> provider::Result {
        let token = std::fs::read(&self.file).map(Zeroizing::new).map_err(CredentialsError::provider_error)?;
        let token: Token = serde_json::from_slice(&token)
            .map_err(|_| CredentialsError::provider_error("the token of the sign-in cannot be read"))?;
        let until = token.expires_at.as_deref().and_then(|text| DateTime::from_str(text, Format::DateTime).ok());
        if until.is_some_and(|until| until < DateTime::from(SystemTime::now())) {
            return Err(CredentialsError::provider_error("the sign-in has expired"));
        }
        let answer = self
            .client()
            .get_role_credentials()
            .access_token(token.access_token.as_str())
            .account_id(&self.account)
            .role_name(&self.role)
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let keys = answer.role_credentials();
        let (Some(id), Some(secret)) =
            (keys.and_then(|keys| keys.access_key_id()), keys.and_then(|keys| keys.secret_access_key()))
        else {
            return Err(CredentialsError::provider_error("the sign-in service gave no keys"));
        };
        let expiry = keys.map(|keys| DateTime::from_millis(keys.expiration()));
        let expiry = expiry.and_then(|expiry| SystemTime::try_from(expiry).ok());
        let session_token = keys.and_then(|keys| keys.session_token()).map(str::to_owned);
        Ok(Credentials::new(id, secret, session_token, expiry, "sso"))
    }

    fn client(&self) -> aws_sdk_sso::Client {
        let mut config = aws_sdk_sso::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .http_client(self.http.clone())
            .timeout_config(self.timeouts.clone());
        config.set_endpoint_url(std::env::var(ENDPOINT).ok().filter(|url| !url.is_empty()));
        aws_sdk_sso::Client::from_conf(config.build())
    }
}

impl ProvideCredentials for CoveredToken {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.keys())
    }
}

/// Names a token file, as all AWS tools do.
fn sha1(text: &str) -> String {
    use sha1::Digest;
    sha1::Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_are_named_as_the_aws_tools_name_them() {
        assert_eq!(sha1("admin"), "d033e22ae348aeb5660fc2140aec35850c4da997");
    }
}
