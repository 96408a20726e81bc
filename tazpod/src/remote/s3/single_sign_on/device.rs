//! The device authorization: a client is registered, a code is asked for, and then it is asked again and again, as often as the
//! service allows, whether somebody confirmed it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_ssooidc::Client;
use aws_sdk_ssooidc::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssooidc::operation::create_token::{CreateTokenError, CreateTokenOutput};
use aws_sdk_ssooidc::operation::register_client::RegisterClientOutput;
use aws_sdk_ssooidc::operation::start_device_authorization::StartDeviceAuthorizationOutput;
use zeroize::Zeroizing;

use crate::remote::RemoteError;
use crate::remote::s3::failure::{CallError, Failures};

use super::profile::Session;

/// Names the program to the service.
const CLIENT_NAME: &str = "tazpod";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What RFC 8628 says where the service does not: between two questions, and what is added when they come too fast.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a code is good where the service does not say.
const CODE_LIFE: Duration = Duration::from_secs(600);

/// What somebody has to confirm, and where.
pub struct DeviceCode {
    /// The page.
    pub url: String,
    /// The page with the code filled in.
    pub url_with_code: String,
    /// The code.
    pub code: String,
    /// How long it is good.
    pub life: Duration,
}

/// A token, and what renews it. No Debug: it would be shown somewhere.
pub struct Token {
    /// The token itself.
    pub access: Zeroizing<String>,
    /// Until when it is good.
    pub expires_at: SystemTime,
    /// Gets the next one.
    pub refresh: Option<Zeroizing<String>>,
    /// The client that it was given to.
    pub registration: Option<Registration>,
}

/// A client that the service knows. No Debug, as above.
#[derive(Clone)]
pub struct Registration {
    /// Names it.
    pub id: String,
    /// Proves it.
    pub secret: Zeroizing<String>,
    /// Until when it is known.
    pub expires_at: SystemTime,
}

/// A sign-in that is under way.
pub struct Device<'a> {
    /// The service.
    pub client: Client,
    /// What is signed in to.
    pub session: &'a Session,
    /// What errors name.
    pub failures: Failures,
}

/// What the service says before the end.
enum Wait {
    /// Nobody confirmed it yet.
    Same,
    /// That was too soon.
    Longer,
}

impl Device<'_> {
    /// Does all of it.
    pub async fn sign_in(&self, tell: &mut dyn FnMut(&DeviceCode)) -> Result<Token, RemoteError> {
        let registered = self.register().await?;
        let authorization = self.authorize(&registered).await?;
        let code = self.code(&authorization)?;
        tell(&code);
        let granted = self.wait(&registered, &authorization, code.life).await?;
        self.token(registered, granted)
    }

    async fn register(&self) -> Result<RegisterClientOutput, RemoteError> {
        let scopes = Some(self.session.scopes.clone()).filter(|scopes| !scopes.is_empty());
        let call = self.client.register_client().client_name(CLIENT_NAME).client_type("public").set_scopes(scopes);
        call.send().await.map_err(|error| self.refused(error))
    }

    async fn authorize(&self, client: &RegisterClientOutput) -> Result<StartDeviceAuthorizationOutput, RemoteError> {
        let call = self.client.start_device_authorization().start_url(&self.session.start_url);
        let call = call.set_client_id(client.client_id.clone()).set_client_secret(client.client_secret.clone());
        call.send().await.map_err(|error| self.refused(error))
    }

    fn code(&self, authorization: &StartDeviceAuthorizationOutput) -> Result<DeviceCode, RemoteError> {
        let (Some(url), Some(code)) = (&authorization.verification_uri, &authorization.user_code) else {
            return Err(self.incomplete());
        };
        let with_code = authorization.verification_uri_complete.as_ref().unwrap_or(url);
        let life = seconds(authorization.expires_in.into()).unwrap_or(CODE_LIFE);
        Ok(DeviceCode { url: url.clone(), url_with_code: with_code.clone(), code: code.clone(), life })
    }

    /// Asks until there is an answer or the code's life is over. A connection that fails meanwhile is no answer.
    async fn wait(
        &self,
        client: &RegisterClientOutput,
        authorization: &StartDeviceAuthorizationOutput,
        life: Duration,
    ) -> Result<CreateTokenOutput, RemoteError> {
        let mut interval = seconds(authorization.interval.into()).unwrap_or(INTERVAL);
        let begun = Instant::now();
        loop {
            tokio::time::sleep(interval).await;
            let call = self.client.create_token().grant_type(GRANT);
            let call = call.set_device_code(authorization.device_code.clone());
            let call = call.set_client_id(client.client_id.clone()).set_client_secret(client.client_secret.clone());
            let failed = match call.send().await {
                Ok(granted) => return Ok(granted),
                Err(error) => error,
            };
            let last = match self.outcome(failed) {
                Ok(Wait::Same) => RemoteError::SignInTimedOut,
                Ok(Wait::Longer) => {
                    interval += INTERVAL;
                    RemoteError::SignInTimedOut
                }
                Err(error @ (RemoteError::Unreachable { .. } | RemoteError::TimedOut(_) | RemoteError::Cut { .. })) => {
                    tracing::info!(%error, "asking for the token failed");
                    interval += INTERVAL;
                    error
                }
                Err(error) => return Err(error),
            };
            if begun.elapsed() >= life {
                return Err(last);
            }
        }
    }

    fn outcome(&self, error: CallError<CreateTokenError>) -> Result<Wait, RemoteError> {
        match error.as_service_error() {
            Some(CreateTokenError::AuthorizationPendingException(_)) => Ok(Wait::Same),
            Some(CreateTokenError::SlowDownException(_)) => Ok(Wait::Longer),
            Some(CreateTokenError::ExpiredTokenException(_)) => Err(RemoteError::SignInTimedOut),
            Some(CreateTokenError::AccessDeniedException(_)) => Err(RemoteError::SignInDenied),
            _ => Err(self.refused(error)),
        }
    }

    fn token(&self, client: RegisterClientOutput, granted: CreateTokenOutput) -> Result<Token, RemoteError> {
        let (Some(id), Some(secret)) = (client.client_id, client.client_secret) else {
            return Err(self.incomplete());
        };
        let expires_at = UNIX_EPOCH + seconds(client.client_secret_expires_at).unwrap_or_default();
        let registration = Registration { id, secret: Zeroizing::new(secret), expires_at };
        Token::granted(granted, registration).ok_or_else(|| self.incomplete())
    }

    fn refused<E>(&self, error: CallError<E>) -> RemoteError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = &error else { return self.failures.of("signing in", error) };
        let reason = [service.err().code(), service.err().message()].into_iter().flatten().collect::<Vec<_>>();
        let reason = match reason.is_empty() {
            true => format!("status {}", service.raw().status().as_u16()),
            false => crate::ui::printable(&reason.join(": ")),
        };
        RemoteError::SignInRefused { place: self.failures.place.clone(), reason }
    }

    fn incomplete(&self) -> RemoteError {
        RemoteError::SignInRefused { place: self.failures.place.clone(), reason: "its answer is incomplete".to_owned() }
    }
}

impl Token {
    /// What the service answers with; `None`: it lacks something.
    pub fn granted(granted: CreateTokenOutput, registration: Registration) -> Option<Self> {
        Some(Self {
            access: Zeroizing::new(granted.access_token?),
            expires_at: SystemTime::now() + seconds(granted.expires_in.into())?,
            refresh: granted.refresh_token.map(Zeroizing::new),
            registration: Some(registration),
        })
    }
}

/// A time that a service says in whole seconds; `None`: it says none.
fn seconds(said: i64) -> Option<Duration> {
    u64::try_from(said).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}
