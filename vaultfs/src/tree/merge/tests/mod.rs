//! Merges of small trees: each rule by name, and random edits of both sides.

mod again;
mod random;
mod rules;

use std::sync::Arc;

use crate::entry::{Entry, EntryKind, EntryPath, InodeId, Timestamp};
use crate::tree::unchanged;
use crate::tree::{
    Conflict, Ino, Matching, MergeLabel, MergeWith, Merged, NewKind, NewNode, Owner, RenameMode, SetAttributes,
    SetTime, Snapshot, Stat, Tree, TreeError, TreeOptions, WriteOptions, XattrMode,
};

const OWNER: Owner = Owner { uid: 1, gid: 1 };

/// A tree with short ways to change it.
struct Machine(Tree);

fn empty() -> Machine {
    let options = TreeOptions { owner: OWNER, size_limit: 64 << 20, logical_limit: 1 << 30, entry_limit: 10_000 };
    Machine(Tree::new(options).unwrap())
}

fn label() -> MergeLabel {
    MergeLabel { time: Timestamp { secs: 1_795_590_180, nanos: 0 }, host: "laptop".to_owned(), seed: [7; 32] }
}

/// Where the conflicts of [`label`] lie.
const FOLDER: &str = ".tazpod-conflicts/20261125T070300Z-laptop";

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

impl Machine {
    /// Another machine with the same vault.
    fn fork(&self) -> Machine {
        let mut copy = empty();
        let mut applier = copy.0.applier();
        self.0.snapshot().changes_since(None, &mut |change| applier.apply(&change)).unwrap();
        applier.end().unwrap();
        drop(applier);
        copy
    }

    /// The same under new ids, as an archive of version 1 is read.
    fn reload(&self) -> Machine {
        let (mut copy, snapshot) = (empty(), Arc::new(self.0.snapshot()));
        let (reader, mut loader) = (snapshot.entries(), copy.0.loader());
        for (entry, from) in snapshot.entries() {
            let is_file = matches!(entry.kind, EntryKind::File { .. });
            let ino = loader.add(entry).unwrap();
            let mut content = vec![0; if is_file { self.0.stat(from).unwrap().size as usize } else { 0 }];
            if !content.is_empty() {
                reader.read(from, 0, &mut content).unwrap();
                loader.append(ino, &content).unwrap();
            }
        }
        drop(loader);
        copy
    }

    fn find(&self, name: &str) -> Option<Stat> {
        self.0.resolve(&path(name)).ok()
    }

    fn ino(&self, name: &str) -> Ino {
        self.find(name).unwrap_or_else(|| panic!("there is no {name}: {:#?}", self.dump())).ino
    }

    fn parent(&self, name: &str) -> (Ino, Vec<u8>) {
        let name = path(name);
        let (parent, last) = name.split_last().unwrap();
        (self.0.resolve(&parent).unwrap().ino, last.to_vec())
    }

    fn make(&self, name: &str, kind: NewKind) -> Ino {
        let (parent, last) = self.parent(name);
        self.0.make(parent, &last, NewNode { kind, mode: 0o640, owner: OWNER }).unwrap().ino
    }

    fn mkdir(&self, name: &str) -> &Self {
        self.make(name, NewKind::Folder);
        self
    }

    /// Writes into the file, or a new one.
    fn put(&self, name: &str, text: &str) -> &Self {
        let ino = self.find(name).map_or_else(|| self.make(name, NewKind::File), |stat| stat.ino);
        self.0.set_attributes(ino, &SetAttributes { size: Some(0), ..SetAttributes::default() }).unwrap();
        self.0.write(ino, 0, text.as_bytes(), WriteOptions::default()).unwrap();
        self
    }

    /// As editors save: a new file takes the place of the old.
    fn save(&self, name: &str, text: &str) -> &Self {
        let temporary = format!("{name}.tmp");
        self.put(&temporary, text).mv(&temporary, name)
    }

    fn mv(&self, from: &str, to: &str) -> &Self {
        let ((parent, name), (new_parent, new_name)) = (self.parent(from), self.parent(to));
        self.0.rename(parent, &name, new_parent, &new_name, RenameMode::Replace).unwrap();
        self
    }

    fn ln(&self, from: &str, to: &str) -> &Self {
        let (parent, name) = self.parent(to);
        self.0.link(self.ino(from), parent, &name).unwrap();
        self
    }

    fn symlink(&self, name: &str, target: &str) -> &Self {
        self.make(name, NewKind::Symlink(target.into()));
        self
    }

    fn chmod(&self, name: &str, mode: u32) -> &Self {
        self.0.set_attributes(self.ino(name), &SetAttributes { mode: Some(mode), ..SetAttributes::default() }).unwrap();
        self
    }

    fn touch(&self, name: &str, secs: i64) -> &Self {
        let mtime = Some(SetTime::At(Timestamp { secs, nanos: 0 }));
        self.0.set_attributes(self.ino(name), &SetAttributes { mtime, ..SetAttributes::default() }).unwrap();
        self
    }

    fn xattr(&self, name: &str, attribute: &str, value: &str) -> &Self {
        self.0.set_xattr(self.ino(name), attribute.as_bytes(), value.as_bytes(), XattrMode::Set).unwrap();
        self
    }

    /// Removes it with all it holds.
    fn rm(&self, name: &str) -> &Self {
        let (parent, last) = self.parent(name);
        match self.0.unlink(parent, &last) {
            Err(TreeError::IsFolder) => {
                let mut names = Vec::new();
                self.0
                    .list(self.ino(name), 0, &mut |entry| {
                        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                        true
                    })
                    .unwrap();
                names.iter().for_each(|child| self.rm(&format!("{name}/{child}")).end());
                self.0.remove_folder(parent, &last).unwrap();
            }
            outcome => outcome.unwrap(),
        }
        self
    }

    /// Ends a chain of changes.
    fn end(&self) {}

    fn text(&self, name: &str) -> String {
        let mut bytes =
            vec![0; self.find(name).unwrap_or_else(|| panic!("no {name}: {:#?}", self.dump())).size as usize];
        self.0.read(self.ino(name), 0, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.dump().into_iter().map(|entry| entry.0.path.to_string()).filter(|path| !path.is_empty()).collect()
    }

    /// All that an archive keeps, without ctime, with contents and ids.
    fn dump(&self) -> Dump {
        let snapshot = Arc::new(self.0.snapshot());
        let reader = snapshot.entries();
        let with_content = |(mut entry, ino): (Entry, Ino)| {
            let mut content = vec![
                0;
                if matches!(entry.kind, EntryKind::File { .. }) {
                    self.0.stat(ino).unwrap().size as usize
                } else {
                    0
                }
            ];
            if !content.is_empty() {
                reader.read(ino, 0, &mut content).unwrap();
            }
            entry.attributes.ctime = Timestamp::default();
            (entry, String::from_utf8_lossy(&content).into_owned(), snapshot.inodes()[&ino].0.id)
        };
        snapshot.entries().map(with_content).collect()
    }

    /// Merges this into another, in place.
    fn merge_into(&self, base: &Machine, remote: &Machine) -> Result<Merged, TreeError> {
        self.merge_matching(base, remote, Matching::Ids)
    }

    fn merge_matching(&self, base: &Machine, remote: &Machine, matching: Matching) -> Result<Merged, TreeError> {
        let (base, remote) = (base.0.snapshot(), remote.0.snapshot());
        self.0.merge(&MergeWith { matching, base: &base, remote: &remote, label: &label() })
    }
}

/// All that an archive keeps of a tree.
type Dump = Vec<(Entry, String, InodeId)>;

fn assert_same(found: Dump, expected: &Dump, what: &str) {
    let only =
        |one: &Dump, other: &Dump| -> Dump { one.iter().filter(|line| !other.contains(line)).cloned().collect() };
    assert!(found == *expected, "{what}: found {:#?}, expected {:#?}", only(&found, expected), only(expected, &found));
}

/// Merges, and checks what holds for every merge: the outcome is a tree that an archive can hold; the difference to the remote
/// state leads to it; another machine makes the same; doing it again changes nothing.
fn merged(base: &Machine, local: &Machine, remote: &Machine) -> (Machine, Vec<Conflict>) {
    let (result, again) = (local.fork(), local.fork());
    let before = result.0.snapshot();
    let Merged { conflicts, changes } = result.merge_into(base, remote).unwrap();
    let expected = result.dump();
    let thorough = local.fork();
    unchanged::OFF.set(true);
    let told = thorough.merge_into(base, remote).unwrap();
    let difference = remote_then_difference(remote, &thorough).dump();
    unchanged::OFF.set(false);
    assert_same(thorough.dump(), &expected, "with what is unchanged merged too");
    assert_eq!((told.conflicts, told.changes, difference), (conflicts.clone(), changes, expected.clone()));
    assert_same(
        before_then_difference(local, &before, &result).dump(),
        &expected,
        "the difference to the state before",
    );
    assert_eq!(result.fork().dump(), expected);
    assert_eq!(result.fork().0.state.read().counters(), result.0.state.read().counters());
    assert_eq!(remote_then_difference(remote, &result).dump(), expected, "the difference to the remote state");
    assert_eq!(again.merge_into(base, remote).unwrap().conflicts, conflicts);
    assert_eq!(again.dump(), expected, "another machine");
    let redo = local.fork();
    redo.merge_into(base, &result).unwrap();
    assert_same(redo.dump(), &expected, "merged into its own outcome");
    // What was saved anew may take another id.
    let without_ids = |dump: Dump| dump.into_iter().map(|(entry, content, _)| (entry, content)).collect::<Vec<_>>();
    let half = result.fork();
    half.merge_into(base, remote).unwrap();
    assert_eq!(without_ids(half.dump()), without_ids(expected.clone()), "the outcome merged with the remote once more");
    let onward = result.fork();
    onward.merge_into(remote, remote).unwrap();
    assert_eq!(without_ids(onward.dump()), without_ids(expected.clone()), "nothing new from the remote");
    let forward = local.fork();
    forward.merge_into(local, &result).unwrap();
    assert_same(forward.dump(), &expected, "fast forward");
    (result, conflicts)
}

/// The state before as an archive holds it, with the next commit behind it: that is all when the merge cannot be put in place.
fn before_then_difference(local: &Machine, before: &Snapshot, result: &Machine) -> Machine {
    let mut copy = empty();
    let mut applier = copy.0.applier();
    local.0.snapshot().changes_since(None, &mut |change| applier.apply(&change)).unwrap();
    applier.end().unwrap();
    result.0.snapshot().changes_since(Some(before), &mut |change| applier.apply(&change)).unwrap();
    applier.end().unwrap();
    drop(applier);
    copy
}

/// The remote state as an archive holds it, with the merge's segment behind it.
fn remote_then_difference(remote: &Machine, result: &Machine) -> Machine {
    let mut copy = empty();
    let mut applier = copy.0.applier();
    let from = remote.0.snapshot();
    from.changes_since(None, &mut |change| applier.apply(&change)).unwrap();
    applier.end().unwrap();
    result.0.snapshot().changes_from(&from, &mut |change| applier.apply(&change)).unwrap();
    applier.end().unwrap();
    drop(applier);
    copy
}
