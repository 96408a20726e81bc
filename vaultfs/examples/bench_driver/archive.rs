//! The work that shows what the archive costs: small changes made durable, and trees to be packed and unpacked.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use rustix::fs::OFlags;
use vaultfs::crypto::{CHUNK_LEN, KdfCost, Suite};
use vaultfs::vault::{Machine, NewArchive, Vault};

use super::{Numbers, SMALL_FILE, open, passphrase, timed};

/// Folders and files in each of a tree, as many as a full vault may have.
const FOLDERS: usize = 26;
const FILES_OF_A_FOLDER: usize = 100;
/// Bytes of a tree's file on average.
const FILE_SIZE: u64 = 25_800;

/// A small change made durable.
#[derive(Clone, Copy)]
pub enum Small {
    /// 4 KiB in a large file, and fsync.
    Fsync,
    /// As editors save: a new file, fsync, renamed over the old one.
    Save,
}

/// Times small changes in some folders and appends of `bytes` bytes with fdatasync to a file, in turn, so that all meet the disk
/// in the same moods; every other time the other way round, since what one still does afterwards falls on the next. A line for each: `folder<TAB>seconds<TAB>seconds…`.
pub fn in_turn(what: Small, folders: &[&str], append: (&Path, usize), count: usize) {
    let mut turns = Turns::new(what, folders, append);
    (0..count).for_each(|_| turns.take());
    turns.print();
}

/// The same with changes of 4 KiB for as long as the first folder's archive is compacted, which is due once its large file was
/// written anew and some more: until another file bears the archive's name.
pub fn beside_compaction(archive: &Path, folders: &[&str], append: (&Path, usize)) {
    let mut turns = Turns::new(Small::Fsync, folders, append);
    let folder = Path::new(folders[0]);
    let size = std::fs::metadata(folder.join("large")).unwrap().len();
    let more = open(folder.join("more").to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE);
    fill(&more, 8 << 20, &mut Numbers(11));
    let before = std::fs::metadata(archive).unwrap().ino();
    let large = open(folder.join("large").to_str().unwrap(), OFlags::WRONLY);
    fill(&large, size, &mut Numbers(12));
    rustix::fs::fsync(&large).unwrap();
    let begun = Instant::now();
    while std::fs::metadata(archive).unwrap().ino() == before {
        assert!(begun.elapsed().as_secs() < 60, "no compaction came");
        turns.take();
    }
    std::fs::remove_file(folder.join("more")).unwrap();
    turns.print();
}

/// Small changes and appends in turn.
struct Turns<'a> {
    what: Small,
    folders: &'a [&'a str],
    file: OwnedFd,
    appended: Vec<u8>,
    numbers: Numbers,
    /// Seconds, those of appends last.
    taken: Vec<Vec<f64>>,
}

impl<'a> Turns<'a> {
    fn new(what: Small, folders: &'a [&'a str], append: (&Path, usize)) -> Self {
        let file = open(append.0.to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND);
        let taken = vec![Vec::new(); folders.len() + 1];
        Self { what, folders, file, appended: vec![7; append.1], numbers: Numbers(4), taken }
    }

    fn take(&mut self) {
        let is_reversed = self.taken[0].len() % 2 == 1;
        let last = self.folders.len();
        for index in 0..=last {
            let index = if is_reversed { last - index } else { index };
            let begun = Instant::now();
            match self.folders.get(index) {
                Some(folder) => change(self.what, Path::new(folder), &mut self.numbers),
                None => self.append(),
            }
            self.taken[index].push(begun.elapsed().as_secs_f64());
        }
    }

    fn append(&self) {
        assert_eq!(rustix::io::write(&self.file, &self.appended).unwrap(), self.appended.len());
        rustix::fs::fdatasync(&self.file).unwrap();
    }

    fn print(&self) {
        for (name, taken) in self.folders.iter().chain([&"append"]).zip(&self.taken) {
            let seconds: Vec<String> = taken.iter().map(|seconds| format!("{seconds:.9}")).collect();
            println!("{name}\t{}", seconds.join("\t"));
        }
    }
}

fn change(what: Small, folder: &Path, numbers: &mut Numbers) {
    let mut content = [0; SMALL_FILE];
    numbers.fill(&mut content);
    match what {
        Small::Fsync => {
            let file = open(folder.join("large").to_str().unwrap(), OFlags::WRONLY);
            let pages = rustix::fs::fstat(&file).unwrap().st_size as u64 / SMALL_FILE as u64;
            let offset = numbers.below(pages) * SMALL_FILE as u64;
            assert_eq!(rustix::io::pwrite(&file, &content, offset).unwrap(), SMALL_FILE);
            rustix::fs::fsync(&file).unwrap();
        }
        Small::Save => {
            let (draft, name) = (folder.join("notes~"), folder.join("notes"));
            let file = open(draft.to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC);
            assert_eq!(rustix::io::write(&file, &content).unwrap(), SMALL_FILE);
            rustix::fs::fsync(&file).unwrap();
            rustix::fs::rename(&draft, &name).unwrap();
        }
    }
}

/// Makes the large file that changes are made in.
pub fn make_large(folder: &Path, size: u64) {
    let file = open(folder.join("large").to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE);
    fill(&file, size, &mut Numbers(9));
}

/// Times `count` files written and closed, and one fsync at the end.
pub fn many(folder: &Path, count: usize) {
    let folder = folder.join(format!("many-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut content = vec![0; SMALL_FILE];
    Numbers(6).fill(&mut content);
    timed("many", || {
        for index in 0..count {
            let name = folder.join(format!("file-{index}"));
            let file = open(name.to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL);
            assert_eq!(rustix::io::write(&file, &content).unwrap(), SMALL_FILE);
        }
        rustix::fs::fsync(open(folder.to_str().unwrap(), OFlags::RDONLY | OFlags::DIRECTORY)).unwrap();
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Times appends of `bytes` bytes to a file, each followed by fdatasync.
pub fn appends(name: &Path, bytes: usize, count: usize) {
    let mut content = vec![0; bytes];
    Numbers(7).fill(&mut content);
    let file = open(name.to_str().unwrap(), OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND);
    timed_median("append", count, || {
        assert_eq!(rustix::io::write(&file, &content).unwrap(), bytes);
        rustix::fs::fdatasync(&file).unwrap();
    });
}

/// Makes an empty vault of version 2 whose passphrase costs next to nothing to try.
pub fn make_vault(archive: &Path) {
    let cost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };
    let kind = NewArchive::V2 { suite: Suite::of_this_machine(), cost };
    Vault::create(archive, &passphrase(), kind, &Machine::default()).unwrap();
}

/// Makes a tree of 2,600 files and 64 MiB: half of them text, which shrinks, half of them random.
pub fn make_tree(folder: &Path) {
    let mut numbers = Numbers(8);
    for outer in 0..FOLDERS {
        let folder = folder.join(format!("folder-{outer:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        for inner in 0..FILES_OF_A_FOLDER {
            let mut content = vec![0; (FILE_SIZE / 2 + numbers.below(FILE_SIZE)) as usize];
            if inner % 2 == 0 {
                numbers.fill(&mut content)
            } else {
                fill_with_text(&mut content, &mut numbers)
            }
            std::fs::write(folder.join(format!("file-{inner:02}")), content).unwrap();
        }
    }
}

/// Times the opening of so many bytes in chunks with AES-256-GCM of the crate `aes-gcm`, the limit that a check is held against.
pub fn cipher(bytes: usize) {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let mut sealed = vec![7; CHUNK_LEN];
    let tag = cipher.encrypt_inout_detached(&[0; 12].into(), &[], sealed.as_mut_slice().into()).unwrap();
    let mut chunk = sealed.clone();
    timed("cipher", || {
        for _ in 0..bytes / CHUNK_LEN {
            chunk.copy_from_slice(&sealed);
            cipher.decrypt_inout_detached(&[0; 12].into(), &[], chunk.as_mut_slice().into(), &tag).unwrap();
        }
    });
}

/// Prints the median of the seconds that each of `count` runs takes.
fn timed_median(row: &str, count: usize, mut work: impl FnMut()) {
    let mut taken: Vec<f64> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    println!("{row}\t{:.9}", taken[count / 2]);
}

fn fill(file: impl AsFd, size: u64, numbers: &mut Numbers) {
    let mut piece = vec![0; super::LARGE_STEP];
    for _ in 0..size / super::LARGE_STEP as u64 {
        numbers.fill(&mut piece);
        assert_eq!(rustix::io::write(file.as_fd(), &piece).unwrap(), piece.len());
    }
}

/// Lines as configuration files have them.
fn fill_with_text(content: &mut [u8], numbers: &mut Numbers) {
    const WORDS: [&str; 16] = [
        "server",
        "address",
        "10.0.",
        "port",
        "user",
        "token",
        "region",
        "eu-west-1",
        "enabled",
        "true",
        "cluster",
        "certificate",
        "= ",
        ": ",
        "\n",
        "\n  - ",
    ];
    let mut text = Vec::with_capacity(content.len() + 64);
    while text.len() < content.len() {
        text.extend_from_slice(WORDS[numbers.below(WORDS.len() as u64) as usize].as_bytes());
        if numbers.below(8) == 0 {
            text.extend_from_slice(format!("{:x}", numbers.below(1 << 40)).as_bytes());
        }
    }
    content.copy_from_slice(&text[..content.len()]);
}
