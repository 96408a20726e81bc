//! Files of a container, read and written through the engine's archive calls: nothing of the image is run for it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use bollard::errors::Error;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{body_full, body_try_stream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::engine::Engine;
use super::error::{ContainerError, is_missing};

/// The largest file that is read whole.
const FILE_MAX: u64 = 4 << 20;
/// How much is sent at once.
const PIECE: usize = 64 * 1024;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// Bits of a mode as Go has them, which the engine sends.
const GO_FOLDER: u64 = 1 << 31;
const GO_LINK: u64 = 1 << 27;

impl Engine {
    /// Tells what is at a path of a container, itself and not what a link points to; `None`: nothing.
    pub(super) fn kind(&self, container: &str, path: &str) -> Result<Option<Kind>, ContainerError> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.ask(self.docker.get_container_archive_info(container, Some(options))) {
            Ok(stat) => {
                let mode = u64::from(stat.file_mode);
                Ok(Some(match (mode & GO_FOLDER != 0, mode & GO_LINK != 0) {
                    (true, _) => Kind::Folder,
                    (false, true) => Kind::Link,
                    (false, false) => Kind::Other,
                }))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(ContainerError::of("look into the container", error)),
        }
    }

    /// The folders on the way to a path, it included, that are not there, from the root on and without the slash there.
    pub(super) fn missing_folders(&self, container: &str, path: &str) -> Result<Vec<String>, ContainerError> {
        let (path, mut missing) = (path.trim_matches('/'), Vec::new());
        for (end, _) in path.match_indices('/').chain(Some((path.len(), ""))) {
            let folder = &path[..end];
            if !folder.is_empty() && self.kind(container, &format!("/{folder}"))?.is_none() {
                missing.push(folder.to_owned());
            }
        }
        Ok(missing)
    }

    /// Reads a small file of a container; `None`: there is none.
    pub(super) fn read_file(&self, container: &str, path: &str) -> Result<Option<String>, ContainerError> {
        let mut archive = tempfile::tempfile().map_err(temporary)?;
        if !self.download(container, path, &mut archive)? {
            return Ok(None);
        }
        archive.rewind().map_err(temporary)?;
        let mut archive = tar::Archive::new(archive);
        let mut entries = archive.entries().map_err(temporary)?;
        let Some(entry) = entries.next() else { return Ok(None) };
        let mut text = Vec::new();
        entry.map_err(temporary)?.take(FILE_MAX).read_to_end(&mut text).map_err(temporary)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Writes a tar of what is at a path; false: there is nothing.
    pub(super) fn download(&self, container: &str, path: &str, to: &mut File) -> Result<bool, ContainerError> {
        self.download_at_most(container, path, to, u64::MAX)
    }

    /// The same; what is larger than that is refused, and not all of it fetched.
    pub(super) fn download_at_most(
        &self,
        container: &str,
        path: &str,
        to: &mut File,
        mut most: u64,
    ) -> Result<bool, ContainerError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut pieces = self.docker.download_from_container(container, Some(options));
        loop {
            match self.ask(pieces.next()) {
                None => return Ok(true),
                Some(Ok(piece)) => {
                    most = most.checked_sub(piece.len() as u64).ok_or_else(|| temporary(too_large()))?;
                    to.write_all(&piece).map_err(temporary)?;
                }
                Some(Err(error)) if is_missing(&error) => return Ok(false),
                Some(Err(error)) => return Err(ContainerError::of("read files of the image", error)),
            }
        }
    }

    /// Unpacks a tar in a folder of a container, owners as they are in it.
    pub(super) fn upload(&self, container: &str, folder: &str, tar: Vec<u8>) -> Result<(), ContainerError> {
        let options = UploadToContainerOptionsBuilder::default().path(folder).no_overwrite_dir_non_dir("true").build();
        let sent = self.docker.upload_to_container(container, Some(options), body_full(tar.into()));
        self.wait(&format!("write into {folder} of the container"), sent)
    }

    /// The same for a large tar.
    pub(super) fn upload_file(&self, container: &str, folder: &str, mut tar: File) -> Result<(), ContainerError> {
        tar.rewind().map_err(temporary)?;
        let options = UploadToContainerOptionsBuilder::default().path(folder).build();
        let sent = self.docker.upload_to_container(container, Some(options), body_try_stream(pieces(tar)));
        self.wait(&format!("write into {folder} of the container"), sent)
    }
}

/// The pieces of a file, one after the other.
pub(super) fn pieces(file: File) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let mut buffer = vec![0; PIECE];
        let len = file.read(&mut buffer)?;
        buffer.truncate(len);
        Ok((len > 0).then_some((Bytes::from(buffer), file)))
    })
    .into_stream()
}

/// A tar in memory.
pub(super) struct SmallTar(tar::Builder<Vec<u8>>);

impl SmallTar {
    pub(super) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a folder.
    pub(super) fn folder(&mut self, name: &str, owner: (u32, u32)) -> io::Result<()> {
        self.folder_of_mode(name, owner, 0o755)
    }

    /// Adds some, each behind the one that it is in.
    pub(super) fn folders(&mut self, names: &[String], owner: (u32, u32)) -> io::Result<()> {
        names.iter().try_for_each(|name| self.folder(name, owner))
    }

    /// Adds one that nobody else can enter.
    pub(super) fn private_folder(&mut self, name: &str, owner: (u32, u32)) -> io::Result<()> {
        self.folder_of_mode(name, owner, 0o700)
    }

    fn folder_of_mode(&mut self, name: &str, owner: (u32, u32), mode: u32) -> io::Result<()> {
        let mut header = header(tar::EntryType::Directory, mode, owner, 0);
        self.0.append_data(&mut header, format!("{name}/"), io::empty())
    }

    /// Adds a file of root's that all can read.
    pub(super) fn file(&mut self, name: &str, content: &str) -> io::Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644, (0, 0), content.len() as u64);
        self.0.append_data(&mut header, name, content.as_bytes())
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, name: &str, target: &Path, owner: (u32, u32)) -> io::Result<()> {
        let mut header = header(tar::EntryType::Symlink, 0o777, owner, 0);
        self.0.append_link(&mut header, name, target)
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

pub(super) fn header(kind: tar::EntryType, mode: u32, (uid, gid): (u32, u32), size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_size(size);
    header.set_mtime(0);
    header
}

/// Copies a tar and gives what belongs to one user and group to another; with nobody named before, all of it. The folder itself, which
/// comes first, always.
pub(super) fn change_owner(
    from: File,
    to: &mut impl Write,
    before: Option<(u32, u32)>,
    after: (u32, u32),
) -> io::Result<()> {
    let mut input = io::BufReader::new(from);
    input.rewind()?;
    let mut archive = tar::Archive::new(input);
    let mut output = tar::Builder::new(to);
    let mut is_top = true;
    // Raw: long names and extended attributes lie in entries of their own, which are copied as they are.
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let mut header = entry.header().clone();
        let (uid, gid) = (header.uid()?, header.gid()?);
        if is_top || before.is_none_or(|(old, _)| u64::from(old) == uid) {
            header.set_uid(after.0.into());
        }
        if is_top || before.is_none_or(|(_, old)| u64::from(old) == gid) {
            header.set_gid(after.1.into());
        }
        is_top &= header.entry_type() != tar::EntryType::Directory;
        header.set_cksum();
        output.append(&header, entry)?;
    }
    output.into_inner()?.flush()
}

/// Packs one file into a tar.
pub(super) fn pack(name: &str, mut file: File, mode: u32, owner: (u32, u32)) -> io::Result<File> {
    let mut header = header(tar::EntryType::Regular, mode, owner, file.metadata()?.len());
    let mut tar = tar::Builder::new(tempfile::tempfile()?);
    tar.append_data(&mut header, name, &mut file)?;
    tar.into_inner()
}

/// Takes the one file of a tar out, if it is no larger than it may be.
///
/// # Errors
/// It is something else.
pub(super) fn unpack(mut packed: File, mut to: &File, most: u64) -> io::Result<()> {
    packed.rewind()?;
    let mut tar = tar::Archive::new(packed);
    let mut entry = tar.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    if entry.header().entry_type() != tar::EntryType::Regular || entry.size() > most {
        return Err(too_large());
    }
    io::copy(&mut entry, &mut to)?;
    to.sync_all()
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no file, or larger than it may be")
}

pub(super) fn temporary(error: io::Error) -> ContainerError {
    ContainerError::Io("use a temporary file".to_owned(), error)
}

/// What an engine says in a stream, put to use as it comes.
pub(super) fn each<T>(
    engine: &Engine,
    stream: impl futures_util::Stream<Item = Result<T, Error>>,
    mut take: impl FnMut(T),
) -> Result<(), Error> {
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = engine.ask(stream.next()) {
        take(item?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_change_and_all_else_stays() {
        let mut tar = SmallTar::new();
        tar.folder("dev", (0, 0)).unwrap();
        tar.link("dev/link", Path::new("x"), (1000, 27)).unwrap();
        tar.file(&format!("dev/{}", "long/".repeat(40)), "").unwrap();
        tar.file("dev/of-root", "content").unwrap();
        let mut before = tempfile::tempfile().unwrap();
        before.write_all(&tar.finish().unwrap()).unwrap();
        let mut after = Vec::new();
        change_owner(before, &mut after, Some((1000, 1000)), (1234, 1235)).unwrap();
        let mut archive = tar::Archive::new(after.as_slice());
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path.len(), entry.header().uid().unwrap(), entry.header().gid().unwrap())
            })
            .collect();
        assert_eq!(found, [(4, 1234, 1235), (8, 1234, 27), (204, 0, 0), (11, 0, 0)]);
    }
}
