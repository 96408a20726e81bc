//! Single sign-on without the AWS command line: which session a profile signs in to, the device authorization of its service
//! (RFC 8628), and the token cache that the AWS tools share. Asks nobody and shows nothing; the caller is handed the code.

mod cache;
mod device;
mod profile;

use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::retry::RetryConfig;
use tokio::runtime::Runtime;

use crate::remote::RemoteError;
use crate::remote::credentials::VaultFiles;

use super::client::{Patience, env_config_files, http_client};
use super::failure::Failures;
pub use device::DeviceCode;
use profile::Session;

/// A profile that can be signed in to.
pub struct SignIn {
    runtime: Runtime,
    session: Session,
    files: Option<EnvConfigFiles>,
}

impl SignIn {
    /// Looks a profile up, in the vault's files where they hold it, else in this machine's. Nothing goes over the network.
    ///
    /// # Errors
    /// [`RemoteError::NoProfile`], [`RemoteError::NotSingleSignOn`].
    pub fn find(profile: &str, vault: &mut VaultFiles) -> Result<Self, RemoteError> {
        let runtime = super::runtime()?;
        let files = vault.aws_files_with(profile).map(env_config_files);
        let session = runtime.block_on(Session::of(profile, files.as_ref()))?;
        Ok(Self { runtime, session, files })
    }

    /// The profile that names the session: the one that was asked for, or one that it takes its credentials from.
    pub fn profile(&self) -> &str {
        &self.session.profile
    }

    /// Whether the profile is the vault's and not this machine's.
    pub fn is_of_the_vault(&self) -> bool {
        self.files.is_some()
    }

    /// Until when the token in the cache is good; `None`: there is none.
    pub fn signed_in_until(&self) -> Option<SystemTime> {
        cache::expiry(&self.session)
    }

    /// Signs in: hands over the code that somebody has to confirm, waits until they did, and writes the token to the cache. Nothing is
    /// written before. Returns until when it is good.
    ///
    /// # Errors
    /// [`RemoteError::SignInDenied`], [`RemoteError::SignInTimedOut`], [`RemoteError::SignInRefused`], and those of connections.
    pub fn by_device(&self, tell: &mut dyn FnMut(&DeviceCode)) -> Result<SystemTime, RemoteError> {
        let token = self.runtime.block_on(async {
            let device =
                device::Device { client: self.client().await, session: &self.session, failures: self.failures() };
            device.sign_in(tell).await
        })?;
        cache::write(&self.session, &token)?;
        Ok(token.expires_at)
    }

    /// With the settings of environment and profile, as those have it who use the token afterwards.
    async fn client(&self) -> aws_sdk_ssooidc::Client {
        let patience = Patience::default();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.session.region.clone()))
            .http_client(http_client(None))
            .no_credentials()
            .profile_name(&self.session.profile)
            .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts))
            .timeout_config(patience.timeouts(0));
        if let Some(files) = &self.files {
            loader = loader.profile_files(files.clone());
        }
        aws_sdk_ssooidc::Client::new(&loader.load().await)
    }

    fn failures(&self) -> Failures {
        let place = format!("the sign-in service in {}", self.session.region);
        Failures { place, source: format!("the profile '{}'", self.session.profile) }
    }
}
