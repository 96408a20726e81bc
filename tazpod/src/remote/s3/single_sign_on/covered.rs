//! A token that a bridge covers: somebody signed in while the vault was locked, and the AWS libraries look in the home only, where the
//! vault's `.aws` lies now. Keys for it are asked for here, and it is renewed in its place, as the libraries do.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::Credentials;
use aws_sdk_sso::types::RoleCredentials;
use aws_smithy_types::DateTime;

use super::super::client::Patience;
use super::cache;
use super::device::Token;
use super::profile::Session;

/// A token that ends so soon is renewed before it is used; as the libraries have it.
const SOON: Duration = Duration::from_secs(5 * 60);
const GRANT: &str = "refresh_token";

/// Gives keys for such a token.
#[derive(Debug)]
pub struct CoveredToken {
    cache: PathBuf,
    session: Session,
    account: String,
    role: String,
    keys: aws_sdk_sso::Client,
    renewals: aws_sdk_ssooidc::Client,
}

impl CoveredToken {
    /// Finds the token of a profile below the covered `.aws`. `None`: the profile is of another kind, or the token that the libraries
    /// find is as good. Nothing goes over the network.
    pub async fn find(profile: &str, files: Option<&EnvConfigFiles>, aws: &Path, patience: Patience) -> Option<Self> {
        // One that takes its credentials from another profile is left to the libraries.
        let session = Session::of(profile, files).await.ok().filter(|session| session.profile == profile)?;
        let (account, role) = session.role.clone()?;
        let cache = cache::within(aws);
        let beneath = cache::read(&cache, &session)?.expires_at;
        let visible = cache::of_the_home().and_then(|cache| cache::read(&cache, &session));
        // Whoever signs in anew does so above, and that counts.
        if visible.is_some_and(|token| token.expires_at > SystemTime::now() || token.expires_at >= beneath) {
            return None;
        }
        let config = super::service_config(&session, files, patience).await;
        let (keys, renewals) = (aws_sdk_sso::Client::new(&config), aws_sdk_ssooidc::Client::new(&config));
        Some(Self { cache, session, account, role, keys, renewals })
    }

    async fn credentials(&self) -> provider::Result {
        let token = self.token().await.ok_or_else(|| CredentialsError::provider_error("the sign-in has expired"))?;
        let call = self.keys.get_role_credentials().access_token(token.access.as_str());
        let answer = call.account_id(&self.account).role_name(&self.role).send().await;
        let keys = answer.map_err(CredentialsError::provider_error)?.role_credentials;
        keys.and_then(credentials_of)
            .ok_or_else(|| CredentialsError::provider_error("the answer of the sign-in service is incomplete"))
    }

    /// The token, if it is good.
    async fn token(&self) -> Option<Token> {
        let now = SystemTime::now();
        let token = cache::read(&self.cache, &self.session)?;
        if token.expires_at > now + SOON {
            return Some(token);
        }
        match self.renew(&token).await {
            Some(renewed) => Some(renewed),
            None => Some(token).filter(|token| token.expires_at > now),
        }
    }

    async fn renew(&self, token: &Token) -> Option<Token> {
        let client = token.registration.clone().filter(|client| client.expires_at > SystemTime::now())?;
        let refresh = token.refresh.as_ref()?;
        let call = self.renewals.create_token().grant_type(GRANT).refresh_token(refresh.as_str());
        let answer = call.client_id(&client.id).client_secret(client.secret.as_str()).send().await;
        let granted = answer.inspect_err(|error| tracing::info!(%error, "the sign-in cannot be renewed")).ok()?;
        let mut renewed = Token::granted(granted, client)?;
        renewed.refresh = renewed.refresh.or_else(|| token.refresh.clone());
        if let Err(error) = cache::write(&self.cache, &self.session, &renewed) {
            tracing::warn!(%error, "the renewed sign-in cannot be kept");
        }
        Some(renewed)
    }
}

impl ProvideCredentials for CoveredToken {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

fn credentials_of(keys: RoleCredentials) -> Option<Credentials> {
    let expiry = SystemTime::try_from(DateTime::from_millis(keys.expiration)).ok();
    Some(Credentials::new(keys.access_key_id?, keys.secret_access_key?, keys.session_token, expiry, "sso"))
}
