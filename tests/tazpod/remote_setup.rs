//! What tests of remotes configure, for a user with a project.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::moto;
use super::user::User;

/// Writes the project's configuration and trusts it.
pub fn configure(user: &User, yaml: &str) {
    write_config(user, yaml);
    user.shell_ok("cd p && tazpod trust --yes");
}

/// Writes the project's configuration.
pub fn write_config(user: &User, yaml: &str) {
    std::fs::write(user.home.join("p/.tazpod/config.yaml"), yaml).unwrap();
}

/// A second machine: another home with the same project and no vault.
pub fn second_machine(yaml: &str) -> User {
    let user = User::new();
    user.shell_ok("mkdir p && cd p && tazpod init --yes --no-vault");
    configure(&user, yaml);
    user
}

/// A folder that all machines reach.
pub fn shared_folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let yaml = format!("remote: {{path: '{}/vault'}}\n", folder.path().display());
    (folder, yaml)
}

/// The bucket of a local server.
pub fn s3_yaml(port: u16) -> String {
    format!("remote: {{type: s3, bucket: vaults, endpoint: 'http://127.0.0.1:{port}', region: eu-central-1}}\n")
}

/// A shell's words that give a user's keys to what follows.
pub fn keys(user: &moto::User) -> String {
    format!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={};", user.id, user.secret)
}
