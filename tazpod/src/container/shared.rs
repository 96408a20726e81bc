//! The folder that a container's views are mounted in: made on this machine before the container is, and on a mount whose later mounts
//! get into containers.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::ContainerError;

/// Where the views of one container are mounted. Only this folder is bound into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// That of a container, by its name: `~/.local/share/tazpod/mnt/<container>`.
    pub fn of(data_home: &Path, container: &str) -> Self {
        Self(data_home.join("tazpod/mnt").join(container))
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

/// Makes the folder, and the mount points in it, and sees to it that mounts in it will be seen in containers.
///
/// # Errors
/// [`ContainerError::NotShared`], [`ContainerError::Io`].
pub fn prepare(place: &Place, mount_points: &[String]) -> Result<(), ContainerError> {
    let cannot = |error| ContainerError::Io(format!("make {}", place.0.display()), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.0).map_err(cannot)?;
    for mount_point in mount_points {
        match std::fs::DirBuilder::new().mode(0o500).create(place.0.join(mount_point)) {
            // A dead or living mount may be there.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(error)),
            _ => {}
        }
    }
    let folder = place.0.canonicalize().map_err(cannot)?;
    let text = std::fs::read_to_string("/proc/self/mountinfo");
    let text = text.map_err(|error| ContainerError::Io("read /proc/self/mountinfo".to_owned(), error))?;
    match holder(&text, &folder) {
        Some((mount, false)) => Err(ContainerError::NotShared { dir: folder, mount }),
        // Nothing known: the engine will say so.
        Some((_, true)) | None => Ok(()),
    }
}

/// The mount that a folder lies on, and whether it is shared (proc_pid_mountinfo(5): the fields from the seventh on, up to a dash).
fn holder(mountinfo: &str, folder: &Path) -> Option<(PathBuf, bool)> {
    let mut found: Option<(PathBuf, bool)> = None;
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(dir) = fields.get(4).map(|dir| PathBuf::from(unescape(dir))) else { continue };
        let is_longer = found.as_ref().is_none_or(|(known, _)| dir.as_os_str().len() >= known.as_os_str().len());
        if folder.starts_with(&dir) && is_longer {
            let options = fields[6..].iter().take_while(|field| **field != "-");
            let is_shared = options.clone().any(|option| option.starts_with("shared:"));
            found = Some((dir, is_shared));
        }
    }
    found
}

/// Spaces and their like are written as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, char)| text.replace(code, char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_says_whether_it_is_shared() {
        let text = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                    2 1 8:2 / /home rw,relatime - ext4 /dev/sda2 rw\n\
                    3 2 8:3 / /home/a\\040b rw shared:7 master:1 - ext4 /dev/sda3 rw\n";
        assert_eq!(holder(text, Path::new("/srv/x")), Some(("/".into(), true)));
        assert_eq!(holder(text, Path::new("/home/me/x")), Some(("/home".into(), false)));
        assert_eq!(holder(text, Path::new("/home/a b/x")), Some(("/home/a b".into(), true)));
        assert_eq!(holder("", Path::new("/")), None);
    }
}
