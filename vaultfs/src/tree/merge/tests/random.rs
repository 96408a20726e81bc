//! Random edits of both sides. `VAULTFS_MERGES` sets how many seeds are tried.

use std::collections::{HashMap, HashSet};

use super::*;

/// A xorshift generator; failures name their seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// One edit: names from a tiny alphabet so that they collide.
fn edit(machine: &Machine, random: &mut Random, text: &str) {
    let names = machine.names();
    let folders: Vec<String> = std::iter::once(String::new())
        .chain(
            names.iter().filter(|name| machine.find(name).unwrap().node_type == crate::tree::NodeType::Folder).cloned(),
        )
        .collect();
    let files: Vec<&String> =
        names.iter().filter(|name| machine.find(name).unwrap().node_type == crate::tree::NodeType::File).collect();
    let folder = &folders[random.below(folders.len())];
    let name = ["a", "b", "c", "d"][random.below(4)];
    let new = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let is_free = machine.find(&new).is_none();
    let any = (!names.is_empty()).then(|| names[random.below(names.len().max(1))].clone());
    let file = (!files.is_empty()).then(|| files[random.below(files.len().max(1))].clone());
    match (random.below(12), any, file) {
        (0..=1, ..) if is_free => machine.mkdir(&new).end(),
        (2..=4, ..) if is_free => machine.put(&new, text).end(),
        (2..=3, _, Some(file)) => machine.put(&file, text).end(),
        (4, _, Some(file)) => machine.save(&file, text).end(),
        (5..=7, Some(from), _) if is_free && !format!("{new}/").starts_with(&format!("{from}/")) => {
            machine.mv(&from, &new).end()
        }
        (8, Some(gone), _) => machine.rm(&gone).end(),
        (9, _, Some(file)) if is_free => machine.ln(&file, &new).end(),
        (10, Some(any), _) => machine.chmod(&any, 0o600 + random.below(64) as u32).end(),
        (11, Some(any), _) => machine.xattr(&any, "user.a", text).end(),
        _ => {}
    }
}

type Contents = HashMap<InodeId, String>;

fn contents(machine: &Machine) -> Contents {
    let files = machine.dump().into_iter().filter(|(entry, ..)| matches!(entry.kind, EntryKind::File { .. }));
    files.map(|(_, content, id)| (id, content)).collect()
}

/// Whatever one side changed or made is there; what one deleted and the other left alone is not.
fn assert_nothing_lost(base: &Machine, local: &Machine, remote: &Machine, result: &Machine) {
    let [old, ours, theirs] = [base, local, remote].map(contents);
    let held: HashSet<String> = contents(result).into_values().collect();
    for side in [&ours, &theirs] {
        for (id, content) in side.iter().filter(|(id, content)| old.get(id) != Some(content)) {
            assert!(held.contains(content), "{content:?} of {id:?} is lost");
        }
    }
    let lines = |machine: &Machine| -> HashMap<InodeId, Vec<(Entry, String)>> {
        let mut lines: HashMap<InodeId, Vec<(Entry, String)>> = HashMap::new();
        machine.dump().into_iter().for_each(|(entry, content, id)| lines.entry(id).or_default().push((entry, content)));
        lines
    };
    for (one, other) in [(local, remote), (remote, local)] {
        let (before, deleting, leaving) = (lines(base), lines(one), lines(other));
        let held_there: HashSet<String> = contents(one).into_values().collect();
        for (id, lines) in before.iter().filter(|(id, _)| !deleting.contains_key(id)) {
            let content = &lines[0].1;
            if leaving.get(id) == Some(lines) && !content.is_empty() && !held_there.contains(content) {
                assert!(!held.contains(content), "{content:?} of {id:?} came back");
            }
        }
    }
}

/// What is seen of a tree: a file that was saved anew may go on under its old id.
fn without_ids(machine: &Machine) -> Vec<(Entry, String)> {
    machine.dump().into_iter().map(|(entry, content, _)| (entry, content)).collect()
}

fn try_seed(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let base = empty();
    (0..random.below(14)).for_each(|step| edit(&base, &mut random, &format!("base {step}")));
    let (local, remote) = (base.fork(), base.fork());
    (0..random.below(9)).for_each(|step| edit(&local, &mut random, &format!("local {step}")));
    (0..random.below(9)).for_each(|step| edit(&remote, &mut random, &format!("remote {step}")));
    let (result, _) = merged(&base, &local, &remote);
    assert_nothing_lost(&base, &local, &remote, &result);
    let (alone, told) = merged(&base, &local, &base);
    assert_eq!((without_ids(&alone), told), (without_ids(&local), vec![]), "only this side changed");
    let (alone, told) = merged(&base, &base, &remote);
    assert_eq!((without_ids(&alone), told), (without_ids(&remote), vec![]), "only the other side changed");
    let (same, told) = merged(&base, &local, &local);
    assert_eq!((same.dump(), told), (local.dump(), vec![]), "both did the same");
}

fn tries(unless_set: u64) -> u64 {
    std::env::var("VAULTFS_MERGES").map_or(unless_set, |count| count.parse().unwrap())
}

#[test]
fn whatever_both_sides_do_nothing_is_lost() {
    for seed in 1..=tries(1500) {
        if let Err(panic) = std::panic::catch_unwind(|| try_seed(seed)) {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Three machines that merge pairwise in different orders hold the same contents in the end.
#[test]
fn two_machines_that_merge_by_turns_come_to_the_same_tree() {
    for seed in 1..=tries(200) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut base = empty();
        (0..8).for_each(|step| edit(&base, &mut random, &format!("base {step}")));
        let (mut one, mut other) = (base.fork(), base.fork());
        for round in 0..3 {
            (0..4).for_each(|step| edit(&one, &mut random, &format!("one {round} {step}")));
            (0..4).for_each(|step| edit(&other, &mut random, &format!("other {round} {step}")));
            let (result, _) = merged(&base, &one, &other);
            other.merge_into(&other.fork(), &result).unwrap();
            assert_eq!(other.dump(), result.dump());
            (base, one, other) = (result.fork(), result.fork(), other.fork());
        }
    }
}
