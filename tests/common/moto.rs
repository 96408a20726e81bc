//! A real S3 server (moto) of one test, gone when the test is, and a proxy before it that breaks what it is told to break.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// The server.
pub struct Moto {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub port: u16,
}

/// A user's keys.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Moto {
    /// Starts it and waits until it listens.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with arguments of the script.
    pub fn start_with(arguments: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/common/moto_server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/test installs python3");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut moto = Self { child, input, output, port: 0 };
        moto.port = u16::try_from(moto.answer()["port"].as_u64().unwrap()).unwrap();
        moto
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A user who may do everything.
    pub fn user(&mut self) -> User {
        self.user_with(everything())
    }

    /// A user with a policy.
    pub fn user_with(&mut self, policy: Value) -> User {
        user_of(&self.ask(&json!({"policy": policy})))
    }

    /// Somebody who took on a role that may do everything, with a token.
    pub fn role(&mut self) -> User {
        user_of(&self.ask(&json!({"role": everything()})))
    }

    /// Runs the AWS command line as a user, on this machine's side of every border.
    pub fn aws(&self, user: &User, arguments: &[&str]) {
        let output = Command::new("aws")
            .args(["--endpoint-url", &self.endpoint(), "--region", "eu-central-1"])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &user.id)
            .env("AWS_SECRET_ACCESS_KEY", &user.secret)
            .output()
            .expect("scripts/test installs awscli");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether signatures and policies count.
    pub fn check(&mut self, checks: bool) {
        self.ask(&json!({"checks": checks}));
    }

    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("scripts/test installs moto, and puts its Python first on the PATH")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn everything() -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})
}

fn user_of(answer: &Value) -> User {
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    User { id: text("id").unwrap(), secret: text("secret").unwrap(), token: text("token") }
}

/// What a proxy does to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Takes the request and never answers.
    Hang,
    /// Answers with a status and nothing of the server's.
    Status(u16),
    /// Passes on so many bytes of a request's body, and cuts.
    CutUpload(usize),
    /// Passes on so many bytes of an answer's body, and cuts.
    CutDownload(usize),
    /// Passes on so many bytes of an answer's body, and nothing more.
    StallDownload(usize),
    /// Flips a bit of this byte of an answer's body.
    Flip(usize),
    /// Leaves out If-Match and If-None-Match.
    StripConditions,
    /// Says that an answer's body has so many bytes.
    Claim(u64),
    /// Passes bodies on at some eight megabytes a second, both ways.
    Slow,
}

/// How fast a slow one is: such a piece, then such a pause.
const SLOW_PIECE: usize = 256 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(32);

/// A proxy; ends with the process.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

/// What is to be broken, how often, and the first lines of the requests that came.
#[derive(Default)]
struct Shared {
    fault: Mutex<(Fault, usize)>,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// Before a server on this machine.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let proxy = Self { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(client, server, &shared));
            }
        });
        proxy
    }

    /// Breaks so many of the next requests that have or get more than a kilobyte, or all requests where the fault is not about
    /// bodies.
    pub fn set(&self, fault: Fault, times: usize) {
        *self.shared.fault.lock().unwrap() = (fault, times);
    }

    /// How many are still to be broken.
    pub fn left(&self) -> usize {
        self.shared.fault.lock().unwrap().1
    }

    /// The first lines of the requests since this was asked before.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }
}

/// One request after the other; each on a connection of its own to the server, so that its answer ends with it.
fn serve(mut client: TcpStream, server: u16, shared: &Shared) {
    // What breaks here breaks the connection, which is what clients must live with.
    while serve_request(&mut client, server, shared).is_some() {}
    let _ = client.shutdown(Shutdown::Both);
}

fn serve_request(client: &mut TcpStream, server: u16, shared: &Shared) -> Option<()> {
    let head = read_head(client)?;
    let length = content_length(&head);
    shared.requests.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    let about_body =
        |fault| matches!(fault, Fault::CutDownload(_) | Fault::StallDownload(_) | Fault::Flip(_) | Fault::Claim(_));
    let fault = {
        let mut state = shared.fault.lock().unwrap();
        let applies = match state.0 {
            Fault::None => false,
            Fault::CutUpload(_) => length > 1024,
            fault if about_body(fault) => head.starts_with("GET") && !head.contains("list-type"),
            _ => true,
        };
        if applies && state.1 > 0 {
            state.1 -= 1;
            state.0
        } else {
            Fault::None
        }
    };
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    let head = if fault == Fault::StripConditions { without_conditions(&head) } else { head };
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut body = vec![0; length];
    for piece in body.chunks_mut(SLOW_PIECE) {
        client.read_exact(piece).ok()?;
        if fault == Fault::Slow {
            std::thread::sleep(SLOW_PAUSE);
        }
    }
    match fault {
        Fault::Hang => {
            std::thread::sleep(Duration::from_secs(120));
            return None;
        }
        Fault::Status(status) => {
            write!(client, "HTTP/1.1 {status} Broken\r\nContent-Length: 0\r\n\r\n").ok()?;
            return Some(());
        }
        Fault::CutUpload(bytes) => {
            upstream.write_all(head.as_bytes()).ok()?;
            upstream.write_all(&body[..bytes.min(length)]).ok()?;
            return None;
        }
        _ => {}
    }
    upstream.write_all(head.as_bytes()).ok()?;
    upstream.write_all(&body).ok()?;
    pass_answer(&mut upstream, client, fault)
}

fn pass_answer(upstream: &mut TcpStream, client: &mut TcpStream, fault: Fault) -> Option<()> {
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    match fault {
        Fault::CutDownload(bytes) => {
            client.write_all(&answer[..answer.len().min(body + bytes)]).ok()?;
            None
        }
        Fault::StallDownload(bytes) => {
            client.write_all(&answer[..answer.len().min(body + bytes)]).ok()?;
            std::thread::sleep(Duration::from_secs(120));
            None
        }
        Fault::Flip(at) => {
            answer[body + at] ^= 1;
            client.write_all(&answer).ok()
        }
        Fault::Claim(bytes) => {
            let head = String::from_utf8_lossy(&answer[..body]).into_owned();
            let said = format!("Content-Length: {}", content_length(&head));
            let claimed = head.replace(&said, &format!("Content-Length: {bytes}"));
            assert_ne!(head, claimed, "the server writes its length otherwise");
            client.write_all(claimed.as_bytes()).ok()?;
            client.write_all(&answer[body..]).ok()
        }
        Fault::Slow => answer.chunks(SLOW_PIECE).try_for_each(|piece| {
            std::thread::sleep(SLOW_PAUSE);
            client.write_all(piece).ok()
        }),
        _ => client.write_all(&answer).ok(),
    }
    // The server said that it closes; so does this.
    .filter(|()| false)
}

fn read_head(client: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn content_length(head: &str) -> usize {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"));
    line.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(0)
}

fn without_conditions(head: &str) -> String {
    let is_condition = |line: &str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("if-match:") || line.starts_with("if-none-match:")
    };
    head.split_inclusive("\r\n").filter(|line| !is_condition(line)).collect()
}
