//! What the server or the way to it said, in words that tell what to do.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::remote::RemoteError;

/// What errors name.
pub struct Failures {
    /// The place.
    pub place: String,
    /// Where the credentials come from.
    pub source: String,
}

/// How calls fail.
pub type CallError<E> = SdkError<E, HttpResponse>;

impl Failures {
    /// Maps the error of a call; `action` is the right that the call needs.
    pub fn of<E>(&self, action: &'static str, error: CallError<E>) -> RemoteError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        if let Some(mapped) = self.of_credentials(&error) {
            return mapped;
        }
        let place = self.place.clone();
        match &error {
            SdkError::TimeoutError(_) => RemoteError::TimedOut(place),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => RemoteError::TimedOut(place),
            SdkError::DispatchFailure(_) if chain(&error).contains("(Connect)") => {
                RemoteError::Unreachable { place, reason: innermost(&error) }
            }
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
                RemoteError::Cut { place, reason: innermost(&error) }
            }
            SdkError::ServiceError(service) => self.of_answer(action, service.err(), service.raw()),
            _ => RemoteError::Refused { place, reason: innermost(&error) },
        }
    }

    fn of_answer<E: ProvideErrorMetadata>(&self, action: &'static str, error: &E, raw: &HttpResponse) -> RemoteError {
        let (place, status) = (self.place.clone(), raw.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let reason = [&status.to_string(), code.as_str(), error.message().unwrap_or_default()].join(" ");
        let reason = crate::ui::printable(reason.trim_end());
        let source_name = self.source.clone();
        match (code.as_str(), status) {
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId" | "AuthFailure", _) => {
                RemoteError::WrongKeys { place, source_name, code }
            }
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken", _) => {
                RemoteError::Expired { source_name, code }
            }
            ("RequestTimeTooSkewed", _) => RemoteError::Clock(place),
            ("NoSuchBucket", _) => RemoteError::NoStorage(place),
            ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301) => {
                let region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
                RemoteError::WrongRegion { place, region }
            }
            (_, 403) => RemoteError::NoPermission { place, action },
            (_, 500..) => RemoteError::Server { place, reason },
            _ => RemoteError::Refused { place, reason },
        }
    }

    /// An error of the credentials may be anywhere within.
    fn of_credentials(&self, error: &(dyn Error + 'static)) -> Option<RemoteError> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<CredentialsError>() {
                return Some(match found {
                    CredentialsError::CredentialsNotLoaded(_) => RemoteError::NoCredentials(self.place.clone()),
                    // Without a network nobody can sign in, and nobody has to.
                    _ if chain(found).contains("(Connect)") => {
                        RemoteError::Unreachable { place: "the sign-in service".to_owned(), reason: innermost(found) }
                    }
                    CredentialsError::ProviderTimedOut(_) => RemoteError::TimedOut("the sign-in service".to_owned()),
                    _ => RemoteError::Credentials(format!("{}: {}", self.source, innermost(found))),
                });
            }
            next = error.source();
        }
        None
    }

    /// The connection broke while a body came in.
    pub fn of_body(&self, error: &(dyn Error + 'static)) -> RemoteError {
        RemoteError::Cut { place: self.place.clone(), reason: innermost(error) }
    }
}

/// How a conditional call failed that did reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The condition does not hold.
    Condition,
    /// Another call was at it at the same moment: it may hold yet.
    Busy,
}

/// Whether a call failed because of its condition.
pub fn unmet<E: ProvideErrorMetadata>(error: &CallError<E>) -> Option<Unmet> {
    let SdkError::ServiceError(service) = error else { return None };
    match (service.raw().status().as_u16(), service.err().code().unwrap_or_default()) {
        (412, _) | (_, "PreconditionFailed") => Some(Unmet::Condition),
        (409, _) => Some(Unmet::Busy),
        // If-Match where nothing is any more.
        (404, "NoSuchKey") => Some(Unmet::Condition),
        _ => None,
    }
}

/// Whether an answer to HEAD, which has no body, leaves open what is wrong.
pub fn has_no_body<E>(error: &CallError<E>) -> bool {
    let SdkError::ServiceError(service) = error else { return false };
    matches!(service.raw().status().as_u16(), 301 | 400 | 403 | 404)
}

/// Whether an object or what it was asked for is not there.
pub fn is_gone<E: ProvideErrorMetadata>(error: &CallError<E>) -> bool {
    let SdkError::ServiceError(service) = error else { return false };
    service.raw().status().as_u16() == 412 || service.err().code() == Some("NoSuchKey")
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.join(": ")
}

/// The text of the last cause, which says most.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    crate::ui::printable(&innermost.to_string())
}
