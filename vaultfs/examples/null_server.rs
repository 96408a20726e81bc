//! The floor that the benchmark measures against: a file system in memory with the plainest data structures, no sealing and
//! no archive, asking the kernel for the same as the real one.
//!
//! `null_server MOUNTPOINT [--threads N]` serves until it is unmounted.

#[path = "../src/fuse/capabilities.rs"]
mod capabilities;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::time::{Duration, SystemTime};

use capabilities::{CAPABILITIES, MAX_WRITE};
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::RwLock;

/// As in the real file system.
const LIFETIME: Duration = Duration::from_secs(3600);
const GENERATION: Generation = Generation(0);

fn main() -> io::Result<()> {
    let usage = "usage: null_server MOUNTPOINT [--threads N]";
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (point, threads) = match arguments.as_slice() {
        [point] => (point, Some(4)),
        [point, flag, count] if flag == "--threads" => (point, count.to_str().and_then(|count| count.parse().ok())),
        _ => return Err(io::Error::other(usage)),
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("null".into()), MountOption::DefaultPermissions];
    config.n_threads = Some(threads.ok_or_else(|| io::Error::other(usage))?);
    fuser::mount(NullServer::new(), point, &config)
}

struct NullServer(RwLock<State>);

struct State {
    nodes: HashMap<u64, Node>,
    last_ino: u64,
}

struct Node {
    attr: FileAttr,
    data: Vec<u8>,
    cookies: HashMap<OsString, u64>,
    children: BTreeMap<u64, (OsString, u64)>,
    last_cookie: u64,
    lookups: u64,
}

impl Node {
    fn new(ino: u64, kind: FileType, perm: u16, (uid, gid): (u32, u32)) -> Self {
        let now = SystemTime::now();
        let attr = FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        Self { attr, data: Vec::new(), cookies: HashMap::new(), children: BTreeMap::new(), last_cookie: 2, lookups: 0 }
    }

    fn resize(&mut self, size: usize) {
        self.data.resize(size, 0);
        self.attr.size = size as u64;
        self.attr.blocks = (size as u64).div_ceil(512);
        self.touch();
    }

    fn touch(&mut self) {
        self.attr.mtime = SystemTime::now();
        self.attr.ctime = self.attr.mtime;
    }

    fn attach(&mut self, name: &OsStr, child: u64) {
        self.last_cookie += 1;
        self.cookies.insert(name.to_owned(), self.last_cookie);
        self.children.insert(self.last_cookie, (name.to_owned(), child));
        self.touch();
    }

    fn detach(&mut self, name: &OsStr) -> Option<u64> {
        let cookie = self.cookies.remove(name)?;
        self.touch();
        self.children.remove(&cookie).map(|(_, child)| child)
    }
}

impl State {
    fn node(&self, ino: INodeNo) -> Result<&Node, Errno> {
        self.nodes.get(&ino.0).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, ino: INodeNo) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino.0).ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        let folder = self.node(parent)?;
        let cookie = folder.cookies.get(name).ok_or(Errno::ENOENT)?;
        folder.children.get(cookie).map(|&(_, child)| child).ok_or(Errno::ENOENT)
    }

    fn look_up(&mut self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let child = INodeNo(self.child(parent, name)?);
        let node = self.node_mut(child)?;
        node.lookups += 1;
        Ok(node.attr)
    }

    fn make(
        &mut self,
        parent: INodeNo,
        name: &OsStr,
        kind: FileType,
        mode: u32,
        request: &Request,
    ) -> Result<FileAttr, Errno> {
        if self.child(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.last_ino += 1;
        let ino = self.last_ino;
        let folder = self.node_mut(parent)?;
        folder.attach(name, ino);
        folder.attr.nlink += u32::from(kind == FileType::Directory);
        let mut node = Node::new(ino, kind, (mode & 0o7777) as u16, (request.uid(), request.gid()));
        node.lookups = 1;
        let attr = node.attr;
        self.nodes.insert(ino, node);
        Ok(attr)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let child = INodeNo(self.child(parent, name)?);
        if !self.node(child)?.children.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.node_mut(parent)?.detach(name);
        let node = self.node_mut(child)?;
        node.attr.nlink = 0;
        if node.attr.kind == FileType::Directory {
            self.node_mut(parent)?.attr.nlink -= 1;
        }
        self.forget(child, 0);
        Ok(())
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let child = self.child(from.0, from.1)?;
        if self.child(to.0, to.1).is_ok_and(|target| target == child) {
            return Ok(());
        }
        if self.child(to.0, to.1).is_ok() {
            self.remove(to.0, to.1)?;
        }
        let is_folder = self.node(INodeNo(child))?.attr.kind == FileType::Directory;
        let old = self.node_mut(from.0)?;
        old.detach(from.1);
        old.attr.nlink -= u32::from(is_folder);
        let new = self.node_mut(to.0)?;
        new.attach(to.1, child);
        new.attr.nlink += u32::from(is_folder);
        Ok(())
    }

    fn forget(&mut self, ino: INodeNo, lookups: u64) {
        let Some(node) = self.nodes.get_mut(&ino.0) else { return };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && node.attr.nlink == 0 {
            self.nodes.remove(&ino.0);
        }
    }
}

impl NullServer {
    fn new() -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = Node::new(1, FileType::Directory, 0o700, owner);
        Self(RwLock::new(State { nodes: HashMap::from([(1, root)]), last_ino: 1 }))
    }

    fn make(&self, parent: INodeNo, name: &OsStr, kind: FileType, mode: u32, request: &Request, reply: ReplyEntry) {
        match self.0.write().make(parent, name, kind, mode, request) {
            Ok(attr) => reply.entry(&LIFETIME, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }
}

fn answer(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for NullServer {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            // What the kernel does not have is done without.
            let _ = config.add_capabilities(capability);
        }
        config.set_max_write(MAX_WRITE).map(drop).map_err(|_| io::Error::other("the size of writes was refused"))
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.write().look_up(parent, name) {
            Ok(attr) => reply.entry(&LIFETIME, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.0.write().forget(ino, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.read().node(ino) {
            Ok(node) => reply.attr(&LIFETIME, &node.attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        };
        let mut state = self.0.write();
        let Ok(node) = state.node_mut(ino) else { return reply.error(Errno::ENOENT) };
        if let Some(size) = size {
            node.resize(size as usize);
        }
        node.attr.perm = mode.map_or(node.attr.perm, |mode| (mode & 0o7777) as u16);
        node.attr.uid = uid.unwrap_or(node.attr.uid);
        node.attr.gid = gid.unwrap_or(node.attr.gid);
        node.attr.atime = atime.map_or(node.attr.atime, time);
        node.attr.mtime = mtime.map_or(node.attr.mtime, time);
        node.attr.ctime = SystemTime::now();
        reply.attr(&LIFETIME, &node.attr);
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        self.make(parent, name, FileType::RegularFile, mode, request, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        self.make(parent, name, FileType::Directory, mode, request, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.0.write().remove(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.0.write().remove(parent, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(self.0.write().rename((parent, name), (new_parent, new_name)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.0 & libc::O_TRUNC != 0
            && let Ok(node) = self.0.write().node_mut(ino)
        {
            node.resize(0);
        }
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.0.write().make(parent, name, FileType::RegularFile, mode, request) {
            Ok(attr) => reply.created(&LIFETIME, &attr, GENERATION, FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.read().node(ino) {
            Ok(node) => {
                let start = node.data.len().min(offset as usize);
                let end = node.data.len().min(start + size as usize);
                reply.data(&node.data[start..end]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.write().node_mut(ino) {
            Ok(node) => {
                let start = offset as usize;
                let end = start + data.len();
                node.resize(node.data.len().max(end));
                node.data[start..end].copy_from_slice(data);
                reply.written(data.len() as u32);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.0.read();
        let Ok(folder) = state.node(ino) else { return reply.error(Errno::ENOENT) };
        let dots = [(1, "."), (2, "..")].into_iter().filter(|&(cookie, _)| cookie > offset);
        let mut full = dots.into_iter().any(|(cookie, name)| reply.add(ino, cookie, FileType::Directory, name));
        for (&cookie, (name, child)) in folder.children.range(offset.max(2) + 1..) {
            full = full || reply.add(INodeNo(*child), cookie, state.nodes[child].attr.kind, name);
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let mut state = self.0.write();
        let Ok(folder) = state.node(ino) else { return reply.error(Errno::ENOENT) };
        let dots = [(1, "."), (2, "..")].into_iter().filter(|&(cookie, _)| cookie > offset);
        let mut full = dots.into_iter().any(|(at, name)| reply.add(ino, at, name, &LIFETIME, &folder.attr, GENERATION));
        let mut added = Vec::new();
        for (&cookie, (name, child)) in folder.children.range(offset.max(2) + 1..) {
            let attr = &state.nodes[child].attr;
            full = full || reply.add(attr.ino, cookie, name, &LIFETIME, attr, GENERATION);
            if full {
                break;
            }
            added.push(*child);
        }
        for child in added {
            state.nodes.entry(child).and_modify(|node| node.lookups += 1);
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }
}
