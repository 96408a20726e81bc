//! The archive as it was before something was pulled into it: the last ones stay in the state folder.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::calendar::Utc;

/// How many stay.
const KEPT: usize = 10;
const START: &str = "before-";
const END: &str = ".tar.aes";

/// Keeps an archive, a file in the state folder that is taken over and is on the disk already.
///
/// # Errors
/// The folder cannot be written.
pub fn keep(state: &Path, archive: tempfile::NamedTempFile) -> io::Result<PathBuf> {
    let path = state.join(format!("{START}{}{END}", Utc::of(SystemTime::now()).compact()));
    archive.persist(&path).map_err(|error| error.error)?;
    let mut kept: Vec<String> = std::fs::read_dir(state)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(START) && name.ends_with(END))
        .collect();
    // Their names sort by time.
    kept.sort_unstable();
    for name in &kept[..kept.len().saturating_sub(KEPT)] {
        std::fs::remove_file(state.join(name))?;
    }
    std::fs::File::open(state)?.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            let file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
            std::fs::write(file.path(), number.to_string()).unwrap();
            let path = keep(folder.path(), file).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), number.to_string());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut left: Vec<usize> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap().parse().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(left, (3..KEPT + 3).collect::<Vec<_>>());
    }
}
