//! A shared mapping of a file on a mount, held by another process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Maps the first page of a file and obeys lines on standard input.
const MAPPER: &str = r#"
import mmap, sys
file = open(sys.argv[1], "r+b")
page = mmap.mmap(file.fileno(), 4096)
print("mapped", flush=True)
for line in sys.stdin:
    command, offset, data = line.rstrip("\n").split(" ")
    offset = int(offset)
    if command == "write":
        data = bytes.fromhex(data)
        page[offset:offset + len(data)] = data
    elif command == "sync":
        page.flush()
    print(page[:offset].hex() if command == "read" else "done", flush=True)
"#;

/// A shared mapping of one page, held by another process until this goes. (A process that serves a mount must not map its
/// files: a page fault holds the lock that the server's threads need to get memory.)
pub struct Mapping {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Mapping {
    pub fn new(path: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", MAPPER])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut mapping = Self { child, answers };
        assert_eq!(mapping.answer(), "mapped");
        mapping
    }

    fn ask(&mut self, command: &str, offset: usize, data: &[u8]) -> String {
        let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.child.stdin.as_mut().unwrap(), "{command} {offset} {data}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) {
        assert_eq!(self.ask("write", offset, data), "done");
    }

    pub fn sync(&mut self) {
        assert_eq!(self.ask("sync", 0, b""), "done");
    }

    /// Reads from the start; the error is the signal that a load raised.
    pub fn read(&mut self, len: usize) -> Result<Vec<u8>, Option<i32>> {
        let answer = self.ask("read", len, b"");
        if answer.is_empty() {
            return Err(self.child.wait().unwrap().signal());
        }
        Ok(answer
            .as_bytes()
            .chunks(2)
            .map(|hex| u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap())
            .collect())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It may have been killed by a signal, as some tests expect.
        let _ = self.child.wait();
    }
}
