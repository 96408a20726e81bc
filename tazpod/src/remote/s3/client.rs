//! Makes the client: credentials, region, and how long it waits for what. A server that hangs costs a bounded time.

use std::path::Path;
use std::time::Duration;

use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;
use parking_lot::Mutex;

use crate::config::S3Place;
use crate::remote::credentials::{AwsFiles, DEFAULT_PROFILE, Keys, Source, VaultFiles, choose};
use crate::remote::transfer::Transfers;

use super::failure::Failures;
use super::single_sign_on::CoveredToken;
use super::{Parts, Store, machine_role, name_of};

/// The region of buckets where nothing names one.
const DEFAULT_REGION: &str = "eu-central-1";
/// The slowest connection that is waited for, in bytes a second.
const SLOWEST: u64 = 16 * 1024;

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to a request without a body.
    pub read: Duration,
    /// For bytes of a body that has begun.
    pub stalled: Duration,
    /// Tries of one request.
    pub attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        let (connect, read, stalled) = (Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(20));
        Self { connect, read, stalled, attempts: 3 }
    }
}

impl Patience {
    /// Times for a request that sends so many bytes.
    pub fn timeouts(&self, bytes: u64) -> TimeoutConfig {
        let read = self.read + Duration::from_secs(bytes / SLOWEST);
        let attempt = self.connect + read;
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .read_timeout(read)
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt * self.attempts + Duration::from_secs(5))
            .build()
    }

    /// The same for one request.
    pub fn overrides(&self, bytes: u64) -> Builder {
        aws_sdk_s3::config::Config::builder().timeout_config(self.timeouts(bytes))
    }
}

/// Makes the client of a place; nothing goes over the network yet.
pub async fn connect(place: &S3Place, vault: &mut VaultFiles, patience: Patience, parts: Parts) -> Store {
    let source = choose(|name| std::env::var(name).ok(), vault, place.profile.as_deref());
    let failures = Failures { place: name_of(place), source: source.name() };
    let http = http_client(place.endpoint.as_deref());
    let (credentials, profile_region) = credentials(source, vault.covered_folder(), patience).await;
    let from_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    let region = place.region.clone().or_else(from_environment).or(profile_region);
    let region = region.filter(|region| !region.is_empty()).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let stalled = StalledStreamProtectionConfig::enabled().upload_enabled(true).grace_period(patience.stalled).build();
    let mut builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(credentials)
        .region(Region::new(region.clone()))
        .force_path_style(place.path_style)
        .retry_config(RetryConfig::standard().with_max_attempts(patience.attempts))
        .timeout_config(patience.timeouts(0))
        .stalled_stream_protection(stalled);
    builder.set_endpoint_url(place.endpoint.clone());
    let (client, transfers) = (Client::from_conf(builder.build()), Transfers::default());
    let seen = Mutex::default();
    Store { client, place: place.clone(), region, patience, parts, transfers, failures, seen }
}

/// Certificates are read only where they are needed.
pub fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    match endpoint {
        Some(url) if url.starts_with("http://") => builder.build_http(),
        _ => builder.tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https(),
    }
}

/// The provider, and the region that its profile names. `covered` is what a bridge covers of the home.
async fn credentials(
    source: Source,
    covered: Option<&Path>,
    patience: Patience,
) -> (SharedCredentialsProvider, Option<String>) {
    let (profile, files) = match source {
        Source::Environment(keys) | Source::VaultKeys(keys) => return (fixed(keys), None),
        Source::Profile { profile, covered } => (profile, covered),
        Source::VaultProfile { profile, files } => (profile, Some(files)),
    };
    let files = files.map(env_config_files);
    // Signing in goes to Amazon, over TLS, wherever the bucket is.
    let http = http_client(None);
    let config = ProviderConfig::without_region().with_http_client(http).with_timeout_config(patience.timeouts(0));
    let mut region = ProfileFileRegionProvider::builder().configure(&config).profile_name(&profile);
    if let Some(files) = files.clone() {
        region = region.profile_files(files);
    }
    let region = region.build().region().await.map(|region| region.to_string());
    let token = match covered {
        Some(covered) => CoveredToken::find(&profile, files.as_ref(), covered, patience).await,
        None => None,
    };
    let provider = match token {
        Some(token) => SharedCredentialsProvider::new(token),
        None => of_profile(&profile, files, &config),
    };
    (provider, region)
}

fn of_profile(profile: &str, files: Option<EnvConfigFiles>, config: &ProviderConfig) -> SharedCredentialsProvider {
    let mut provider = ProfileFileCredentialsProvider::builder().configure(config).profile_name(profile);
    if let Some(files) = files {
        provider = provider.profile_files(files);
    }
    // A profile that somebody named is not passed over.
    match profile == DEFAULT_PROFILE {
        true => SharedCredentialsProvider::new(machine_role::after(provider.build(), config)),
        false => SharedCredentialsProvider::new(provider.build()),
    }
}

/// Files in place of those in the home.
pub fn env_config_files(files: AwsFiles) -> EnvConfigFiles {
    let mut builder = EnvConfigFiles::builder();
    if let Some(text) = files.credentials {
        builder = builder.with_contents(EnvConfigFileKind::Credentials, text.as_str());
    }
    if let Some(text) = files.config {
        builder = builder.with_contents(EnvConfigFileKind::Config, text.as_str());
    }
    builder.build()
}

fn fixed(keys: Keys) -> SharedCredentialsProvider {
    let token = keys.token.map(|token| token.to_string());
    SharedCredentialsProvider::new(Credentials::new(keys.id, keys.secret.as_str(), token, None, "tazpod"))
}
