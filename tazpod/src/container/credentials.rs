//! Credentials for registries, as `docker login` leaves them: `auths` of ~/.docker/config.json, or a program that keeps them. They go
//! to the engine and nowhere else.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// What the files call Docker's own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    #[serde(rename = "identitytoken")]
    token: Option<String>,
}

/// What a helper program prints.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Those for the registry of an image; `None`: it is asked without.
pub(super) fn of_image(config: &Path, image: &str) -> Option<DockerCredentials> {
    let file = read(config)?;
    of_registry(&file, registry(image))
}

/// Those for all registries that are known, for a build.
pub(super) fn all(config: &Path) -> HashMap<String, DockerCredentials> {
    let Some(file) = read(config) else { return HashMap::new() };
    let names = file.auths.keys().chain(file.helpers.keys());
    names.filter_map(|name| Some((name.clone(), of_registry(&file, name)?))).collect()
}

fn read(config: &Path) -> Option<File> {
    serde_json::from_slice(&std::fs::read(config.join("config.json")).ok()?).ok()
}

/// The registry in an image's name; Docker's own where none is named.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_HUB,
    }
}

fn of_registry(file: &File, registry: &str) -> Option<DockerCredentials> {
    let helper = file.helpers.get(registry).or(file.store.as_ref());
    if let Some(found) = helper.and_then(|helper| ask(helper, registry)) {
        return Some(found);
    }
    let is_same = |name: &&String| bare(name) == bare(registry);
    let entry = file.auths.keys().find(is_same).and_then(|name| file.auths.get(name))?;
    let credentials = DockerCredentials { serveraddress: Some(registry.to_owned()), ..DockerCredentials::default() };
    if let Some(token) = entry.token.clone().filter(|token| !token.is_empty()) {
        return Some(DockerCredentials { identitytoken: Some(token), ..credentials });
    }
    let auth = entry.auth.clone().filter(|auth| !auth.is_empty())?;
    let decoded = String::from_utf8(STANDARD_NO_PAD.decode(auth.trim_end_matches('=')).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(DockerCredentials {
        username: Some(user.to_owned()),
        password: Some(password.trim_end_matches('\0').to_owned()),
        ..credentials
    })
}

fn bare(name: &str) -> &str {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    name.split('/').next().unwrap_or(name)
}

/// Asks `docker-credential-<name>`, as the docker command does.
fn ask(helper: &str, registry: &str) -> Option<DockerCredentials> {
    if helper.is_empty() || helper.contains('/') {
        return None;
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    writeln!(child.stdin.take()?, "{registry}").ok()?;
    let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
    let answer: Answer = serde_json::from_slice(&output.stdout).ok()?;
    let credentials = DockerCredentials { serveraddress: Some(registry.to_owned()), ..DockerCredentials::default() };
    Some(match answer.user.as_str() {
        "<token>" => DockerCredentials { identitytoken: Some(answer.secret), ..credentials },
        _ => DockerCredentials { username: Some(answer.user), password: Some(answer.secret), ..credentials },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_gets_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"auths": {"registry.example.org:5000": {"auth": "bWU6c2Vj"}, "https://index.docker.io/v1/": {"auth": "aHViOmtleQ=="},
                       "empty.example.org": {}}}"#;
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let of = |image| of_image(folder.path(), image).and_then(|found| Some((found.username?, found.password?)));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(of("registry.example.org:5000/team/lab:1"), pair("me", "sec"));
        assert_eq!(of("debian:12"), pair("hub", "key"));
        assert_eq!(of("team/lab"), pair("hub", "key"));
        assert_eq!(of("empty.example.org/lab"), None);
        assert_eq!(of("other.example.org/lab"), None);
        assert_eq!(all(folder.path()).len(), 2);
    }
}
