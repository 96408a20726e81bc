//! Who may do what, and what people are told when they may not.

use serde_json::{Value, json};

use crate::config::Retention;
use crate::remote::history;
use crate::remote::tests::{Sample, done, keep};

use super::*;

/// What an error tells, with its hint.
fn told(error: &RemoteError) -> String {
    format!("{error}; {}", error.hint())
}

#[test]
fn wrong_keys_are_told_from_missing_rights_and_buckets() {
    let mut server = Server::start();
    let sample = Sample::v1(1);
    let remote = server.ready("box");
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    let unknown = User { id: "AKIAUNKNOWNUNKNOWN00".into(), secret: server.user.secret.clone(), token: None };
    let wrong = User { id: server.user.id.clone(), secret: "not the secret".into(), token: None };
    for user in [unknown, wrong] {
        let stranger = connect(&server.moto.endpoint(), "box", &user);
        let target = sample.path.with_extension("fetched");
        let errors = [
            stranger.heads().unwrap_err(),
            stranger.copies().unwrap_err(),
            stranger.put(&sample.path, &sample.description, &[]).unwrap_err(),
            stranger.fetch(&version, &target).unwrap_err(),
            stranger.probe().unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, RemoteError::WrongKeys { .. }), "{error:?}");
            assert!(!format!("{error:?}").contains(&user.secret));
        }
        assert!(!target.exists());
    }
    let useless = json!({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"});
    let nobody = server.moto.user_with(json!({"Version": "2012-10-17", "Statement": [useless]}));
    let stranger = connect(&server.moto.endpoint(), "box", &nobody);
    let error = stranger.heads().unwrap_err();
    assert!(told(&error).contains("s3:ListBucket") && told(&error).contains("setup-storage --policy"), "{error:?}");
    let error = stranger.put(&sample.path, &sample.description, &[]).unwrap_err();
    assert!(told(&error).contains("s3:PutObject"), "{error:?}");
    let error = server.remote("missing").heads().unwrap_err();
    assert!(told(&error).contains("s3://missing/") && told(&error).contains("setup-storage"), "{error:?}");
}

#[test]
fn a_reader_who_may_list_but_not_read_is_told_so() {
    let mut server = Server::start();
    let sample = Sample::v1(1);
    server.ready("box");
    let allowed = json!({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"});
    let user = server.moto.user_with(json!({"Version": "2012-10-17", "Statement": [allowed]}));
    let reader = connect(&server.moto.endpoint(), "box", &user);
    assert_eq!(reader.heads().unwrap(), [], "nothing is there, and that can be seen");
    done(server.remote("box").put(&sample.path, &sample.description, &[]).unwrap());
    let error = reader.heads().unwrap_err();
    assert!(told(&error).contains("s3:GetObject"), "{error:?}");
}

/// moto knows no conditions of policies; the prefix of lists is looked at below.
fn without_conditions(mut policy: Value) -> Value {
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement.as_object_mut().unwrap().remove("Condition");
    }
    policy
}

#[test]
fn the_printed_policies_suffice_and_are_the_least() {
    let mut server = Server::start();
    let the_place = place(&server.moto.endpoint(), "box");
    let setup = server.moto.user_with(without_conditions(policy::with_setup(&the_place)));
    let everyday_policy = without_conditions(policy::everyday(&the_place));
    let everyday = server.moto.user_with(everyday_policy.clone());
    let told = connect(&server.moto.endpoint(), "box", &setup).make_storage().unwrap();
    assert!(told[0].starts_with("Made") && told[1].starts_with("Versioning is on"), "{told:?}");
    use_all(&connect(&server.moto.endpoint(), "box", &everyday)).unwrap();
    // Without any one action something fails.
    let mut actions: Vec<String> = Vec::new();
    for statement in everyday_policy["Statement"].as_array().unwrap() {
        let action = &statement["Action"];
        let listed = action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
        actions.extend(listed.iter().map(|action| action.as_str().unwrap().to_owned()));
    }
    assert_eq!(actions.len(), 5, "{actions:?}");
    for action in actions.iter().filter(|action| *action != "s3:AbortMultipartUpload") {
        let less = without_action(&everyday_policy, action);
        let user = server.moto.user_with(less);
        let outcome = use_all(&connect(&server.moto.endpoint(), "box", &user));
        assert!(outcome.is_err(), "{action} is not needed");
    }
    for policy in [policy::everyday(&the_place), policy::with_setup(&the_place)] {
        assert_eq!(policy["Statement"][2]["Condition"]["StringLike"]["s3:prefix"], "tazpod/vault/*");
        assert!(!policy.to_string().contains("\"*\"") && !policy.to_string().contains("s3:*"), "{policy}");
    }
}

fn without_action(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    policy["Statement"].as_array_mut().unwrap().retain_mut(|statement| {
        let listed = statement["Action"].as_array().cloned().unwrap_or_else(|| vec![statement["Action"].clone()]);
        let left: Vec<_> = listed.into_iter().filter(|one| one != action).collect();
        statement["Action"] = left.clone().into();
        !left.is_empty()
    });
    policy
}

/// Everything that an ordinary day brings; fails with the first warning.
fn use_all(remote: &S3Remote) -> Result<(), String> {
    let text = |error: RemoteError| error.to_string();
    let mut seen: Vec<_> = remote.heads().map_err(text)?.into_iter().map(|head| head.version).collect();
    let large = Sample::of(crate::remote::tests::noise(9, 17 << 20));
    for sample in [Sample::v1(1), large, Sample::v1(2)] {
        let Put::Done(put) = remote.put(&sample.path, &sample.description, &seen).map_err(text)? else {
            return Err("a conflict".to_owned());
        };
        remote.fetch(&put.version, &sample.path.with_extension("fetched")).map_err(text)?;
        let retention = Retention::Newest(2);
        let warnings = history::keep(remote, &sample.path, &sample.description, &put.version, retention);
        seen = vec![put.version];
        if !warnings.is_empty() {
            return Err(warnings.join("; "));
        }
    }
    let copies = remote.copies().map_err(text)?;
    remote.fetch_copy(&copies[0].name, &Sample::v1(1).path).map_err(text)?;
    remote.probe().map_err(text).map(drop)
}

#[test]
fn who_may_not_delete_is_warned_and_loses_nothing() {
    let mut server = Server::start();
    let remote = server.ready("box");
    let sample = Sample::v1(1);
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    (0..3).for_each(|_| keep(&remote, &sample, &version, Retention::All));
    let actions = ["s3:GetObject", "s3:PutObject", "s3:ListBucket"];
    let allowed = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    let user = server.moto.user_with(json!({"Version": "2012-10-17", "Statement": [allowed]}));
    let weak = connect(&server.moto.endpoint(), "box", &user);
    let warnings = history::keep(&weak, &sample.path, &sample.description, &version, Retention::Newest(2));
    assert!(warnings.len() == 1 && warnings[0].contains("permission"), "{warnings:?}");
    assert_eq!(remote.copies().unwrap().len(), 4);
    assert_eq!(weak.probe().unwrap(), Conditions::KeptInOneRequest, "its object stays, and it works");
}

#[test]
fn keys_with_a_token_sign_requests() {
    let mut server = Server::start();
    server.ready("box");
    let role = server.moto.role();
    assert_eq!(connect(&server.moto.endpoint(), "box", &role).heads().unwrap(), []);
    let stale = User { token: Some("not the token".to_owned()), ..role };
    let error = connect(&server.moto.endpoint(), "box", &stale).heads().unwrap_err();
    assert!(matches!(error, RemoteError::Expired { .. }) && told(&error).contains("sign in again"), "{error:?}");
}

#[test]
fn profiles_in_the_vault_sign_requests() {
    let server = Server::start();
    server.ready("box");
    let text = format!(
        "[other]\naws_access_key_id = x\naws_secret_access_key = y\n[lab]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        server.user.id, server.user.secret
    );
    let open = |profile: &str| {
        let place = S3Place { profile: Some(profile.to_owned()), ..place(&server.moto.endpoint(), "box") };
        let mut vault =
            VaultFiles::read(|path| (path == ".aws/credentials").then(|| Zeroizing::new(text.clone().into_bytes())));
        S3Remote::open(&place, &mut vault, patience(), Parts::Never).unwrap()
    };
    assert_eq!(open("lab").heads().unwrap(), []);
    let error = open("other").heads().unwrap_err();
    assert!(error.to_string().contains("profile 'other' in the vault"), "{error}");
    let error = open("nowhere-on-this-machine").heads().unwrap_err();
    assert!(matches!(error, RemoteError::NoCredentials(_) | RemoteError::Credentials(_)), "{error:?}");
}
