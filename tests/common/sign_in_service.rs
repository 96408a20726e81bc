//! A stand-in of the sign-in service of Amazon, which cannot be reached from tests: it registers clients, hands out codes, answers
//! what it was told to whoever asks for a token, renews tokens, and gives keys of a role for them. It is also what a container and an
//! instance ask for theirs.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::moto;

/// An answer to the question for a token.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Nobody confirmed the code yet.
    Pending,
    /// That was asked too soon.
    SlowDown,
    /// The code's life is over.
    Expired,
    /// Somebody said no.
    Denied,
    /// A token that is good for so many seconds.
    Token(i64),
}

/// A request: its first line, the token that it carried, its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub line: String,
    pub token: String,
    pub body: Value,
}

/// The service; ends with the process.
pub struct SignInService {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: moto::User,
    asked: Vec<Asked>,
    answers: VecDeque<Answer>,
    tokens: Vec<String>,
}

impl SignInService {
    /// Gives these keys to whoever brings `the-token` or one that it made.
    pub fn giving(keys: &moto::User) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answers, tokens) = (Vec::new(), VecDeque::new(), vec!["the-token".to_owned()]);
        let state = Arc::new(Mutex::new(State { keys: keys.clone(), asked, answers, tokens }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that was killed hangs up.
                let _ = serve(client, &shared);
            }
        });
        Self { port, state }
    }

    /// What it answers to the next questions for a token; to all after them a token for eight hours.
    pub fn answers(&self, answers: &[Answer]) {
        self.state.lock().unwrap().answers = answers.iter().copied().collect();
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.line.split(' ').nth(1).unwrap().starts_with(path)).count()
    }

    /// A shell's words that send what the AWS libraries and the AWS command line ask of it here.
    pub fn environment(&self) -> String {
        let at = format!("http://127.0.0.1:{}", self.port);
        format!("export AWS_ENDPOINT_URL_SSO={at} AWS_ENDPOINT_URL_SSO_OIDC={at};")
    }
}

fn serve(mut client: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let found =
            lines.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let line = lines.first().cloned().unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let asked = Asked { line, token: header("x-amz-sso_bearer_token"), body };
    let outcome = state.lock().unwrap().answer(&asked);
    state.lock().unwrap().asked.push(asked);
    let (status, kind, body) = match outcome {
        Ok(body) => ("200 OK", String::new(), body),
        Err(name) => (
            "400 Bad Request",
            format!("x-amzn-ErrorType: {name}\r\n"),
            json!({"error": "refused", "error_description": "told so"}),
        ),
    };
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let head = format!(
        "HTTP/1.1 {status}\r\n{kind}X-aws-ec2-metadata-token-ttl-seconds: 600\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    write!(client, "{head}\r\nConnection: close\r\n\r\n{body}")
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Result<Value, &'static str> {
        match asked.line.split(' ').nth(1).unwrap_or_default() {
            "/client/register" => Ok(json!({
                "clientId": "the-client", "clientSecret": "its-secret", "clientIdIssuedAt": 1, "clientSecretExpiresAt": 4_102_444_800_i64,
            })),
            "/device_authorization" if asked.body["clientSecret"] == "its-secret" => Ok(json!({
                "deviceCode": "the-device", "userCode": "ABCD-EFGH", "verificationUri": "https://device.example/",
                "verificationUriComplete": "https://device.example/?user_code=ABCD-EFGH", "expiresIn": 600, "interval": 1,
            })),
            "/token" if asked.body["grantType"] == "refresh_token" && asked.body["refreshToken"] == "renews-it" => {
                Ok(self.token(28800))
            }
            "/token" if asked.body["deviceCode"] == "the-device" && asked.body["clientSecret"] == "its-secret" => {
                match self.answers.pop_front().unwrap_or(Answer::Token(28800)) {
                    Answer::Pending => Err("AuthorizationPendingException"),
                    Answer::SlowDown => Err("SlowDownException"),
                    Answer::Expired => Err("ExpiredTokenException"),
                    Answer::Denied => Err("AccessDeniedException"),
                    Answer::Token(seconds) => Ok(self.token(seconds)),
                }
            }
            // The service of a container, and that of an instance.
            "/container" | "/latest/meta-data/iam/security-credentials/the-role" => {
                let keys = &self.keys;
                Ok(
                    json!({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z",
                    "AccessKeyId": keys.id, "SecretAccessKey": keys.secret, "Token": keys.token}),
                )
            }
            "/latest/api/token" => Ok("a-token".into()),
            "/latest/meta-data/iam/security-credentials/" => Ok("the-role".into()),
            path if path.starts_with("/federation/credentials") && self.tokens.contains(&asked.token) => {
                let (keys, expiration) = (&self.keys, 4_102_444_800_000_u64);
                Ok(json!({"roleCredentials": {
                    "accessKeyId": keys.id, "secretAccessKey": keys.secret, "sessionToken": keys.token, "expiration": expiration,
                }}))
            }
            _ => Err("InvalidRequestException"),
        }
    }

    fn token(&mut self, seconds: i64) -> Value {
        let token = format!("token-{}", self.tokens.len());
        self.tokens.push(token.clone());
        json!({"accessToken": token, "tokenType": "Bearer", "expiresIn": seconds, "refreshToken": "renews-it"})
    }
}
