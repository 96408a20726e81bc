//! Where what lost goes: `.tazpod-conflicts/<time>-<host>/<path>` at the root, not beside the file, where a program that reads all
//! files of a folder would pick it up.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::entry::{EntryPath, InodeId, NAME_MAX, PATH_MAX};
use crate::tree::TreeError;
use crate::tree::content::Content;
use crate::tree::inode::Name;

use super::label::{MergeLabel, folder_id};
use super::nodes::{Body, Clash, Planned, copy_of};
use super::pairing::Sides;
use super::places::{Lost, Nodes, is_folder};
use super::sides::{Key, Place};

/// The folder at the root that holds what lost in merges.
pub const CONFLICTS: &[u8] = b".tazpod-conflicts";
/// The file of what was renamed on both sides.
const NOTES: &[u8] = b"NOTES.txt";

/// Something that the user is told of a merge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Where it lay on the side that was merged, or on the other where it was only there.
    pub path: EntryPath,
    /// What happened.
    pub kind: ConflictKind,
    /// Where the local version lies now, if it had to make way.
    pub copy: Option<EntryPath>,
}

/// What two sides did to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// Both edited it: the remote version has the name.
    BothEdited,
    /// One edited what the other deleted: it stays.
    EditedAndDeleted,
    /// Both renamed it: it has the remote's name.
    BothRenamed,
    /// Both gave a name to different things: the remote's has it.
    NameTaken,
    /// Two folders were moved into each other: they lie where the remote has them.
    MovedIntoEachOther,
}

/// Puts things into the conflict folder, which is made when the first comes.
pub(super) struct Placer<'p, 'a> {
    pub sides: &'p Sides<'a>,
    pub nodes: &'p mut Nodes,
    pub names: &'p mut FxHashMap<Place, Key>,
    pub label: &'p MergeLabel,
    pub conflicts: Vec<Conflict>,
}

impl Placer<'_, '_> {
    /// Tells of everything that both sides did, and puts away what lost.
    pub fn place_all(
        mut self,
        clashes: Vec<(Key, Clash)>,
        lost: Vec<Lost>,
        put_back: &[Key],
    ) -> Result<Vec<Conflict>, TreeError> {
        for (path, loser) in self.to_put_away(lost) {
            let copy = self.put(&path, loser);
            self.tell(path, ConflictKind::NameTaken, Some(copy));
        }
        let mut clashes: Vec<_> =
            clashes.into_iter().map(|(key, clash)| (self.path_of_clash(&key, clash), clash, key)).collect();
        clashes.sort();
        let mut notes = Vec::new();
        for (path, clash, key) in clashes {
            match clash {
                Clash::BothEdited => self.put_copy(path, &key),
                Clash::EditedAndDeleted => self.tell(path, ConflictKind::EditedAndDeleted, None),
                // It had to make way in a merge that was done before, and not brought to its end.
                Clash::BothRenamed if self.has_made_way(&key) => {}
                Clash::BothRenamed => {
                    notes.push(self.note(&path, &key));
                    self.tell(path, ConflictKind::BothRenamed, None);
                }
            }
        }
        for key in put_back {
            let path = self.path_of(key);
            notes.push(self.note(&path, key));
            self.tell(path, ConflictKind::MovedIntoEachOther, None);
        }
        self.put_notes(&notes)?;
        self.conflicts.sort();
        Ok(self.conflicts)
    }

    /// What had to make way for something of the same name, and at which path, in a fixed order; each name of a hard link by itself.
    fn to_put_away(&self, lost: Vec<Lost>) -> Vec<(EntryPath, Key)> {
        let has_name = |key: &Key| self.nodes.get(key).is_some_and(|node| !node.places.is_empty());
        let paths = lost.into_iter().map(|(place, key)| (self.sides.local.path(&place), key));
        let mut found: Vec<_> = paths.filter(|(path, key)| !has_name(key) || !self.was_put(path, key)).collect();
        found.sort();
        found
    }

    /// Whether a name was put away in a merge that was done before.
    fn was_put(&self, path: &EntryPath, key: &Key) -> bool {
        let (remote, way) = (&self.sides.remote, self.way(path));
        let was_there = |place: &Place| self.sides.base.get(key).is_some_and(|seen| seen.places.contains(place));
        let is_there = |place: &Place| {
            let there = remote.path(place);
            there.components().count() == way.len()
                && there.components().zip(&way).all(|(there, name)| is_numbered(there, name))
        };
        remote.get(key).is_some_and(|seen| seen.places.iter().any(|place| is_there(place) && !was_there(place)))
    }

    /// Where a path goes in the conflict folder, if the names on the way are free.
    fn way(&self, path: &EntryPath) -> Vec<Vec<u8>> {
        let top = [CONFLICTS.to_vec(), self.label.folder()];
        let room = PATH_MAX.saturating_sub(top.iter().map(|name| name.len() + 1).sum::<usize>());
        let (above, last) = path.split_last().unwrap_or((EntryPath::root(), b"root"));
        let fits = path.as_bytes().len() + 8 <= room;
        let above = above.components().filter(|_| fits);
        top.into_iter().chain(above.chain([last]).map(<[u8]>::to_vec)).collect()
    }

    fn has_made_way(&self, key: &Key) -> bool {
        let local = &self.sides.local;
        local.get(key).is_some_and(|seen| seen.places.iter().any(|place| self.was_put(&local.path(place), key)))
    }

    fn tell(&mut self, path: EntryPath, kind: ConflictKind, copy: Option<EntryPath>) {
        self.conflicts.push(Conflict { path, kind, copy });
    }

    /// The path on the side that is merged, else on the other.
    fn path_of(&self, key: &Key) -> EntryPath {
        let sides = [&self.sides.local, &self.sides.remote];
        let place = sides.iter().find_map(|side| Some((side, side.get(key)?.places.first()?)));
        place.map_or_else(EntryPath::root, |(side, place)| side.path(place))
    }

    /// What stays although each side removed the names that the other left lies where the other side has it.
    fn path_of_clash(&self, key: &Key, clash: Clash) -> EntryPath {
        let remote = self.sides.remote.get(key).and_then(|seen| seen.places.first());
        match (clash, remote) {
            (Clash::EditedAndDeleted, Some(place)) => self.sides.remote.path(place),
            _ => self.path_of(key),
        }
    }

    fn put_copy(&mut self, path: EntryPath, key: &Key) {
        let Some(seen) = self.sides.local.get(key) else { return };
        let id = self.label.copy_id(&seen.inode.id);
        // A merge that was done before, and not brought to its end.
        if self.is_used(&id) {
            return;
        }
        self.nodes.insert(id, copy_of(seen, id));
        let copy = self.put(&path, id);
        self.tell(path, ConflictKind::BothEdited, Some(copy));
    }

    /// "`old` was renamed to `here` and to `there`."
    fn note(&self, path: &EntryPath, key: &Key) -> String {
        let at = |side: &super::sides::Side<'_>| {
            let place = side.get(key).and_then(|seen| seen.places.first());
            place.map_or_else(|| "nothing".to_owned(), |place| side.path(place).to_string())
        };
        let (before, there) = (at(&self.sides.base), at(&self.sides.remote));
        format!("{before} was renamed on both sides: to {path} and to {there}. It is called {there}.\n")
    }

    fn put_notes(&mut self, notes: &[String]) -> Result<(), TreeError> {
        let id = self.label.copy_id(&InodeId::ROOT);
        if notes.is_empty() || self.is_used(&id) {
            return Ok(());
        }
        let text = notes.concat();
        let mut content = Content::default();
        let sealer = self.sides.local.snapshot.sealer();
        let mut patch = sealer.with_cipher(|cipher| content.prepare_write(cipher, 0, text.as_bytes()))?;
        content.apply(&mut patch);
        self.nodes.insert(id, self.made(id, Body::Note(Arc::new(content)), 0o600));
        let path = EntryPath::root().join(NOTES);
        self.put(&path, id);
        Ok(())
    }

    /// Gives an inode without a name one in the conflict folder; returns where.
    fn put(&mut self, path: &EntryPath, key: Key) -> EntryPath {
        let mut folder = Key::ROOT;
        let mut at = EntryPath::root();
        let mut way = self.way(path);
        let last = way.pop().expect("it ends with the name");
        for name in way {
            let name = self.enter(&mut folder, &name);
            at = at.join(&name);
        }
        let name = self.free_name(folder, &last, |_, _| false);
        self.give(key, (folder, name.clone()));
        at.join(&name)
    }

    /// Goes down into a folder, which is made when it is missing; returns its name.
    fn enter(&mut self, folder: &mut Key, name: &[u8]) -> Name {
        let name = self.free_name(*folder, name, |placer, key| is_folder(placer.sides, placer.nodes, key));
        let place = (*folder, name.clone());
        if let Some(key) = self.names.get(&place) {
            *folder = *key;
            return name;
        }
        let ids = (0_u32..).map(|number| folder_id(folder, &name, number));
        let id = ids.into_iter().find(|id| !self.is_used(id)).expect("there are more numbers than inodes");
        self.nodes.insert(id, self.made(id, Body::Folder, 0o700));
        self.give(id, place);
        *folder = id;
        name
    }

    fn give(&mut self, key: Key, place: Place) {
        self.names.insert(place.clone(), key);
        if let Some(node) = self.nodes.get_mut(&key) {
            node.places.push(place);
            node.places.sort();
        }
    }

    /// The name, or the next like it, that nothing has or something that will do.
    fn free_name(&self, folder: Key, name: &[u8], will_do: impl Fn(&Self, &Key) -> bool) -> Name {
        let is_free = |name: &Name| {
            let place = (folder, name.clone());
            self.names.get(&place).is_none_or(|key| will_do(self, key)) && !self.sides.is_kept_by_unchanged(&place)
        };
        (0..).map(|number| numbered(name, number)).find(is_free).expect("there are more numbers than names")
    }

    fn made(&self, id: InodeId, body: Body, mode: u32) -> Planned {
        let (mtime, ctime) = (self.label.time, self.label.time);
        Planned { id, local: None, body, mode, mtime, ctime, xattrs: Arc::default(), places: Vec::new() }
    }

    fn is_used(&self, id: &InodeId) -> bool {
        self.nodes.contains_key(id) || self.sides.is_used(id)
    }
}

/// A name, or one like it for when that is taken.
fn numbered(name: &[u8], number: u32) -> Name {
    let suffix = if number == 0 { String::new() } else { format!("~{number}") };
    let kept = &name[..name.len().min(NAME_MAX - suffix.len())];
    [kept, suffix.as_bytes()].concat().into()
}

/// Whether a name is another, or that with a number.
fn is_numbered(found: &[u8], name: &[u8]) -> bool {
    let suffix = found.iter().rposition(|byte| *byte == b'~').map(|at| &found[at + 1..]);
    let number = suffix.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    found == name || number.is_some_and(|number| *numbered(name, number) == *found)
}
