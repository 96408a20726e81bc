//! Hands the file VERSION to the crate as `VAULTFS_VERSION`.

fn main() {
    // Read at run time: a build script that a cache keeps may have been compiled for a checkout in another place.
    let crate_folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for a build script");
    let path = format!("{crate_folder}/../VERSION");
    println!("cargo:rerun-if-changed={path}");
    let version = std::fs::read_to_string(path).expect("the file VERSION lies beside the crates");
    println!("cargo:rustc-env=VAULTFS_VERSION={}", version.trim());
}
