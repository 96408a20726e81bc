//! What a push means, from what is here, what is there and what both last agreed on. Pure, and takes no key.

use crate::remote::{Description, Head, State, Version};

use super::base::Base;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Put ours in the place of these.
    Put(Vec<Version>),
    /// The same state is there already, as this version.
    Same(Version),
    /// Nothing changed here since the base, and something did there.
    RemoteIsNewer,
    /// There is something that this machine has not seen, and something here that was not pushed.
    BothChanged,
    /// Another vault is there.
    OtherVault,
}

/// Decides.
pub fn decide(local: &Description, base: Option<&Base>, heads: &[Head]) -> Decision {
    if heads.iter().any(|head| is_other_vault(&local.state, head)) {
        return Decision::OtherVault;
    }
    let is_same = |head: &Head| head.state == Some(local.state);
    let is_base = |head: &Head| {
        base.is_some_and(|base| base.versions.contains(&head.version) || head.state.as_ref() == Some(base.state()))
    };
    match heads {
        [head] if is_same(head) || (is_base(head) && base.is_some_and(|base| *base.state() == local.state)) => {
            Decision::Same(head.version.clone())
        }
        heads if heads.iter().all(|head| is_seen(local, base, head)) => {
            Decision::Put(heads.iter().map(|head| head.version.clone()).collect())
        }
        _ if base.is_some_and(|base| *base.state() == local.state) => Decision::RemoteIsNewer,
        _ => Decision::BothChanged,
    }
}

/// The heads that hold something which this machine has not seen, as far as that can be told.
pub fn unseen<'h>(local: &Description, base: Option<&Base>, heads: &'h [Head]) -> Vec<&'h Head> {
    heads.iter().filter(|head| !is_seen(local, base, head)).collect()
}

fn is_seen(local: &Description, base: Option<&Base>, head: &Head) -> bool {
    head.state == Some(local.state)
        || base.is_some_and(|base| base.versions.contains(&head.version) || head.state.as_ref() == Some(base.state()))
}

fn is_other_vault(local: &State, head: &Head) -> bool {
    let there = head.state.and_then(|state| state.vault);
    there.is_some() && local.vault.is_some() && there != local.vault
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::remote::Digest;
    use crate::remote::description::Format;

    fn state(number: u8) -> State {
        State { format: Format::V2, vault: Some([1; 16]), sequence: number.into(), head: Digest([number; 32]) }
    }

    fn local(number: u8) -> Description {
        Description { state: state(number), bytes: 1, sha256: Digest([number + 100; 32]) }
    }

    fn head(version: &str, state: Option<State>) -> Head {
        let version = Version(version.to_owned());
        Head { version, bytes: 1, modified: SystemTime::UNIX_EPOCH, state, sha256: None }
    }

    fn base(number: u8, version: &str) -> Base {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        Base::record(folder.path(), "place", vec![Version(version.to_owned())], local(number), file).unwrap()
    }

    fn versions(names: &[&str]) -> Vec<Version> {
        names.iter().map(|name| Version((*name).to_owned())).collect()
    }

    #[test]
    fn an_empty_place_takes_anything() {
        assert_eq!(decide(&local(3), None, &[]), Decision::Put(vec![]));
        assert_eq!(decide(&local(3), Some(&base(2, "v")), &[]), Decision::Put(vec![]));
    }

    #[test]
    fn what_follows_the_base_is_put_and_the_rest_is_not() {
        let base = base(2, "v");
        let there = |version: &str, number: u8| [head(version, Some(state(number)))];
        assert_eq!(decide(&local(3), Some(&base), &there("v", 2)), Decision::Put(versions(&["v"])));
        // Compacted there, or an object that tells nothing: the same state, or the same version.
        assert_eq!(decide(&local(3), Some(&base), &there("w", 2)), Decision::Put(versions(&["w"])));
        assert_eq!(decide(&local(3), Some(&base), &[head("v", None)]), Decision::Put(versions(&["v"])));
        assert_eq!(decide(&local(3), Some(&base), &[head("w", None)]), Decision::BothChanged);
        assert_eq!(decide(&local(3), Some(&base), &there("w", 9)), Decision::BothChanged);
        assert_eq!(decide(&local(2), Some(&base), &there("w", 9)), Decision::RemoteIsNewer);
        assert_eq!(decide(&local(3), None, &there("v", 2)), Decision::BothChanged);
        let both = [head("v", Some(state(2))), head("w", Some(state(9)))];
        assert_eq!(decide(&local(3), Some(&base), &both), Decision::BothChanged);
    }

    #[test]
    fn the_same_state_is_not_put_twice() {
        let same = |version: &str| Decision::Same(Version(version.to_owned()));
        assert_eq!(decide(&local(3), None, &[head("v", Some(state(3)))]), same("v"));
        assert_eq!(decide(&local(2), Some(&base(2, "v")), &[head("v", None)]), same("v"));
        // A machine died before it removed what its own head stands for.
        let left = [head("u", Some(state(2))), head("v", Some(state(3)))];
        assert_eq!(decide(&local(3), Some(&base(2, "u")), &left), Decision::Put(versions(&["u", "v"])));
    }

    #[test]
    fn another_vault_is_never_replaced() {
        let strange = State { vault: Some([9; 16]), ..state(2) };
        assert_eq!(decide(&local(3), Some(&base(2, "v")), &[head("v", Some(strange))]), Decision::OtherVault);
    }
}
