//! This program in a container: brought in by the engine's archive calls, owned by root, found again by its hash; and whether it can do
//! there what it is to do.

use std::fs::File;
use std::io;
use std::sync::OnceLock;

use vaultfs::vault::file_hash;

use super::engine::Engine;
use super::error::ContainerError;
use super::feed::{Told, ask};
use super::files::{SmallTar, pack, temporary};
use super::lifecycle::Found;
use super::short::short;

/// The one that runs.
const EXECUTABLE: &str = "/proc/self/exe";
/// Where it is found by its name inside.
const PROGRAM: &str = "/usr/local/bin/tazpod";
const FOLDER: &str = "/opt/tazpod";
/// Written when all of it is there.
const COMPLETE: &str = "complete";

/// This program, as it is sent.
pub struct Program {
    hash: String,
}

impl Program {
    /// The one that runs.
    ///
    /// # Errors
    /// [`ContainerError::Io`].
    pub fn own() -> Result<Self, ContainerError> {
        // It is large, and a command may need it more than once.
        static HASH: OnceLock<String> = OnceLock::new();
        let hash = match HASH.get() {
            Some(hash) => hash,
            None => {
                let cannot = |error| ContainerError::Io("read this program".to_owned(), io::Error::other(error));
                let hash = file_hash(EXECUTABLE.as_ref()).map_err(cannot)?;
                HASH.get_or_init(|| short(&hash))
            }
        };
        Ok(Self { hash: hash.clone() })
    }

    /// Its path inside. What runs by it is not changed by a later one.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}/tazpod", self.hash)
    }

    /// Whether any version of it has this path inside.
    pub(super) fn is_at(path: &str) -> bool {
        path.strip_prefix(FOLDER).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Brings it in where this version is not yet, and makes it the one that is found by its name.
    ///
    /// # Errors
    /// [`ContainerError::Refused`], [`ContainerError::Io`].
    pub fn ensure(&self, engine: &Engine, found: &Found) -> Result<(), ContainerError> {
        match engine.kind(&found.id, &format!("{FOLDER}/{}/{COMPLETE}", self.hash))? {
            Some(_) => Ok(()),
            None => self.send(engine, &found.id),
        }
    }

    pub(super) fn send(&self, engine: &Engine, container: &str) -> Result<(), ContainerError> {
        let folder = format!("{FOLDER}/{}", self.hash);
        let name = |path: &str| path.trim_start_matches('/').to_owned();
        let mut before = SmallTar::new();
        let bin = PROGRAM.rsplit_once('/').map_or("", |(bin, _)| bin);
        let missing = [engine.missing_folders(container, &folder)?, engine.missing_folders(container, bin)?].concat();
        let made = before.folders(&missing, (0, 0)).and_then(|()| before.finish());
        engine.upload(container, "/", made.map_err(temporary)?)?;
        let packed = File::open(EXECUTABLE).and_then(|file| pack("tazpod", file, 0o755, (0, 0)));
        engine.upload_file(container, &folder, packed.map_err(temporary)?)?;
        let mut after = SmallTar::new();
        let written = after
            .file(&format!("{}/{COMPLETE}", name(&folder)), "")
            .and_then(|()| after.link(&name(PROGRAM), self.path().as_ref(), (0, 0)))
            .and_then(|()| after.finish());
        engine.upload(container, "/", written.map_err(temporary)?)
    }

    /// Looks whether the image has what it takes to unlock a vault inside.
    ///
    /// # Errors
    /// [`ContainerError::Lacking`] says what it lacks.
    pub fn check(&self, engine: &Engine, found: &Found) -> Result<(), ContainerError> {
        let lacking = |(what, remedy): (String, String)| {
            Err(ContainerError::Lacking { image: found.image.clone(), what, remedy })
        };
        let version = ask(engine, found, vec![self.path(), "--version".to_owned()], b"")?;
        if version.status != 0 {
            return lacking(why_it_does_not_run(&version));
        }
        let doctor = ask(engine, found, vec![self.path(), "doctor".to_owned(), "--json".to_owned()], b"")?;
        match bad_checks(&doctor.output) {
            Some((what, remedy)) => lacking((what, remedy)),
            None => Ok(()),
        }
    }
}

/// What the loader, or the engine in its place, says.
fn why_it_does_not_run(told: &Told) -> (String, String) {
    let text = String::from_utf8_lossy(&[told.output.as_slice(), &told.errors].concat()).into_owned();
    let newer =
        "take an image of Debian 12, Ubuntu 22.04 or newer, or build this program for the older system".to_owned();
    let glibc = text.split("version `").nth(1).and_then(|rest| rest.split('\'').next());
    if let Some(version) = glibc.filter(|version| version.starts_with("GLIBC_")) {
        return (format!("its C library is older than this program needs ({})", version.replace('_', " ")), newer);
    }
    if let Some(rest) = text.split("error while loading shared libraries: ").nth(1) {
        let library = rest.split(':').next().unwrap_or_default();
        let remedy = "install it in the image; Debian: 'RUN apt-get update && apt-get install -y libgcc-s1 libc6'";
        return (format!("it has no {library}"), remedy.to_owned());
    }
    if text.contains("exec format error") {
        let remedy =
            "take an image for this machine's kind of processor, or run a program that was built for the image's";
        return ("it is for another kind of processor than this program".to_owned(), remedy.to_owned());
    }
    // Of the program itself, which is there: its loader is meant.
    if text.contains("/tazpod: no such file") || text.contains("stat /opt/tazpod") || told.status == 127 {
        let remedy = format!("Alpine and its like have another one: {newer}");
        return ("it has no C library of GNU (glibc)".to_owned(), remedy);
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "");
    (format!("this program does not run in it: {words}"), "try it with 'tazpod enter -- tazpod --version'".to_owned())
}

/// What the doctor inside finds bad: what, and what to do.
fn bad_checks(json: &[u8]) -> Option<(String, String)> {
    let text = |value: &serde_json::Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let checks: Vec<serde_json::Value> = serde_json::from_slice(json).unwrap_or_default();
    let bad: Vec<_> = checks.iter().filter(|check| check["outcome"] == "bad").collect();
    if bad.is_empty() {
        return None;
    }
    let what = bad.iter().map(|check| format!("{}: {}", text(check, "name"), text(check, "found")));
    let is_fusermount = bad.iter().any(|check| check["name"] == "fusermount3");
    let remedy = match is_fusermount {
        true => "install fuse3 in the image; Debian: 'RUN apt-get update && apt-get install -y fuse3'".to_owned(),
        false => bad.iter().map(|check| text(check, "remedy")).collect::<Vec<_>>().join("; "),
    };
    Some((what.collect::<Vec<_>>().join("; "), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_lacks_is_said_in_words() {
        let why = |status, errors: &str| {
            why_it_does_not_run(&Told { status, output: Vec::new(), errors: errors.as_bytes().to_vec() }).0
        };
        assert!(why(1, "t: /lib/libc.so.6: version `GLIBC_2.34' not found (required by t)").contains("GLIBC 2.34"));
        assert!(
            why(127, "t: error while loading shared libraries: libgcc_s.so.1: cannot open")
                .ends_with("no libgcc_s.so.1")
        );
        assert!(why(126, "OCI runtime exec failed: exec format error: unknown").contains("processor"));
        assert!(why(126, "exec /opt/tazpod/24b3/tazpod: no such file or directory").contains("glibc"));
        assert!(why(139, "").contains("does not run"));
        assert_eq!(bad_checks(br#"[{"name":"FUSE","outcome":"ok","found":"x","remedy":null}]"#), None);
        let (what, remedy) =
            bad_checks(br#"[{"name":"fusermount3","outcome":"bad","found":"it is missing"}]"#).unwrap();
        assert!(what.contains("fusermount3: it is missing") && remedy.contains("fuse3"));
    }
}
