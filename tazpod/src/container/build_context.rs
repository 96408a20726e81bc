//! The folder that a build is made of, as a tar: what `.dockerignore` leaves out is not in it, and `.tazpod` never is.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config::{BuildPlan, PROJECT_FOLDER};

use super::error::ContainerError;
use super::files::temporary;
use super::ignore::Ignored;

/// What a Dockerfile outside of the context is called within the tar.
const OUTSIDE: &str = ".tazpod-dockerfile";

/// A context, and the Dockerfile's name in it.
pub(super) struct Context {
    pub(super) tar: File,
    pub(super) dockerfile: String,
}

/// Packs a context.
///
/// # Errors
/// [`ContainerError::Context`]: something cannot be read.
pub(super) fn pack(plan: &BuildPlan) -> Result<Context, ContainerError> {
    let inside = plan.dockerfile.strip_prefix(&plan.context).ok().map(|path| path.to_string_lossy().into_owned());
    // Below `.tazpod` it is not in the tar either.
    let inside = inside.filter(|path| !is_ours(Path::new(path)));
    let ignored = ignored(plan)?;
    let tar = tempfile::tempfile().map_err(temporary)?;
    let mut packer = Packer { tar: tar::Builder::new(io::BufWriter::new(tar)), plan, ignored };
    packer.tar.follow_symlinks(false);
    packer.tar.mode(tar::HeaderMode::Complete);
    packer.folder(Path::new(""))?;
    let name = inside.unwrap_or_else(|| OUTSIDE.to_owned());
    let cannot = |error| ContainerError::Context(plan.dockerfile.clone(), error);
    let mut dockerfile = File::open(&plan.dockerfile).map_err(cannot)?;
    // Also when it is ignored, or in the tar already: the last one counts.
    packer.tar.append_file(&name, &mut dockerfile).map_err(cannot)?;
    let mut tar = packer.tar.into_inner().and_then(|out| out.into_inner().map_err(|error| error.into_error()));
    if let Ok(tar) = &mut tar {
        tar.rewind().map_err(temporary)?;
    }
    Ok(Context { tar: tar.map_err(temporary)?, dockerfile: name })
}

/// The file beside the Dockerfile goes before that of the context, as with docker.
fn ignored(plan: &BuildPlan) -> Result<Ignored, ContainerError> {
    let mut own = plan.dockerfile.clone().into_os_string();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), plan.context.join(".dockerignore")] {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Ignored::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContainerError::Context(path, error)),
        }
    }
    Ok(Ignored::default())
}

fn is_ours(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == PROJECT_FOLDER)
}

struct Packer<'a> {
    tar: tar::Builder<io::BufWriter<File>>,
    plan: &'a BuildPlan,
    ignored: Ignored,
}

impl Packer<'_> {
    /// Adds what is in a folder, by its path within the context.
    fn folder(&mut self, within: &Path) -> Result<(), ContainerError> {
        let folder = self.plan.context.join(within);
        let cannot = |error| ContainerError::Context(folder.clone(), error);
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).map_err(cannot)?.collect::<Result<_, _>>().map_err(cannot)?;
        names.sort_by_key(std::fs::DirEntry::file_name);
        for entry in names {
            let path = within.join(entry.file_name());
            if !is_ours(&path) {
                let kind = entry.file_type().map_err(cannot)?;
                self.entry(&path, kind).map_err(|error| match error {
                    Failed::Here(error) => ContainerError::Context(self.plan.context.join(&path), error),
                    Failed::Deeper(error) => error,
                })?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, kind: std::fs::FileType) -> Result<(), Failed> {
        let is_ignored = self.ignored.is_ignored(&path.to_string_lossy());
        let whole = self.plan.context.join(path);
        if kind.is_dir() {
            if !is_ignored {
                self.tar.append_dir(path, &whole).map_err(Failed::Here)?;
            }
            if !is_ignored || self.ignored.has_exceptions() {
                self.folder(path).map_err(Failed::Deeper)?;
            }
            return Ok(());
        }
        // Nobody can send a socket.
        if is_ignored || kind.is_socket() {
            return Ok(());
        }
        self.tar.append_path_with_name(&whole, path).map_err(Failed::Here)
    }
}

enum Failed {
    Here(io::Error),
    Deeper(ContainerError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_and_the_vault_are_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".tazpod/vault", "sub/.tazpod", "target"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        for (name, text) in [
            ("Dockerfile", "FROM x"),
            (".dockerignore", "target\nDockerfile\n*.log\n"),
            (".tazpod/vault/vault.tar.aes", "v"),
            ("sub/.tazpod/config.yaml", ""),
            ("sub/a", "a"),
            ("b.log", ""),
            ("target/x", ""),
        ] {
            std::fs::write(at(name), text).unwrap();
        }
        std::os::unix::fs::symlink("a", at("sub/link")).unwrap();
        let names = |dockerfile: &str| {
            let plan = BuildPlan { dockerfile: at(dockerfile), context: folder.path().to_owned() };
            let context = pack(&plan).unwrap();
            let mut archive = tar::Archive::new(context.tar);
            let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
            (names.collect::<Vec<_>>(), context.dockerfile)
        };
        let (sent, dockerfile) = names("Dockerfile");
        assert_eq!(sent, [".dockerignore", "sub", "sub/a", "sub/link", "Dockerfile"]);
        assert_eq!(dockerfile, "Dockerfile");
        std::fs::write(at(".tazpod/Dockerfile"), "FROM y").unwrap();
        let (sent, dockerfile) = names(".tazpod/Dockerfile");
        assert_eq!((sent.last().unwrap().as_str(), dockerfile.as_str()), (OUTSIDE, OUTSIDE));
        assert!(matches!(
            pack(&BuildPlan { dockerfile: at("none"), context: folder.path().to_owned() }),
            Err(ContainerError::Context(..))
        ));
    }
}
