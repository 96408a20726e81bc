//! The commands about remotes, on a folder and on a real S3 server: what is configured, trusted, tried and told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
#[expect(dead_code, reason = "each test program uses its part of it")]
mod remote_setup;
mod user;

use std::path::Path;

use moto::{Fault, Moto, Proxy};
use remote_setup::{configure, keys, s3_yaml, write_config};
use user::{User, fixture};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_folder_is_made_tried_shown_and_listed() {
    let user = User::with_vault();
    let (status, _, told) = user.shell("cd p && tazpod remote show");
    assert!(status == 2 && told.contains("no remote is configured") && told.contains("remote:"), "{status} {told}");
    configure(&user, "remote: {type: directory, path: ../stick/vault}\n");
    let (status, _, told) = user.shell("cd p && tazpod list vault-history");
    assert!(status == 7 && told.contains("does not exist") && told.contains("setup-storage"), "{status} {told}");
    let shown = json(&user.shell_ok("cd p && tazpod remote show --json"));
    assert_eq!((&shown["type"], &shown["retention"]), (&"directory".into(), &50.into()));
    assert!(shown["conditions"].as_str().unwrap().contains("never tried"), "{shown}");
    user.shell_ok("cd p && tazpod setup-storage");
    assert_eq!(user.shell_ok("stat -c %a stick/vault"), "700\n");
    let shown = user.shell_ok("cd p && tazpod remote show");
    assert!(shown.contains("stick/vault") && shown.contains("kept, tried at 20"), "{shown}");
    let history = user.home.join("stick/vault/history");
    user.shell_ok("mkdir -p stick/vault/history && cp p/.tazpod/vault/vault.tar.aes stick/vault/");
    user.shell_ok("cd stick/vault/history && echo 1 > vault-20250102-030405.tar.aes && echo 22 > vault-x.tar.aes");
    user.shell_ok(
        "cd stick/vault/history && touch -d 2025-01-02T03:04:05Z vault-20250102-030405.tar.aes && echo > notes",
    );
    assert!(history.is_dir());
    let tested = json(&user.shell_ok("cd p && tazpod remote test --json"));
    assert_eq!((&tested["copies"], &tested["conditions"]), (&2.into(), &"kept".into()));
    assert_eq!(tested["holds"].as_array().map(Vec::len), Some(1), "{tested}");
    assert!(user.shell_ok("cd p && tazpod remote test").contains("an archive of"));
    let listed = json(&user.shell_ok("cd p && tazpod list vault-history --json"));
    assert_eq!((&listed[0]["name"], &listed[0]["bytes"]), (&"vault-x.tar.aes".into(), &3.into()));
    assert_eq!((&listed[1]["index"], &listed[1]["time"]), (&2.into(), &"2025-01-02T03:04:05Z".into()));
    let table = user.shell_ok("cd p && tazpod list vault-history");
    assert!(table.lines().count() == 3 && table.contains("2025-01-02 03:04:05 UTC"), "{table}");
    let (status, _, told) = user.shell("cd p && tazpod setup-storage --policy");
    assert!(status == 2 && told.contains("no policy"), "{status} {told}");
}

#[test]
fn a_remote_of_a_project_counts_only_when_it_is_trusted() {
    let user = User::with_vault();
    user.shell_ok("mkdir stick .config/tazpod -p");
    write_config(&user, "remote: {path: ../elsewhere}\nvault: {retention: 1}\n");
    // A remote of the user's own does not step in for one that was not looked at.
    std::fs::write(user.home.join(".config/tazpod/config.yaml"), "remote: {path: ~/stick}\n").unwrap();
    for command in ["remote show", "remote test", "setup-storage", "list vault-history"] {
        let (status, out, told) = user.shell(&format!("cd p && tazpod {command}"));
        assert!(status == 2 && told.contains("has not been trusted, and sets remote"), "{command}: {status} {told}");
        assert_eq!(out, "");
    }
    assert!(!user.home.join("elsewhere").exists());
    // What needs no remote does not stumble.
    user.unlock();
    user.lock();
    write_config(&user, "vault: {size: 64M}\n");
    assert!(user.shell_ok("cd p && tazpod remote show").contains("/stick"), "the user's own");
}

#[test]
fn an_old_project_means_its_old_bucket_and_key() {
    let user = User::with_vault();
    let (mut moto, old) = (Moto::start(), fixture("upstream-v1.tar.aes"));
    let admin = moto.user();
    let (old_path, bucket) = (old.to_str().unwrap(), "s3://lab/tazpod/vault");
    moto.aws(&admin, &["s3", "mb", "s3://lab"]);
    moto.aws(&admin, &["s3", "cp", old_path, &format!("{bucket}/vault.tar.aes")]);
    moto.aws(&admin, &["s3", "cp", old_path, &format!("{bucket}/history/vault-20250102-030405.tar.aes")]);
    configure(
        &user,
        "mode: docker\nimage: x\naws_sso: {profile: lab, bucket: lab, region: eu-central-1}\nvault: {retention: 9}\n",
    );
    let shown = json(&user.shell_ok("cd p && tazpod remote show --json"));
    assert_eq!(
        (&shown["bucket"], &shown["prefix"], &shown["retention"]),
        (&"lab".into(), &"tazpod/vault/".into(), &9.into())
    );
    assert_eq!(shown["credentials"], "the profile 'lab' of this machine");
    // The server is not Amazon's; all else is the old file.
    let remote = format!(
        "remote: {{type: s3, endpoint: '{}'}}\naws_sso: {{bucket: lab, region: eu-central-1}}\n",
        moto.endpoint()
    );
    configure(&user, &remote);
    let tested = json(&user.shell_ok(&format!("{} cd p && tazpod remote test --json", keys(&admin))));
    assert_eq!(tested["copies"], 1);
    let size = std::fs::metadata(&old).unwrap().len();
    assert_eq!((tested["holds"][0]["bytes"].as_u64(), tested["holds"][0]["commit"].as_u64()), (Some(size), None));
    // The old project's own archive is what the bucket holds: all goes on from there.
    user.shell_ok(&format!("cat > p/.tazpod/vault/vault.tar.aes < {old_path}"));
    let (status, _, told) = user.shell(&format!("{} cd p && tazpod push", keys(&admin)));
    assert!(status == 0 && told.contains("Nothing to push"), "{status} {told}");
    user.unlock();
    user.shell_ok(&format!("echo new > secrets/new && {} cd p && tazpod push vault", keys(&admin)));
    let fetched = tempfile::tempdir().unwrap();
    let target = fetched.path().join("fetched");
    moto.aws(&admin, &["s3", "cp", &format!("{bucket}/vault.tar.aes"), target.to_str().unwrap()]);
    assert_eq!(std::fs::read(target).unwrap(), std::fs::read(user.archive()).unwrap());
}

#[test]
fn a_bucket_is_made_with_keys_from_the_environment_or_the_unlocked_vault() {
    let user = User::with_vault();
    let mut moto = Moto::start();
    let admin = moto.user();
    configure(&user, &s3_yaml(moto.port));
    let (status, _, told) = user.shell("cd p && tazpod setup-storage");
    assert!(status == 7 && told.contains("no credentials") && told.contains("AWS_ACCESS_KEY_ID"), "{status} {told}");
    let (status, _, told) = user.shell(&format!("{} cd p && tazpod list vault-history", keys(&admin)));
    assert!(status == 7 && told.contains("does not exist") && told.contains("setup-storage"), "{status} {told}");
    let policies = user.shell_ok("cd p && tazpod setup-storage --policy");
    assert!(
        policies.contains("s3:CreateBucket") && policies.contains("arn:aws:s3:::vaults/tazpod/vault/vault.tar.aes")
    );
    let policy = json(&user.shell_ok(&format!("{} cd p && tazpod setup-storage", keys(&admin))));
    assert!(!policy.to_string().contains("CreateBucket"), "{policy}");
    // The old tool's files in the vault, and nothing in the environment.
    user.unlock();
    user.shell_ok(&format!(
        "cd secrets && echo {} > aws-access-key-id && echo {} > aws-secret-access-key",
        admin.id, admin.secret
    ));
    let shown = json(&user.shell_ok("cd p && tazpod remote show --json"));
    assert_eq!(shown["credentials"], "the key files in the vault");
    user.shell_ok("cd p && tazpod remote test");
    user.shell_ok("cd secrets && rm aws-* && mkdir .aws");
    let profile = format!("[lab]\naws_access_key_id={}\naws_secret_access_key={}\n", admin.id, admin.secret);
    std::fs::write(user.home.join("credentials"), profile).unwrap();
    user.shell_ok("cp credentials secrets/.aws/ && cd p && AWS_PROFILE=lab tazpod remote test");
    user.lock();
    let (status, _, told) = user.shell("cd p && AWS_PROFILE=lab tazpod remote test");
    assert!(status == 7 && told.contains("credentials"), "{status} {told}");
}

#[test]
fn static_keys_never_wait_for_a_sign_in_and_no_output_tells_them() {
    let user = User::with_vault();
    let mut moto = Moto::start();
    let admin = moto.user();
    configure(&user, &format!("{}aws_sso: {{profile: sso}}\n", s3_yaml(moto.port)));
    let config = "[profile sso]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\n\
                  sso_start_url = http://127.0.0.1:1\nsso_region = eu-west-1\n";
    std::fs::create_dir(user.home.join(".aws")).unwrap();
    std::fs::write(user.home.join(".aws/config"), config).unwrap();
    let (status, _, told) = user.shell("cd p && tazpod remote test");
    assert!(status == 7 && told.contains("sign in again") || told.contains("credentials"), "{status} {told}");
    let begun = std::time::Instant::now();
    for command in ["setup-storage", "remote test", "list vault-history", "remote show"] {
        let (status, out, told) = user.shell(&format!("{} cd p && tazpod --debug {command}", keys(&admin)));
        assert_eq!(status, 0, "{command}: {told}");
        assert!(!out.contains(&admin.secret) && !told.contains(&admin.secret), "{command} tells the secret");
        let libraries = ["aws_", "hyper", "rustls", "Signature="];
        assert!(!libraries.iter().any(|library| told.contains(library)), "{command} tells what libraries log: {told}");
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let wrong = format!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY=marker-of-a-secret;", admin.id);
    let (status, out, told) = user.shell(&format!("{wrong} cd p && tazpod --debug remote test"));
    assert!(status == 7 && told.contains("refuses the credentials from the environment"), "{status} {told}");
    assert!(!format!("{out}{told}").contains("marker-of-a-secret"), "{told}");
    assert!(!holds(&user.home.join(".local"), &admin.secret), "the state folder tells the secret");
}

/// Whether any file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    let output = std::process::Command::new("grep").args(["-rqF", text]).arg(folder).status().unwrap();
    output.success()
}

#[test]
fn a_store_that_keeps_no_conditions_is_refused() {
    let user = User::with_vault();
    let mut moto = Moto::start();
    let admin = moto.user();
    let proxy = Proxy::before(moto.port);
    // The signature covers what the proxy leaves out.
    moto.check(false);
    proxy.set(Fault::StripConditions, usize::MAX);
    configure(&user, &s3_yaml(proxy.port));
    for command in ["setup-storage", "remote test"] {
        let (status, _, told) = user.shell(&format!("{} cd p && tazpod {command}", keys(&admin)));
        assert!(status == 7 && told.contains("does not keep conditions") && told.contains("unseen"), "{status} {told}");
    }
    assert!(user.shell_ok("cd p && tazpod remote show").contains("not kept: it overwrote"));
}
