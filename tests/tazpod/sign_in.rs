//! Profiles with single sign-on: a token that the AWS command line left in its cache is used, against a stand-in of the service
//! that gives keys for tokens, since Amazon cannot be reached; and it is left alone when keys are in the environment.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
mod user;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use moto::Moto;
use user::User;

/// The service; remembers the first line and the token of each request.
struct SignInService {
    port: u16,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl SignInService {
    /// Gives these keys.
    fn giving(keys: &moto::User) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (shared, keys) = (asked.clone(), keys.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                shared.lock().unwrap().push(answer(client, &keys));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut client: TcpStream, keys: &moto::User) -> (String, String) {
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map(Result::unwrap);
    let request = lines.next().unwrap();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let token = headers.iter().find_map(|line| line.strip_prefix("x-amz-sso_bearer_token: ")).unwrap_or_default();
    let expiration = 4_102_444_800_000_u64;
    let body = serde_json::json!({"roleCredentials": {
        "accessKeyId": keys.id, "secretAccessKey": keys.secret, "sessionToken": keys.token, "expiration": expiration,
    }});
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close");
    write!(client, "{head}\r\n\r\n{body}").unwrap();
    (request, token.to_owned())
}

/// A user whose project names a profile with single sign-on, and whose cache holds its token.
fn signed_in(bucket_port: u16, expires: &str) -> User {
    let user = User::with_vault();
    let yaml = format!(
        "remote: {{type: s3, bucket: vaults, endpoint: 'http://127.0.0.1:{bucket_port}', region: eu-central-1, profile: lab}}\n"
    );
    std::fs::write(user.home.join("p/.tazpod/config.yaml"), yaml).unwrap();
    user.shell_ok("cd p && tazpod trust --yes");
    let config = "[profile lab]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = vaults\n\
                  [sso-session work]\nsso_start_url = https://lab.example/start\nsso_region = us-west-2\n";
    let cache = user.home.join(".aws/sso/cache");
    user.shell_ok("mkdir -p .aws/sso/cache");
    std::fs::write(user.home.join(".aws/config"), config).unwrap();
    // Named by the SHA-1 of the session's name, as the AWS command line does.
    let name = user.shell_ok("printf work | sha1sum | cut -d' ' -f1");
    let token = serde_json::json!({
        "startUrl": "https://lab.example/start", "region": "us-west-2", "accessToken": "the-token", "expiresAt": expires,
    });
    std::fs::write(cache.join(format!("{}.json", name.trim())), token.to_string()).unwrap();
    user
}

#[test]
fn a_token_of_the_aws_command_line_is_used_and_keys_in_the_environment_go_before_it() {
    let mut moto = Moto::start();
    let (keys, service) = (moto.user(), SignInService::giving(&moto.role()));
    let user = signed_in(moto.port, "2099-01-01T00:00:00Z");
    let environment = format!("export AWS_ENDPOINT_URL_SSO=http://127.0.0.1:{};", service.port);
    let with_keys =
        format!("{environment} export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={};", keys.id, keys.secret);
    user.shell_ok(&format!("{with_keys} cd p && tazpod setup-storage && tazpod push"));
    assert_eq!(service.asked(), [], "keys in the environment cause no sign-in");
    user.shell_ok(&format!("{environment} cd p && tazpod remote show"));
    assert_eq!(service.asked(), [], "looking asks nobody");
    user.shell_ok(&format!("{environment} cd p && tazpod list vault-history"));
    let asked = service.asked();
    let (request, token) = &asked[0];
    assert_eq!((asked.len(), token.as_str()), (1, "the-token"));
    assert!(request.contains("account_id=123456789012") && request.contains("role_name=vaults"), "{request}");
    // Out of the vault: the profile lies in it, the token where it was signed in.
    user.unlock();
    user.shell_ok("mkdir secrets/.aws && cp .aws/config secrets/.aws/");
    std::fs::remove_file(user.home.join(".aws/config")).unwrap();
    user.shell_ok(&format!("{environment} cd p && tazpod remote test"));
    assert_eq!(service.asked().len(), 2);
}

#[test]
fn a_token_and_a_profile_that_a_bridge_covers_are_found_beneath_it() {
    let mut moto = Moto::start();
    let (keys, service) = (moto.user(), SignInService::giving(&moto.role()));
    let user = signed_in(moto.port, "2099-01-01T00:00:00Z");
    let environment = format!("export AWS_ENDPOINT_URL_SSO=http://127.0.0.1:{};", service.port);
    user.shell_ok(&format!(
        "export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}; cd p && tazpod setup-storage && tazpod push",
        keys.id, keys.secret
    ));
    // The profile lies in the vault, the token where it was signed in while the vault was locked.
    user.shell_ok("cd p && tazpod unlock --no-bridges --passphrase-file ~/pw && mkdir ~/secrets/.aws && cp ~/.aws/config ~/secrets/.aws/ && tazpod lock");
    for whose in ["the profile 'lab' in the vault", "the profile 'lab' of this machine"] {
        user.unlock();
        assert!(user.is_mounted_at(".aws") && user.shell("ls .aws/sso").0 != 0);
        let before = service.asked().len();
        assert!(user.shell_ok(&format!("{environment} cd p && tazpod remote show")).contains(whose));
        user.shell_ok(&format!("echo {before} > secrets/file; {environment} cd p && tazpod push"));
        let asked = service.asked();
        let (request, token) = &asked[before];
        assert_eq!((asked.len(), token.as_str()), (before + 1, "the-token"));
        assert!(request.contains("account_id=123456789012") && request.contains("role_name=vaults"), "{request}");
        user.shell_ok("rm -f secrets/.aws/config");
        user.lock();
    }
    user.shell_ok("sed -i s/2099/2020/ .aws/sso/cache/*.json");
    user.unlock();
    let (status, _, told) = user.shell(&format!("{environment} cd p && tazpod list vault-history"));
    assert!(status == 7 && told.contains("aws sso login") && told.contains("has expired"), "{status} {told}");
}

#[test]
fn a_token_that_has_expired_is_told() {
    let mut moto = Moto::start();
    let service = SignInService::giving(&moto.role());
    let user = signed_in(moto.port, "2020-01-01T00:00:00Z");
    let environment = format!("export AWS_ENDPOINT_URL_SSO=http://127.0.0.1:{};", service.port);
    let (status, _, told) = user.shell(&format!("{environment} cd p && tazpod list vault-history"));
    assert!(status == 7 && told.contains("aws sso login") && told.contains("profile 'lab'"), "{status} {told}");
    assert_eq!(service.asked(), []);
}
