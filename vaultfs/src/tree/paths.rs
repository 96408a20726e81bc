//! How long paths may get: what no archive could hold is refused when it is made, not when it is committed.

use rustc_hash::FxHashMap;

use crate::entry::PATH_MAX;

use super::state::State;
use super::{Ino, TreeError};

/// Folders that are looked at one by one; of more, the whole tree is.
const FOLDERS_MAX: usize = 16;

impl State {
    /// Refuses names that came in any order, of folders and (by their folder and length) of everything else, whose paths or
    /// those below are longer than [`PATH_MAX`].
    pub fn check_new_paths(&self, folders: &[Ino], others: Vec<(Ino, usize)>) -> Result<(), TreeError> {
        let fits = if folders.len() > FOLDERS_MAX {
            self.fits_below(Ino::ROOT, PATH_MAX + 1)
        } else {
            folders.iter().all(|&folder| {
                PATH_MAX.checked_sub(self.path_len(folder)).is_some_and(|room| self.fits_below(folder, room))
            })
        };
        let mut above = FxHashMap::default();
        let fits = fits
            && others.into_iter().all(|(parent, len)| {
                let above = *above.entry(parent).or_insert_with(|| self.path_len(parent));
                above + usize::from(above > 0) + len <= PATH_MAX
            });
        if fits { Ok(()) } else { Err(TreeError::NameTooLong) }
    }

    /// Refuses a new name whose path would be longer than [`PATH_MAX`].
    pub fn check_new_path(&self, parent: Ino, name: &[u8]) -> Result<(), TreeError> {
        self.room_below(parent, name).map(drop)
    }

    /// Refuses to move an entry to where its path, or that of anything below it, would be longer than [`PATH_MAX`]. Only a
    /// folder that moves to a longer path is walked.
    pub fn check_moved_path(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), moved: Ino) -> Result<(), TreeError> {
        let room = self.room_below(to.0, to.1)?;
        let is_longer = self.room_below(from.0, from.1).is_ok_and(|before| room < before);
        if is_longer && !self.fits_below(moved, room) { Err(TreeError::NameTooLong) } else { Ok(()) }
    }

    /// Bytes that remain below an entry for paths with the slash before them.
    fn room_below(&self, parent: Ino, name: &[u8]) -> Result<usize, TreeError> {
        let above = self.path_len(parent);
        let len = above + usize::from(above > 0) + name.len();
        PATH_MAX.checked_sub(len).ok_or(TreeError::NameTooLong)
    }

    /// Bytes of a folder's path.
    fn path_len(&self, folder: Ino) -> usize {
        let (mut len, mut at) = (0_usize, folder);
        while let Some(place) = self.inodes.get(&at).and_then(|inode| inode.0.places.first()) {
            let name = self.folder(place.folder).ok().and_then(|above| above.name_at(place.cookie));
            len += 1 + name.map_or(0, |name| name.len());
            at = place.folder;
        }
        len.saturating_sub(1)
    }

    fn fits_below(&self, top: Ino, room: usize) -> bool {
        let mut waiting = vec![(top, room)];
        while let Some((at, room)) = waiting.pop() {
            let Ok(folder) = self.folder(at) else { continue };
            for (name, ino) in folder.entries() {
                let Some(room) = room.checked_sub(1 + name.len()) else { return false };
                if folder.subfolders > 0 {
                    waiting.push((ino, room));
                }
            }
        }
        true
    }
}
