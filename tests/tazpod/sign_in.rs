//! Profiles with single sign-on: signing in with and without the AWS command line, and the token cache that both share. The service
//! is a stand-in, since Amazon cannot be reached. Keys in the environment never cause a sign-in.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
#[expect(dead_code, reason = "each test program uses its part of it")]
mod remote_setup;
#[path = "../common/sign_in_service.rs"]
mod sign_in_service;
mod user;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use moto::Moto;
use rustix::process::Signal;
use serde_json::{Value, json};
use sign_in_service::{Answer, SignInService};
use user::User;

/// A profile by a session, and one of the older form.
const SESSION: &str = "[profile lab]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = vaults\n\
                       [sso-session work]\nsso_start_url = https://lab.example/start\nsso_region = us-west-2\n";
const OLDER: &str = "[profile lab]\nsso_account_id = 123456789012\nsso_role_name = vaults\n\
                     sso_start_url = https://lab.example/start\nsso_region = us-west-2\n";

/// A user whose project names a profile with single sign-on.
fn user_with(config: &str, bucket_port: u16) -> User {
    let user = User::with_vault();
    let yaml = remote_setup::s3_yaml(bucket_port).replace('}', ", profile: lab}");
    remote_setup::configure(&user, &yaml);
    std::fs::create_dir(user.home.join("config")).unwrap();
    std::fs::write(user.home.join("config/aws"), config).unwrap();
    user.shell_ok("mkdir .aws && cp config/aws .aws/config");
    user
}

/// The file of the cache, which is named by the SHA-1 of the session's name or of the page.
fn cached(user: &User, key: &str) -> PathBuf {
    let name = user.shell_ok(&format!("printf {key} | sha1sum | cut -d' ' -f1"));
    user.home.join(format!(".aws/sso/cache/{}.json", name.trim()))
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Puts a token there as the AWS command line does.
fn put_token(user: &User, expires: &str) {
    let token = json!({
        "startUrl": "https://lab.example/start", "region": "us-west-2", "accessToken": "the-token", "expiresAt": expires,
    });
    let path = cached(user, "work");
    std::fs::write(user.home.join("config/token"), token.to_string()).unwrap();
    user.shell_ok(&format!("mkdir -p .aws/sso/cache && cp config/token {}", path.display()));
}

/// A server, a service that gives keys of a role there, and how a user reaches both.
struct Services {
    moto: Moto,
    keys: moto::User,
    service: SignInService,
    environment: String,
}

fn services() -> Services {
    let mut moto = Moto::start();
    let (keys, service) = (moto.user(), SignInService::giving(&moto.role()));
    let environment = service.environment();
    Services { moto, keys, service, environment }
}

#[test]
fn a_token_of_the_aws_command_line_is_used_and_keys_in_the_environment_go_before_it() {
    let Services { moto, keys, service, environment } = services();
    let user = user_with(SESSION, moto.port);
    put_token(&user, "2099-01-01T00:00:00Z");
    let with_keys = format!("{environment} {}", remote_setup::keys(&keys));
    user.shell_ok(&format!("{with_keys} cd p && tazpod setup-storage && tazpod push"));
    assert_eq!(service.asked(), [], "keys in the environment cause no sign-in");
    user.shell_ok(&format!("{environment} cd p && tazpod remote show"));
    assert_eq!(service.asked(), [], "looking asks nobody");
    user.shell_ok(&format!("{environment} cd p && tazpod list vault-history"));
    let asked = service.asked();
    assert_eq!((asked.len(), asked[0].token.as_str()), (1, "the-token"));
    let line = &asked[0].line;
    assert!(line.contains("account_id=123456789012") && line.contains("role_name=vaults"), "{line}");
    // Out of the vault: the profile lies in it, the token where it was signed in.
    user.unlock();
    user.shell_ok("mkdir secrets/.aws && mv .aws/config secrets/.aws/");
    user.shell_ok(&format!("{environment} cd p && tazpod remote test"));
    assert_eq!(service.asked().len(), 2);
}

#[test]
fn a_token_that_has_expired_is_told() {
    let Services { moto, service, environment, .. } = services();
    let user = user_with(SESSION, moto.port);
    put_token(&user, "2020-01-01T00:00:00Z");
    let (status, _, told) = user.shell(&format!("{environment} cd p && tazpod list vault-history"));
    assert!(status == 7 && told.contains("tazpod login") && told.contains("profile 'lab'"), "{status} {told}");
    assert_eq!(service.asked(), []);
}

/// What the AWS command line of the tests, of version 1, lists with the user's profile and token.
fn aws_lists(user: &User, moto: &Moto, service: &SignInService) -> String {
    let mut command = Command::new("aws");
    command.args(["--profile", "lab", "--endpoint-url", &moto.endpoint(), "s3", "ls", "s3://vaults", "--recursive"]);
    command.env("HOME", &user.home).env("AWS_ENDPOINT_URL_SSO", format!("http://127.0.0.1:{}", service.port));
    let output = command.output().expect("scripts/test installs awscli");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn signing_in_without_the_aws_command_line_makes_a_token_that_all_use() {
    for (config, key, answers) in [
        (SESSION, "work", &[Answer::Pending, Answer::SlowDown][..]),
        (OLDER, "https://lab.example/start", &[Answer::Pending]),
    ] {
        let Services { moto, service, environment, .. } = services();
        let user = user_with(config, moto.port);
        service.answers(answers);
        // Version 1 of the AWS command line cannot sign in.
        let old = "mkdir -p bin && printf '#!/bin/sh\necho aws-cli/1.46.3 Python/3' > bin/aws && chmod +x bin/aws; export PATH=~/bin:$PATH;";
        let (prelude, flag) = if key == "work" { ("", "--native") } else { (old, "") };
        let (status, out, told) = user.shell(&format!("{prelude} {environment} cd p && tazpod --debug login {flag}"));
        assert!(status == 0 && out.is_empty(), "{status} {out}{told}");
        assert!(told.contains("https://device.example/ and confirm the code ABCD-EFGH"), "{told}");
        assert!(told.contains("profile 'lab' until 20") && told.contains("for 7 h 59 min"), "{told}");
        assert!(!told.contains("its-secret") && !told.contains("token-"), "{told}");
        assert_eq!(service.count("/token"), answers.len() + 1);
        let scopes = &service.asked()[0].body["scopes"];
        assert_eq!(*scopes, if key == "work" { json!(["sso:account:access"]) } else { Value::Null });
        let path = cached(&user, key);
        assert_eq!(user.shell_ok("stat -c %a .aws/sso/cache/* .aws/sso/cache"), "600\n700\n");
        let token = read(&path);
        assert_eq!((&token["accessToken"], &token["refreshToken"]), (&json!("token-1"), &json!("renews-it")));
        assert_eq!((&token["startUrl"], &token["region"]), (&json!("https://lab.example/start"), &json!("us-west-2")));
        assert_eq!(token["registrationExpiresAt"], "2100-01-01T00:00:00Z");
        user.shell_ok(&format!("{environment} cd p && tazpod setup-storage && tazpod push"));
        assert_eq!(service.asked().last().unwrap().token, "token-1");
        let listed = aws_lists(&user, &moto, &service);
        assert!(listed.contains("tazpod/vault/vault.tar.aes"), "{listed}");
        assert!(
            service
                .asked()
                .iter()
                .filter(|asked| asked.line.contains("federation"))
                .all(|asked| asked.token == "token-1")
        );
    }
}

#[test]
fn a_token_that_ends_soon_renews_itself() {
    let Services { moto, service, environment, .. } = services();
    let user = user_with(SESSION, moto.port);
    service.answers(&[Answer::Token(60)]);
    user.shell_ok(&format!("{environment} cd p && tazpod login --native"));
    user.shell_ok(&format!("{environment} cd p && tazpod setup-storage"));
    assert_eq!(service.asked().last().unwrap().token, "token-2");
    assert_eq!(read(&cached(&user, "work"))["accessToken"], "token-2");
}

/// The AWS command line that the system has, of version 2, whatever is first on the PATH of the tests.
const VERSION_2: &str = "export PATH=/usr/bin:$PATH; aws --version | grep -q aws-cli/2 || { echo scripts/test installs awscli >&2; exit 99; };";

/// Versions before 2.13 know no variable for the endpoint; a rule for it lies where they look for their data first.
fn endpoint_rules(user: &User, service: &SignInService) {
    let rules = json!({
        "version": "1.0", "parameters": {"Region": {"builtIn": "AWS::Region", "required": false, "documentation": "", "type": "String"}},
        "rules": [{"conditions": [], "type": "endpoint",
                   "endpoint": {"url": format!("http://127.0.0.1:{}", service.port), "properties": {}, "headers": {}}}],
    });
    std::fs::write(user.home.join("config/rules"), rules.to_string()).unwrap();
    let folder = ".aws/models/sso-oidc/2019-06-10";
    user.shell_ok(&format!("mkdir -p {folder} && cp config/rules {folder}/endpoint-rule-set-1.json"));
}

#[test]
fn the_aws_command_line_signs_in_where_it_is_installed() {
    let Services { moto, service, environment, .. } = services();
    for (config, key, answers) in
        [(SESSION, "work", &[Answer::Pending][..]), (OLDER, "https://lab.example/start", &[Answer::Denied])]
    {
        let user = user_with(config, moto.port);
        endpoint_rules(&user, &service);
        let login = |answers| {
            service.answers(answers);
            user.shell(&format!("{VERSION_2} {environment} cd p && tazpod login"))
        };
        if key != "work" {
            let (status, _, told) = login(answers);
            assert!(
                status == 7 && told.contains("'aws sso login' failed") && told.contains("--native"),
                "{status} {told}"
            );
        }
        // The first time it asks, nobody can have been told of the code yet.
        let (status, out, told) = login(&[Answer::Pending]);
        assert!(
            status == 0 && out.contains("ABCD-EFGH") && told.contains("profile 'lab' until 20"),
            "{status} {out}{told}"
        );
        let made = read(&cached(&user, key))["accessToken"].clone();
        assert!(made.as_str().unwrap().starts_with("token-"), "{made}");
        user.shell_ok(&format!("{environment} cd p && tazpod setup-storage"));
        assert_eq!(service.asked().last().unwrap().token, made);
    }
}

#[test]
fn a_profile_in_the_unlocked_vault_is_signed_in_to() {
    let Services { moto, service, environment, .. } = services();
    let user = user_with(SESSION, moto.port);
    user.unlock();
    user.shell_ok("mkdir secrets/.aws && mv .aws/config secrets/.aws/");
    endpoint_rules(&user, &service);
    for way in ["--native", ""] {
        let (status, _, told) = user.shell(&format!("{VERSION_2} {environment} cd p && tazpod login {way}"));
        assert!(status == 0 && told.contains("profile 'lab' until 20"), "{way}: {status} {told}");
        user.shell_ok(&format!("{environment} cd p && tazpod setup-storage"));
    }
    assert_eq!(service.count("/client/register"), 2);
    // Where ~/.aws is the vault's, so is the token.
    user.shell_ok("rm -r .aws/sso && cd p && tazpod mount .aws ~/.aws");
    user.shell_ok(&format!("{environment} cd p && tazpod login --native && tazpod setup-storage"));
    assert_eq!(user.shell_ok("ls secrets/.aws/sso/cache | wc -l; stat -c %a secrets/.aws/sso/cache/*"), "1\n600\n");
    user.lock();
    assert_eq!(user.shell_ok("ls -A .aws"), "models\n");
    let (status, _, told) = user.shell(&format!("{environment} cd p && tazpod login"));
    assert!(
        status == 2 && told.contains("no profile 'lab'") && told.contains("vault that is locked"),
        "{status} {told}"
    );
}

/// A user whose home's `.aws`, which holds the profile and a token, is covered by the vault's, which holds the profile too.
fn user_with_covered_token(services: &Services, expires: &str) -> User {
    let user = user_with(SESSION, services.moto.port);
    put_token(&user, expires);
    let keys = remote_setup::keys(&services.keys);
    user.shell_ok(&format!("{keys} cd p && tazpod setup-storage && tazpod push"));
    user.shell_ok("cd p && tazpod unlock --no-bridges --passphrase-file ~/pw");
    user.shell_ok("mkdir secrets/.aws && cp .aws/config secrets/.aws/");
    user
}

#[test]
fn a_token_and_a_profile_that_a_bridge_covers_are_found_beneath_it() {
    let services = services();
    let (service, environment) = (&services.service, &services.environment);
    let user = user_with_covered_token(&services, "2099-01-01T00:00:00Z");
    for whose in ["the profile 'lab' in the vault", "the profile 'lab' of this machine"] {
        user.lock();
        user.unlock();
        assert!(user.is_mounted_at(".aws") && user.shell("ls .aws/sso").0 != 0);
        let before = service.asked().len();
        let shown = user.shell_ok(&format!("{environment} cd p && tazpod remote show"));
        assert!(shown.contains(whose), "{shown}");
        user.shell_ok(&format!("echo {before} > secrets/file; {environment} cd p && tazpod push"));
        let asked = service.asked();
        let last = asked.last().unwrap();
        assert_eq!((asked.len(), last.token.as_str()), (before + 1, "the-token"));
        assert!(last.line.contains("account_id=123456789012") && last.line.contains("role_name=vaults"), "{last:?}");
        user.shell_ok("rm -f secrets/.aws/config");
    }
    // Who names other files does not mean those.
    let (status, _, told) =
        user.shell(&format!("{environment} cd p && AWS_CONFIG_FILE=/none tazpod list vault-history"));
    assert!(status == 7 && told.contains("credentials"), "{status} {told}");
}

#[test]
fn signing_in_goes_before_a_covered_token_that_has_expired() {
    let services = services();
    let (service, environment) = (&services.service, &services.environment);
    let user = user_with_covered_token(&services, "2020-01-01T00:00:00Z");
    let list = format!("{environment} cd p && tazpod list vault-history");
    for login in ["tazpod login --native".to_owned(), format!("{VERSION_2} tazpod login")] {
        user.shell_ok("cd p && tazpod save");
        user.lock();
        let beneath = user.shell_ok("cat .aws/sso/cache/*");
        user.unlock();
        let (status, _, told) = user.shell(&list);
        assert!(status == 7 && told.contains("tazpod login") && told.contains("has expired"), "{status} {told}");
        endpoint_rules(&user, service);
        let (status, _, told) = user.shell(&format!("{environment} cd p && {login}"));
        assert!(status == 0 && told.contains("profile 'lab' until 20"), "{login}: {status} {told}");
        // It lies in the vault, where nobody else looks in.
        let token = user.shell_ok(&format!("cat {}", cached(&user, "work").display()));
        let made = serde_json::from_str::<Value>(&token).unwrap()["accessToken"].clone();
        assert!(made.as_str().unwrap().starts_with("token-"), "{made}");
        user.shell_ok(&list);
        assert_eq!(service.asked().last().unwrap().token, made);
        // Next, the profile lies beneath only.
        user.shell_ok("rm -r secrets/.aws/* && cd p && tazpod lock");
        assert_eq!(user.shell_ok("cat .aws/sso/cache/*"), beneath);
        user.unlock();
    }
}

#[test]
fn a_covered_token_that_ends_soon_renews_itself_in_its_place() {
    let services = services();
    let (service, environment) = (&services.service, &services.environment);
    let user = user_with_covered_token(&services, "2020-01-01T00:00:00Z");
    user.lock();
    service.answers(&[Answer::Token(60)]);
    user.shell_ok(&format!("{environment} cd p && tazpod login --native"));
    user.unlock();
    user.shell_ok(&format!("{environment} cd p && tazpod list vault-history"));
    assert_eq!(service.asked().last().unwrap().token, "token-2");
    assert!(user.shell("ls .aws/sso").0 != 0, "nothing of it comes into the vault");
    user.lock();
    let token = read(&cached(&user, "work"));
    assert_eq!((&token["accessToken"], &token["refreshToken"]), (&json!("token-2"), &json!("renews-it")));
    assert_eq!(user.shell_ok("stat -c %a .aws/sso/cache/*"), "600\n");
    user.shell_ok(&format!("{environment} cd p && tazpod list vault-history"));
    assert_eq!(service.asked().last().unwrap().token, "token-2");
}

#[test]
fn a_sign_in_that_comes_to_nothing_leaves_nothing() {
    let Services { moto, service, environment, .. } = services();
    let user = user_with(SESSION, moto.port);
    let is_clean = || assert_eq!(user.shell_ok("ls -A .aws"), "config\n");
    for (answer, expected) in [(Answer::Denied, "was denied"), (Answer::Expired, "nobody confirmed")] {
        service.answers(&[Answer::Pending, answer]);
        let (status, _, told) = user.shell(&format!("{environment} cd p && tazpod login --native"));
        assert!(status == 7 && told.contains(expected) && told.contains("again"), "{status} {told}");
        is_clean();
    }
    let nowhere = "export AWS_ENDPOINT_URL_SSO_OIDC=http://127.0.0.1:1;";
    let (status, _, told) = user.shell(&format!("{nowhere} cd p && tazpod login --native"));
    assert!(status == 7 && told.contains("sign-in service in us-west-2 cannot be reached"), "{status} {told}");
    is_clean();
    let begun = service.asked().len();
    let (status, _, told) = user.shell(&format!(
        "mkdir -p .aws/sso/cache && chmod 500 .aws/sso/cache; {environment} cd p && tazpod login --native; status=$?; rm -r ~/.aws/sso; exit $status"
    ));
    assert!(status == 7 && told.contains("cannot write into") && service.asked().len() == begun, "{status} {told}");
    // Ctrl-C.
    service.answers(&[Answer::Pending; 100]);
    let begun = service.count("/token");
    let mut command = user.command(&format!("{environment} cd p && exec tazpod login --native"));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    user::eventually("it asks for the token", || service.count("/token") > begun);
    user.processes().into_iter().for_each(|pid| user::signal(pid, Signal::INT));
    assert!(!child.wait().unwrap().success());
    is_clean();
}

#[test]
fn what_cannot_be_signed_in_to_is_told_with_what_to_do() {
    let Services { moto, service, environment, .. } = services();
    let user = user_with("[profile keys]\nregion = eu-central-1\n", moto.port);
    let fails = |script: &str, expected: &[&str]| {
        let (status, _, told) = user.shell(&format!("{environment} {script}"));
        assert!(status == 2 && expected.iter().all(|text| told.contains(text)), "{script}: {status} {told}");
    };
    fails("cd p && tazpod login", &["no profile 'lab'", "aws configure sso"]);
    fails("cd p && tazpod login --profile keys", &["'keys' is none with single sign-on", "--profile"]);
    fails("tazpod login", &["no project", "--profile NAME"]);
    remote_setup::configure(&user, &remote_setup::s3_yaml(moto.port));
    fails("cd p && tazpod login", &["no profile is configured", "--profile NAME"]);
    fails("cd p && AWS_PROFILE=keys tazpod login", &["'keys' is none with single sign-on"]);
    remote_setup::configure(&user, "remote: {path: ../stick}\n");
    fails("cd p && tazpod login", &["is a folder", "--profile NAME"]);
    assert_eq!(service.asked(), []);
    // Neither a project nor a remote is needed where the profile is named, and another file may hold it.
    std::fs::write(user.home.join("config/aws"), SESSION).unwrap();
    let elsewhere =
        format!("{environment} export AWS_CONFIG_FILE=~/config/aws AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b;");
    let (status, _, told) = user.shell(&format!("{elsewhere} tazpod login --native --profile lab"));
    assert!(status == 0 && told.contains("the environment has keys, which go before"), "{status} {told}");
}

#[test]
fn the_role_of_a_container_or_an_instance_comes_last() {
    let Services { moto, service, .. } = services();
    let user = user_with("", moto.port);
    remote_setup::configure(&user, &remote_setup::s3_yaml(moto.port));
    let at = format!("http://127.0.0.1:{}", service.port);
    let container = format!("export AWS_CONTAINER_CREDENTIALS_FULL_URI={at}/container;");
    let instance = format!("export AWS_EC2_METADATA_DISABLED=false AWS_EC2_METADATA_SERVICE_ENDPOINT={at};");
    user.shell_ok(&format!("{container} {instance} cd p && tazpod setup-storage"));
    assert_eq!((service.count("/container"), service.asked().len()), (1, 1));
    user.shell_ok(&format!("{instance} cd p && tazpod list vault-history"));
    assert_eq!(service.count("/latest/meta-data"), 2);
    let asked = service.asked().len();
    // Not for a profile that is named, and not where there is one.
    let (status, _, told) =
        user.shell(&format!("{container} {instance} cd p && AWS_PROFILE=lab tazpod list vault-history"));
    assert!(status == 7 && told.contains("credentials"), "{status} {told}");
    std::fs::write(user.home.join("config/aws"), "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        .unwrap();
    let (status, _, told) =
        user.shell(&format!("{container} cp config/aws .aws/config; cd p && tazpod list vault-history"));
    assert!(status == 7 && told.contains("refuses the credentials from the profile 'default'"), "{status} {told}");
    assert_eq!(service.asked().len(), asked);
    let begun = std::time::Instant::now();
    let nowhere = "export AWS_EC2_METADATA_DISABLED=false AWS_EC2_METADATA_SERVICE_ENDPOINT=http://192.0.2.1;";
    let (status, _, told) = user.shell(&format!("{nowhere} rm .aws/config; cd p && tazpod list vault-history"));
    assert!(status == 7 && told.contains("there are no credentials"), "{status} {told}");
    assert!(begun.elapsed().as_secs() < 10);
}
