//! A short name for a path, for files that are kept about it elsewhere.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::Digest;

/// The first half of the SHA-256 of a canonical path, 32 hexadecimal digits.
pub fn path_key(path: &Path) -> String {
    let digest = sha2::Sha256::digest(path.as_os_str().as_bytes());
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_files_that_exist_already_stay_the_same() {
        assert_eq!(path_key(Path::new("/")), "8a5edab282632443219e051e4ade2d1d");
    }
}
