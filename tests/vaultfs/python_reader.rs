//! The reader in Python, and the library's tree in its words.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vaultfs::entry::Timestamp;
use vaultfs::tree::{Ino, NodeType, Stat, Tree};

/// Where the readers are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vaultfs")
}

/// Runs the reader.
pub fn run(options: &[&str], archive: &Path, passphrase: &str) -> Output {
    let mut python = Command::new("python3")
        .arg(folder().join("read_v2.py"))
        .args(options)
        .arg(archive)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(passphrase.as_bytes()).unwrap();
    python.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the reader in Python refuses an archive: {told}");
    json_lines(std::str::from_utf8(&output.stdout).unwrap())
}

/// A JSON value a line. Paths that are not UTF-8 have lone surrogates, which JSON in Rust cannot hold: `path_hex` tells them.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(&without_surrogates(line)).unwrap()).collect()
}

fn without_surrogates(line: &str) -> String {
    let mut parts = line.split("\\udc");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| format!("{text}\u{fffd}{}", &part[2..]))
}

/// What the reader prints of an archive that an identity opens.
pub fn entries_as(identity: &Path, archive: &Path) -> Vec<Value> {
    lines(&run(&["--identity", identity.to_str().unwrap()], archive, ""))
}

/// What the reader prints of an archive.
pub fn entries(archive: &Path, passphrase: &str) -> Vec<Value> {
    lines(&run(&[], archive, passphrase))
}

/// The segments that the reader finds.
pub fn segments(archive: &Path, passphrase: &str) -> Vec<Value> {
    lines(&run(&["--segments"], archive, passphrase))
}

/// Fails where the library's tree is not what the reader says.
pub fn assert_same(tree: &Tree, read: &[Value], when: &str) {
    let shown = listing(tree);
    for (shown, read) in shown.iter().zip(read) {
        assert_eq!(shown, read, "{when}");
    }
    assert_eq!(shown.len(), read.len(), "{when}");
}

/// The library's tree in the reader's words and order.
pub fn listing(tree: &Tree) -> Vec<Value> {
    let mut listed = Vec::new();
    let root = tree.stat(Ino::ROOT).unwrap();
    list(tree, b".", root, &mut HashMap::new(), &mut listed);
    listed
}

fn list(tree: &Tree, path: &[u8], stat: Stat, shown: &mut HashMap<Ino, Vec<u8>>, listed: &mut Vec<Value>) {
    listed.push(describe(tree, path, stat, shown.get(&stat.ino)));
    shown.entry(stat.ino).or_insert_with(|| path.to_vec());
    if stat.node_type != NodeType::Folder {
        return;
    }
    let mut children = Vec::new();
    tree.list(stat.ino, 0, &mut |entry| {
        children.push((entry.name.to_vec(), entry.stat));
        true
    })
    .unwrap();
    children.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, stat) in children {
        let path = if path == b"." { name } else { [path, b"/", &name].concat() };
        list(tree, &path, stat, shown, listed);
    }
}

fn describe(tree: &Tree, path: &[u8], stat: Stat, first: Option<&Vec<u8>>) -> Value {
    let mut entry = json!({
        "path": text(path),
        "path_hex": hex(path),
        "type": if first.is_some() { "hardlink" } else { type_name(stat.node_type) },
        "mode": format!("{:o}", stat.mode),
        "mtime": decimal(stat.mtime),
        "ctime": decimal(stat.ctime),
    });
    if let Some(first) = first {
        entry["linkname"] = text(first).into();
        return entry;
    }
    match stat.node_type {
        NodeType::Symlink => entry["linkname"] = text(&tree.read_link(stat.ino).unwrap()).into(),
        NodeType::File => {
            entry["size"] = stat.size.into();
            entry["sha256"] = digest(tree, stat).into();
        }
        NodeType::CharDevice | NodeType::BlockDevice => {
            entry["device"] = json!([rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev)]);
        }
        NodeType::Folder | NodeType::Fifo | NodeType::Socket => {}
    }
    for name in tree.xattr_names(stat.ino).unwrap() {
        entry["xattrs"][text(&name)] = hex(&tree.xattr(stat.ino, &name).unwrap()).into();
    }
    entry
}

fn type_name(node_type: NodeType) -> &'static str {
    match node_type {
        NodeType::Folder => "dir",
        NodeType::File => "file",
        NodeType::Symlink => "symlink",
        NodeType::Fifo => "fifo",
        NodeType::Socket => "socket",
        NodeType::CharDevice => "char",
        NodeType::BlockDevice => "block",
    }
}

fn digest(tree: &Tree, stat: Stat) -> String {
    let (mut digest, mut at, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    while at < stat.size {
        let read = tree.read(stat.ino, at, &mut buffer).unwrap();
        digest.update(&buffer[..read]);
        at += read as u64;
    }
    hex(&digest.finalize())
}

/// Each byte that is not UTF-8 becomes one replacement character, as in [`json_lines`].
fn text(bytes: &[u8]) -> String {
    bytes.utf8_chunks().map(|chunk| chunk.valid().to_owned() + &"\u{fffd}".repeat(chunk.invalid().len())).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decimal(time: Timestamp) -> String {
    let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let (whole, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:09}").trim_end_matches('0').to_owned() };
    format!("{sign}{whole}{fraction}")
}
