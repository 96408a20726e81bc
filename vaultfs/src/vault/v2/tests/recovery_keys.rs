//! Who gets what is saved of a damaged archive: whoever opened that, by passphrase or identity, and nobody else.

use super::recipients::{add, identity};
use super::recovery::{Scene, scene_with};
use super::*;
use crate::crypto::Identity;

fn secret(identity: &Identity) -> Secret {
    Secret::Identity(identity.duplicate().unwrap())
}

fn scene_for(own: &Identity, other: &Identity) -> Scene {
    scene_with(&|vault| {
        for (label, identity) in [("own", own), ("other", other)] {
            vault.change_keys(&Secret::Passphrase(passphrase("old")), add(label, identity)).unwrap();
        }
    })
}

fn opens(scene: &Scene, secret: Secret) -> Result<(), VaultError> {
    let options = VaultOptions { machine: machine(7), ..VaultOptions::new(OWNER, 64 << 20, Duration::ZERO) };
    crate::vault::Vault::open_with(&scene.out(), secret, &options).map(|(vault, _)| vault.discard())
}

#[test]
fn an_identity_gets_what_it_recovers_alone() {
    let (own, other) = (identity(), identity());
    let scene = scene_for(&own, &other);
    let middle = &scene.segments[3];
    let (recovered, dump) = scene.recover_as(&scene.flip(middle.end - 30), &secret(&own)).unwrap();
    assert_eq!(recovered.commit, Some(middle.head.sequence.0 - 1));
    scene.assert_true(&recovered, &dump, "own");
    assert!(recovered.recipient.as_ref().unwrap().starts_with("own (age1"), "{recovered:?}");
    assert!(recovered.left_out.len() == 1 && recovered.left_out[0].starts_with("other (age1"), "{recovered:?}");
    assert!(recovered.is_passphrase_left_out && recovered.is_maker_unproven, "{recovered:?}");
    opens(&scene, secret(&own)).unwrap();
    assert!(matches!(opens(&scene, secret(&other)), Err(VaultError::WrongIdentity(_))));
    let refused = opens(&scene, Secret::Passphrase(passphrase("old")));
    assert!(matches!(&refused, Err(VaultError::Format { source: FormatError::NoSlot(_), .. })), "{refused:?}");
}

#[test]
fn a_passphrase_leaves_recipients_out_and_names_them() {
    let (own, other) = (identity(), identity());
    let scene = scene_for(&own, &other);
    let (recovered, _) = scene.recover(&scene.bytes).unwrap();
    assert!(recovered.recipient.is_none() && !recovered.is_passphrase_left_out, "{recovered:?}");
    assert_eq!(recovered.left_out.len(), 2, "{recovered:?}");
    let refused = opens(&scene, secret(&own));
    assert!(matches!(&refused, Err(VaultError::Format { source: FormatError::NoSlot(_), .. })), "{refused:?}");
    assert!(matches!(scene.recover_as(&scene.bytes, &secret(&identity())), Err(VaultError::WrongIdentity(_))));
}

#[test]
fn a_damaged_header_costs_nothing_while_the_slot_of_the_identity_is_whole() {
    let (own, other) = (identity(), identity());
    let scene = scene_for(&own, &other);
    let sound = scene.recover_as(&scene.bytes, &secret(&own)).unwrap().1;
    let header = Header::parse(&scene.bytes).unwrap();
    let find = |needle: &[u8]| scene.bytes.windows(needle.len()).position(|window| window == needle).unwrap() as u64;
    let (own_at, other_at) = (find(b"\x03own"), find(b"\x05other"));
    let mac = header.bytes().len() as u64 - 5;
    // Magic, version, suite, length, vault id, count, the passphrase's slot, another recipient's, the MAC.
    for at in [0, 9, 10, 12, 13, 16, 31, 32, 33, 34, 60, own_at - 4, other_at, other_at + 40, other_at + 150, mac] {
        let (recovered, dump) = scene.recover_as(&scene.flip(at), &secret(&own)).unwrap();
        assert!(recovered.is_header_damaged && recovered.commit == recovered.newest, "{at}: {recovered:?}");
        assert!(dump == sound, "byte {at}: {recovered:?}");
        assert!(recovered.recipient.is_some() && recovered.left_out.is_empty(), "{at}: {recovered:?}");
    }
    // All of its own slot that matters.
    let wrapped = own_at + 4 + 2 + own.recipients()[0].len() as u64 + 2;
    for at in
        [own_at - 3, own_at - 2, own_at, own_at + 4, own_at + 30, wrapped - 1, wrapped, wrapped + 60, wrapped + 150]
    {
        let refused = scene.recover_as(&scene.flip(at), &secret(&own)).map(drop);
        let is_told = matches!(
            &refused,
            Err(VaultError::WrongIdentity(_) | VaultError::Format { source: FormatError::Header(_), .. })
        );
        assert!(is_told && !scene.out().exists(), "byte {at}: {refused:?}");
    }
}

#[test]
fn a_check_opens_with_an_identity_and_tells_a_flip_in_its_slot() {
    let (own, other) = (identity(), identity());
    let scene = scene_for(&own, &other);
    let check = |bytes: &[u8], secret: &Secret| {
        let path = scene.out();
        std::fs::write(&path, bytes).unwrap();
        let options = VaultOptions { machine: machine(7), ..VaultOptions::new(OWNER, 64 << 20, Duration::ZERO) };
        crate::vault::check_file(&path, secret, &options, &mut |_, _| Ok(()))
    };
    let report = check(&scene.bytes, &secret(&own)).unwrap();
    assert_eq!((report.verdict, report.segments), (Verdict::Sound, scene.segments.len() as u64));
    let wrapped = scene.bytes.windows(4).position(|window| window == b"\x03own").unwrap() as u64 + 200;
    let report = check(&scene.flip(wrapped), &secret(&own)).unwrap();
    assert!(matches!(&report.verdict, Verdict::Damaged { offset: 0, .. }), "{report:?}");
    assert!(matches!(check(&scene.bytes, &secret(&identity())), Err(VaultError::WrongIdentity(_))));
}
