//! One mount of a vault does all that a file system is expected to do. Needs root and /dev/fuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "several mounts are another file's matter")]
#[path = "mount_support.rs"]
mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use support::*;
use vaultfs::fuse::{CloseMode, OpenPolicy, ServeOptions};

const NOBODY: u32 = 65534;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs a shell command as another user, and tells whether it worked.
fn as_nobody(command: &str) -> bool {
    Command::new("sh").arg("-c").arg(command).uid(NOBODY).gid(NOBODY).status().unwrap().success()
}

#[test]
fn files_keep_what_is_written() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("large");
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&path, &content).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(fixture.content("large"), content);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.len(), meta.nlink(), meta.blksize()), (3_000_000, 1, 4096));
    assert!(meta.blocks() * 512 >= 3_000_000);

    fs::write(&path, b"short").unwrap();
    assert_eq!(fixture.content("large"), b"short");
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b" and more").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"short and more");
    File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"sho");
}

#[test]
fn names_come_and_go() {
    let fixture = Fixture::mounted();
    let root = fixture.whole();
    fs::create_dir(root.join("a")).unwrap();
    fs::create_dir(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), b"x").unwrap();
    symlink("file", root.join("a/link")).unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/b/second")).unwrap();
    assert_eq!(names(&root.join("a")), ["b", "file", "link"]);
    assert_eq!(fs::read_link(root.join("a/link")).unwrap().as_os_str().as_bytes(), b"file");
    assert_eq!(fs::read(root.join("a/link")).unwrap(), b"x");
    assert_eq!(fs::metadata(root.join("a/file")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(root.join("a")).unwrap().nlink(), 3);
    let (one, two) = (root.join("a/file"), root.join("a/b/second"));
    assert_eq!(fs::metadata(one).unwrap().ino(), fs::metadata(two).unwrap().ino());

    assert_eq!(fs::remove_dir(root.join("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::rename(root.join("a/b"), root.join("c")).unwrap();
    assert_eq!(fs::read(root.join("c/second")).unwrap(), b"x");
    assert_eq!(names(root), ["a", "c"]);
    fs::remove_file(root.join("a/file")).unwrap();
    assert_eq!(fs::metadata(root.join("c/second")).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(root.join("a/file")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::remove_dir_all(root.join("a")).unwrap();
    fs::remove_dir_all(root.join("c")).unwrap();
    assert!(names(root).is_empty());
    let parent = fs::metadata(root.join("..")).unwrap();
    assert_eq!(parent.ino(), fs::metadata(fixture.folder.path()).unwrap().ino(), "above a mount lies what it covers");
    eventually("a removed tree takes no room", || fixture.tree().usage().entries == 0);
}

#[test]
fn large_folders_list_completely_while_they_shrink() {
    let fixture = Fixture::mounted();
    let root = fixture.whole();
    let expected: Vec<String> = (0..3000).map(|i| format!("entry-{i:05}")).collect();
    expected.iter().for_each(|name| drop(File::create(root.join(name)).unwrap()));
    assert_eq!(names(root), expected);
    assert_eq!(names(root), expected, "a cached listing is the same");
    let listed = Command::new("ls").args(["-a", "-U"]).arg(root).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 3002, "with . and ..");
    // Removing while listing must neither skip nor repeat.
    let mut seen = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file());
        fs::remove_file(entry.path()).unwrap();
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    assert_eq!(seen, expected);
    assert!(names(root).is_empty());
}

#[test]
fn the_umask_is_applied_once() {
    let fixture = Fixture::mounted();
    let root = fixture.whole().display();
    let script =
        format!("umask 027; : > {root}/file; mkdir {root}/folder; mkfifo {root}/fifo; umask 0; : > {root}/open");
    assert!(Command::new("sh").arg("-c").arg(script).status().unwrap().success());
    let mode = |name: &str| fs::symlink_metadata(fixture.whole().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("file"), mode("folder"), mode("fifo"), mode("open")), (0o640, 0o750, 0o640, 0o666));
}

#[test]
fn unlinked_files_live_as_long_as_they_are_open() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("secret");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all(b"still here").unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"another").unwrap();
    file.write_all(b" and written").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "still here and written");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    drop(file);
    fs::remove_file(&path).unwrap();
    eventually("the inodes are gone", || fixture.tree().usage().used == Fixture::mounted().tree().usage().used);
}

#[test]
fn renames_have_all_their_flags() {
    let fixture = Fixture::mounted();
    let root = fixture.whole();
    fs::write(root.join("one"), b"1").unwrap();
    fs::create_dir(root.join("two")).unwrap();
    let rename = |flags| rustix::fs::renameat_with(CWD, root.join("one"), CWD, root.join("two"), flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!(rename(RenameFlags::empty()), Err(Errno::ISDIR));
    let whiteout = rustix::fs::renameat_with(CWD, root.join("one"), CWD, root.join("free"), RenameFlags::WHITEOUT);
    assert_eq!(whiteout, Err(Errno::INVAL));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert!(root.join("one").is_dir());
    assert_eq!(fs::read(root.join("two")).unwrap(), b"1");
    fs::rename(root.join("two"), root.join("one/inner")).unwrap();
    assert_eq!(fs::rename(root.join("one"), root.join("one/inner2")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    fs::write(root.join("three"), b"3").unwrap();
    fs::rename(root.join("three"), root.join("one/inner")).unwrap();
    assert_eq!(fs::read(root.join("one/inner")).unwrap(), b"3");
}

#[test]
fn holes_are_made_found_and_cost_nothing() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("sparse");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all_at(&[7; 256 * 1024], 0).unwrap();
    let full = file.metadata().unwrap().blocks();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 64 * 1024, 128 * 1024).unwrap();
    assert_eq!(full - file.metadata().unwrap().blocks(), 256, "128 KiB in blocks of 512 bytes");
    let mut read = vec![1; 256 * 1024];
    file.read_exact_at(&mut read, 0).unwrap();
    assert!(read[64 * 1024..192 * 1024].iter().all(|&byte| byte == 0));
    assert!(read[..64 * 1024].iter().chain(&read[192 * 1024..]).all(|&byte| byte == 7));
    let seek = |at| rustix::fs::seek(&file, at);
    assert_eq!(seek(rustix::fs::SeekFrom::Hole(0)), Ok(64 * 1024));
    assert_eq!(seek(rustix::fs::SeekFrom::Data(64 * 1024)), Ok(192 * 1024));
    assert_eq!(seek(rustix::fs::SeekFrom::Hole(200 * 1024)), Ok(256 * 1024));
    assert_eq!(seek(rustix::fs::SeekFrom::Data(256 * 1024)), Err(Errno::NXIO));

    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 512 * 1024).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 512 * 1024);
    rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 0, 4096).unwrap();
    file.read_exact_at(&mut read[..8192], 0).unwrap();
    assert!(read[..4096].iter().all(|&byte| byte == 0) && read[4096..8192].iter().all(|&byte| byte == 7));
    let unsupported = rustix::fs::fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 4096);
    assert_eq!(unsupported, Err(Errno::OPNOTSUPP));
    let too_large = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 30);
    assert_eq!(too_large, Err(Errno::NOSPC));
}

#[test]
fn ranges_are_copied() {
    let fixture = Fixture::mounted();
    let root = fixture.whole();
    fs::write(root.join("from"), vec![5; 100_000]).unwrap();
    let from = File::open(root.join("from")).unwrap();
    let to = File::create(root.join("to")).unwrap();
    let (mut from_at, mut to_at) = (10, 20);
    let copied = rustix::fs::copy_file_range(&from, Some(&mut from_at), &to, Some(&mut to_at), 50_000).unwrap();
    assert_eq!((copied, from_at, to_at), (50_000, 50_010, 50_020));
    let content = fs::read(root.join("to")).unwrap();
    assert_eq!(content.len(), 50_020);
    assert!(content[..20].iter().all(|&byte| byte == 0) && content[20..].iter().all(|&byte| byte == 5));
}

#[test]
fn extended_attributes_of_users_are_kept() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("file");
    fs::write(&path, b"x").unwrap();
    let mut value = [0; 64];
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
    set("user.one", b"first", XattrFlags::empty()).unwrap();
    set("user.two", b"", XattrFlags::CREATE).unwrap();
    assert_eq!(set("user.one", b"", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.three", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
    assert_eq!(set("trusted.one", b"", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(set("security.capability", b"", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    assert_eq!(rustix::fs::getxattr(&path, "user.one", &mut value), Ok(5));
    assert_eq!(&value[..5], b"first");
    assert_eq!(rustix::fs::getxattr(&path, "user.one", &mut value[..2]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.one"), Ok(5));
    assert_eq!(rustix::fs::getxattr(&path, "user.none", &mut value), Err(Errno::NODATA));
    assert_eq!(rustix::fs::listxattr(&path, &mut value), Ok(18));
    assert_eq!(&value[..18], b"user.one\0user.two\0");
    rustix::fs::removexattr(&path, "user.one").unwrap();
    assert_eq!(rustix::fs::removexattr(&path, "user.one"), Err(Errno::NODATA));
}

#[test]
fn times_are_kept_to_the_nanosecond_also_before_the_epoch() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("file");
    fs::write(&path, b"x").unwrap();
    for (secs, nanos) in [(1_700_000_000, 123_456_789), (-2, 800_000_000), (-1_000_000, 0), (0, 1), (20_000_000_000, 5)]
    {
        let time = Timespec { tv_sec: secs, tv_nsec: nanos };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        fixture.mounts.invalidate_all();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (secs, nanos));
        assert_eq!((meta.atime(), meta.atime_nsec()), (secs, nanos));
    }
    let before = fs::metadata(&path).unwrap();
    fs::write(&path, b"y").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert!((after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
}

#[test]
fn special_files_are_kept_inert() {
    let fixture = Fixture::mounted();
    let at = |name: &str| fixture.whole().join(name);
    let mode = Mode::from_raw_mode(0o640);
    let device = rustix::fs::makedev(300, 70_000);
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, at("socket"), FileType::Socket, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, at("char"), FileType::CharacterDevice, mode, device).unwrap();
    rustix::fs::mknodat(CWD, at("block"), FileType::BlockDevice, mode, device).unwrap();
    rustix::fs::mknodat(CWD, at("file"), FileType::RegularFile, mode, 0).unwrap();
    fixture.mounts.invalidate_all();
    let kind = |name: &str| fs::symlink_metadata(at(name)).unwrap().mode() & libc::S_IFMT;
    assert_eq!(
        (kind("fifo"), kind("socket"), kind("char"), kind("block"), kind("file")),
        (libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFCHR, libc::S_IFBLK, libc::S_IFREG)
    );
    assert_eq!(fs::metadata(at("char")).unwrap().rdev(), device);
    assert_eq!(File::open(at("char")).unwrap_err().kind(), ErrorKind::PermissionDenied, "the mount is nodev");
}

#[test]
fn set_user_id_goes_when_others_change_a_file() {
    let fixture = Fixture::mounted();
    fs::set_permissions(fixture.whole(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = fixture.whole().join("program");
    let shown = path.display().to_string();
    let changes = [
        format!("printf x >> {shown}"),
        format!(": > {shown}"),
        format!("truncate -s 3 {shown}"),
        format!("fallocate -l 8192 {shown}"),
    ];
    for change in changes {
        fs::write(&path, b"content").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o6777)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o6777);
        assert!(as_nobody(&change), "{change}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777, "after {change}");
    }
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4755)).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"by root").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755, "root may write a set-user-id program");
    std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_running_program_is_not_truncated() {
    let fixture = Fixture::mounted();
    let program = fixture.whole().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let content = fs::read(&program).unwrap();
    // A shell starts it: a process that serves the mount would wait for itself.
    let script = format!("exec {} 60", program.display());
    let mut running = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    eventually("it runs", || name(running.id()) == "program\n");
    let truncate = |access| rustix::fs::open(&program, access | rustix::fs::OFlags::TRUNC, Mode::empty()).map(drop);
    // POSIX leaves truncating through a read-only descriptor open; Linux does it.
    let outcomes = [rustix::fs::OFlags::RDONLY, rustix::fs::OFlags::WRONLY, rustix::fs::OFlags::RDWR].map(truncate);
    let alive = running.try_wait().unwrap().is_none();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(outcomes, [Err(Errno::TXTBSY); 3]);
    assert!(alive && fs::read(&program).unwrap() == content);
    eventually("it may be truncated after its end", || truncate(rustix::fs::OFlags::RDONLY).is_ok());
    assert_eq!(fs::metadata(&program).unwrap().len(), 0);
}

#[test]
fn modes_bind_other_users() {
    let fixture = Fixture::mounted();
    let root = fixture.whole();
    fs::write(root.join("private"), b"x").unwrap();
    fs::set_permissions(root.join("private"), PermissionsExt::from_mode(0o600)).unwrap();
    let read = format!("cat {} > /dev/null 2>&1", root.join("private").display());
    assert!(!as_nobody(&read), "the root of a vault is 0700");
    fs::set_permissions(root, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(!as_nobody(&read));
    fs::set_permissions(root.join("private"), PermissionsExt::from_mode(0o604)).unwrap();
    assert!(as_nobody(&read));
}

#[test]
fn free_space_is_told_and_its_end_is_an_error() {
    let fixture = Fixture::mounted();
    let before = rustix::fs::statvfs(fixture.whole()).unwrap();
    assert_eq!((before.f_blocks * before.f_frsize, before.f_namemax), (64 << 20, 255));
    fs::write(fixture.whole().join("half"), vec![1; 32 << 20]).unwrap();
    let after = rustix::fs::statvfs(fixture.whole()).unwrap();
    assert!(before.f_bavail - after.f_bavail >= 8192);
    let error = fs::write(fixture.whole().join("rest"), vec![1; 40 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}

#[test]
fn direct_io_and_locks_work_within_a_mount() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("file");
    fs::write(&path, vec![9; 8192]).unwrap();
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let mut buffer = vec![0; 8192];
    assert_eq!(direct.read_at(&mut buffer, 0).unwrap(), 8192);
    assert!(buffer.iter().all(|&byte| byte == 9));
    let other = File::open(&path).unwrap();
    direct.lock().unwrap();
    assert!(other.try_lock().is_err());
    direct.unlock().unwrap();
    other.try_lock().unwrap();
}

#[test]
fn fsync_returns_when_the_archive_holds_it() {
    let fixture = Fixture::mounted();
    let file = File::create(fixture.whole().join("file")).unwrap();
    (&file).write_all(b"content").unwrap();
    file.sync_all().unwrap();
    assert!(!fixture.vault.committer().status().dirty);
    fs::create_dir(fixture.whole().join("folder")).unwrap();
    File::open(fixture.whole()).unwrap().sync_all().unwrap();
    assert!(!fixture.vault.committer().status().dirty);
}

#[test]
fn a_strict_close_waits_for_the_commit() {
    let mut fixture = Fixture::new(ServeOptions { close: CloseMode::Strict, ..OPTIONS });
    fixture.mount("whole", vaultfs::fuse::View::whole(vaultfs::fuse::Access::ReadWrite));
    for round in 0..3 {
        fs::write(fixture.whole().join("file"), format!("content {round}")).unwrap();
        assert!(!fixture.vault.committer().status().dirty);
    }
}

#[test]
fn open_handles_are_counted_and_opens_can_be_refused() {
    let fixture = Fixture::mounted();
    let path = fixture.whole().join("file");
    fs::write(&path, b"x").unwrap();
    eventually("a closed file is released", || fixture.mounts.open_handles() == 0);
    let (file, folder) = (File::open(&path).unwrap(), fs::read_dir(fixture.whole()).unwrap());
    assert_eq!(fixture.mounts.open_handles(), 2);
    fixture.mounts.refuse_opens(OpenPolicy::Refuse);
    let busy = |outcome: std::io::Result<()>| assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EBUSY));
    busy(File::open(&path).map(drop));
    busy(File::create(&path).map(drop));
    busy(File::create(fixture.whole().join("new")).map(drop));
    busy(fs::read_dir(fixture.whole()).map(drop));
    assert_eq!(fixture.content("file"), b"x", "a refused open must not truncate");
    fixture.mounts.refuse_opens(OpenPolicy::Allow);
    File::open(&path).unwrap();
    drop((file, folder));
    eventually("all is released", || fixture.mounts.open_handles() == 0);
}

#[test]
fn a_mount_that_is_taken_away_drops_out() {
    let mut fixture = Fixture::mounted();
    fs::write(fixture.whole().join("file"), b"x").unwrap();
    let held = File::open(fixture.whole().join("file")).unwrap();
    fs::remove_file(fixture.whole().join("file")).unwrap();
    assert_eq!(fixture.mounts.served(), [fixture.points[0].id]);
    drop(held);
    fixture.points.clear();
    eventually("the mount is gone", || fixture.mounts.served().is_empty());
    assert_eq!(fixture.mounts.open_handles(), 0);
    assert_eq!(fixture.tree().usage().entries, 0);
}
