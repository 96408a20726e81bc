//! How a tree looks through system calls.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType};

/// All that is compared of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub mode: u32,
    pub links: u64,
    /// Of anything but a folder, whose size means nothing.
    pub size: u64,
    /// Of a file, or the target of a symbolic link.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path of the same inode.
    pub same_as: String,
}

/// Seconds and nanoseconds.
pub type Time = (i64, u64);

/// A whole tree: looks and times of change by path (of FIFOs no times); the folder itself has the empty path.
#[derive(Default)]
pub struct Tree {
    pub looks: BTreeMap<String, Look>,
    pub times: BTreeMap<String, Time>,
    inodes: BTreeMap<u64, String>,
}

impl Tree {
    pub fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.visit(root, "");
        tree
    }

    fn visit(&mut self, root: &Path, at: &str) {
        let path = root.join(at);
        let stat = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let content = match kind {
            FileType::RegularFile => std::fs::read(&path).unwrap(),
            FileType::Symlink => std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let same_as = self.inodes.entry(stat.st_ino).or_insert_with(|| at.to_owned()).clone();
        let size = if kind == FileType::Directory { 0 } else { stat.st_size as u64 };
        let look = Look { mode: stat.st_mode, links: stat.st_nlink, size, content, xattrs: xattrs(&path), same_as };
        self.looks.insert(at.to_owned(), look);
        // Linux tells a FUSE server nothing of what goes through a FIFO; tmpfs notes when.
        if kind != FileType::Fifo {
            self.times.insert(at.to_owned(), (stat.st_mtime, stat.st_mtime_nsec));
        }
        if kind == FileType::Directory {
            let mut names: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{at} lists a name twice");
            let child = |name: &String| if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
            names.iter().for_each(|name| self.visit(root, &child(name)));
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut list, mut value) = (vec![0; 4096], vec![0; 4096]);
    let len = rustix::fs::llistxattr(path, &mut list).unwrap();
    let names = list[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap()).filter(|name| name.starts_with("user."));
    names
        .map(|name| {
            let len = rustix::fs::lgetxattr(path, &name, &mut value).unwrap();
            (name, value[..len].to_vec())
        })
        .collect()
}

/// What can be seen of an open file: names, size, and that both sides agree on the rest.
pub fn of_open(file: &OwnedFd) -> (u64, u64, u32) {
    let stat = rustix::fs::fstat(file).unwrap();
    (stat.st_nlink, stat.st_size as u64, stat.st_mode)
}
