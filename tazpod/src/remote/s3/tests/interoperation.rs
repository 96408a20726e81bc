//! The AWS command line and this program use one bucket, at the keys of the old tool.

use std::path::PathBuf;

use crate::config::Retention;
use crate::remote::description::Format;
use crate::remote::tests::{Sample, done, keep};

use super::*;

#[test]
fn an_archive_travels_between_the_aws_command_line_and_us() {
    let server = Server::start();
    let remote = server.ready("tazlab-storage");
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/v1/upstream-v1.tar.aes");
    let key = "s3://tazlab-storage/tazpod/vault/vault.tar.aes";
    server.moto.aws(&server.user, &["s3", "cp", fixture.to_str().unwrap(), key]);
    server.moto.aws(
        &server.user,
        &["s3", "cp", key, "s3://tazlab-storage/tazpod/vault/history/vault-20250102-030405.tar.aes"],
    );
    let found = head(&remote);
    assert_eq!((found.state, found.sha256), (None, None), "it tells nothing");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("fetched");
    let description = remote.fetch(&found.version, &target).unwrap();
    assert_eq!(description.state.format, Format::V1);
    assert_eq!(std::fs::read(&target).unwrap(), std::fs::read(&fixture).unwrap());
    let [old] = remote.copies().unwrap().try_into().unwrap();
    assert_eq!(remote.fetch_copy(&old.name, &target).unwrap(), description);

    let ours = Sample::v2_states().pop().unwrap();
    let version = done(remote.put(&ours.path, &ours.description, &[found.version]).unwrap());
    keep(&remote, &ours, &version, Retention::Newest(50));
    server.moto.aws(&server.user, &["s3", "cp", key, target.to_str().unwrap()]);
    assert_eq!(std::fs::read(&target).unwrap(), ours.bytes);
    let copy = format!("s3://tazlab-storage/tazpod/vault/history/{}", remote.copies().unwrap()[0].name.0);
    server.moto.aws(&server.user, &["s3", "cp", &copy, target.to_str().unwrap()]);
    assert_eq!(std::fs::read(&target).unwrap(), ours.bytes);
    // A client without conditions overwrites: it is seen, and what the object tells is gone with the old bytes.
    server.moto.aws(&server.user, &["s3", "cp", fixture.to_str().unwrap(), key]);
    assert_eq!(remote.put(&ours.path, &ours.description, &[version]).unwrap(), Put::Conflict);
    assert_eq!(head(&remote).state, None);
}
