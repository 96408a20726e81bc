//! The role that a container or an instance of Amazon's may have: it is asked for where nothing else gives credentials.

use std::time::Duration;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::Client;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;

/// An instance's service answers at once or, everywhere else, never.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries the profile, then a container's role (if `AWS_CONTAINER_CREDENTIALS_…` says that there is one), then an instance's (unless
/// `AWS_EC2_METADATA_DISABLED` says that there is none).
pub fn after(profile: ProfileFileCredentialsProvider, config: &ProviderConfig) -> CredentialsProviderChain {
    let client = Client::builder().configure(config).max_attempts(1).connect_timeout(PATIENCE).read_timeout(PATIENCE);
    let container = EcsCredentialsProvider::builder().configure(config).build();
    let instance = ImdsCredentialsProvider::builder().configure(config).imds_client(client.build()).build();
    CredentialsProviderChain::first_try("profile", profile)
        .or_else("container", container)
        .or_else("instance", instance)
}
