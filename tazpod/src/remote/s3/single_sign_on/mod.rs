//! Single sign-on without the AWS command line: which session a profile signs in to, the device authorization of its service
//! (RFC 8628), and the token cache that the AWS tools share. Asks nobody and shows nothing; the caller is handed the code.

mod cache;
mod covered;
mod device;
mod profile;

use std::path::PathBuf;
use std::time::SystemTime;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::retry::RetryConfig;
use tokio::runtime::Runtime;

use crate::remote::RemoteError;
use crate::remote::credentials::VaultFiles;

use super::client::{Patience, env_config_files, http_client};
use super::failure::Failures;
pub use covered::CoveredToken;
pub use device::DeviceCode;
use profile::Session;

/// A profile that can be signed in to.
pub struct SignIn {
    runtime: Runtime,
    session: Session,
    files: Option<EnvConfigFiles>,
    origin: Origin,
}

/// Whose files hold a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The vault's.
    Vault,
    /// This machine's, which a bridge covers; a way to their folder.
    Covered(PathBuf),
    /// This machine's.
    Machine,
}

impl SignIn {
    /// Looks a profile up, in the vault's files where they hold it, else in this machine's, also beneath a bridge. Nothing goes over the
    /// network.
    ///
    /// # Errors
    /// [`RemoteError::NoProfile`], [`RemoteError::NotSingleSignOn`].
    pub fn find(profile: &str, vault: &mut VaultFiles) -> Result<Self, RemoteError> {
        let runtime = super::runtime()?;
        let (files, origin) = match (vault.aws_files_with(profile), vault.covered_folder().map(PathBuf::from)) {
            (Some(files), _) => (Some(files), Origin::Vault),
            (None, Some(folder)) => match vault.covered_files_with(profile) {
                Some(files) => (Some(files), Origin::Covered(folder)),
                None => (None, Origin::Machine),
            },
            (None, None) => (None, Origin::Machine),
        };
        let files = files.map(env_config_files);
        let session = runtime.block_on(Session::of(profile, files.as_ref()))?;
        Ok(Self { runtime, session, files, origin })
    }

    /// The profile that names the session: the one that was asked for, or one that it takes its credentials from.
    pub fn profile(&self) -> &str {
        &self.session.profile
    }

    /// Where the profile is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Until when the token in the cache is good; `None`: there is none.
    pub fn signed_in_until(&self) -> Option<SystemTime> {
        cache::read(&cache::of_the_home()?, &self.session).map(|token| token.expires_at)
    }

    /// Signs in: hands over the code that somebody has to confirm, waits until they did, and writes the token to the cache. Nothing is
    /// written before. Returns until when it is good.
    ///
    /// # Errors
    /// [`RemoteError::SignInDenied`], [`RemoteError::SignInTimedOut`], [`RemoteError::SignInRefused`], and those of connections.
    pub fn by_device(&self, tell: &mut dyn FnMut(&DeviceCode)) -> Result<SystemTime, RemoteError> {
        let cache =
            cache::of_the_home().ok_or_else(|| RemoteError::Credentials("there is no home folder".to_owned()))?;
        cache::require_writable(&cache)?;
        let token = self.runtime.block_on(async {
            let device =
                device::Device { client: self.client().await, session: &self.session, failures: self.failures() };
            device.sign_in(tell).await
        })?;
        cache::write(&cache, &self.session, &token)?;
        Ok(token.expires_at)
    }

    async fn client(&self) -> aws_sdk_ssooidc::Client {
        aws_sdk_ssooidc::Client::new(&service_config(&self.session, self.files.as_ref(), Patience::default()).await)
    }

    fn failures(&self) -> Failures {
        let place = format!("the sign-in service in {}", self.session.region);
        Failures { place, source: format!("the profile '{}'", self.session.profile) }
    }
}

/// How the services are reached: with the settings of environment and profile, as those have it who use the token afterwards.
async fn service_config(session: &Session, files: Option<&EnvConfigFiles>, patience: Patience) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(session.region.clone()))
        .http_client(http_client(None))
        .no_credentials()
        .profile_name(&session.profile)
        .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts))
        .timeout_config(patience.timeouts(0));
    if let Some(files) = files {
        loader = loader.profile_files(files.clone());
    }
    loader.load().await
}
