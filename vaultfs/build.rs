//! Hands the file VERSION to the crate as `VAULTFS_VERSION`.

fn main() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../VERSION");
    println!("cargo:rerun-if-changed={path}");
    let version = std::fs::read_to_string(path).expect("the file VERSION lies beside the crates");
    println!("cargo:rustc-env=VAULTFS_VERSION={}", version.trim());
}
