//! Heads that other machines may know stay ancestors, whatever is compacted meanwhile.

use super::*;
use crate::format::v2::{ANCESTORS, Head};

/// Commits a file many times, after the second perhaps sharing the head, and compacts. Returns the witness as it was then, the
/// head, and the files at the end.
fn long_history(share: bool) -> (Vec<u8>, Head, Files, MasterKey) {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut open, _) = open(&files, &master, &machine(1)).unwrap();
    let mut then = None;
    for number in 0..ANCESTORS as u64 + 20 {
        open.write("counter", 0, &number.to_le_bytes());
        open.commit().unwrap();
        if number == 2 {
            let head = open.archive.head().unwrap();
            then = Some((open.disk.files()[disk::WITNESS].clone(), head));
            if share {
                open.archive.note_shared(head);
            }
        }
    }
    let snapshot = Arc::new(open.tree.snapshot());
    open.archive.compact(&snapshot).unwrap();
    let (witness, head) = then.unwrap();
    (witness, head, open.disk.files(), master)
}

#[test]
fn a_machine_that_last_saw_a_shared_head_takes_what_another_compacted() {
    let (witness, head, mut files, master) = long_history(true);
    files.insert(disk::WITNESS.to_owned(), witness);
    let (open, _) = open(&files, &master, &machine(2)).unwrap();
    assert!(open.archive.history.holds(&head));
}

#[test]
fn what_was_never_shared_is_forgotten_after_so_many_commits() {
    let (witness, _, mut files, master) = long_history(false);
    files.insert(disk::WITNESS.to_owned(), witness);
    let refused = open(&files, &master, &machine(2)).map(drop);
    let rolled_back =
        matches!(&refused, Err(VaultError::Format { source: FormatError::RolledBack { seen: 3, .. }, .. }));
    assert!(rolled_back, "{refused:?}");
}

#[test]
fn a_shared_head_alone_is_no_commit_and_goes_with_the_next_one() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let (mut before, _) = open(&files, &master, &machine(1)).unwrap();
    let head = before.archive.head().unwrap();
    before.archive.note_shared(head);
    before.commit().unwrap();
    assert_eq!(before.archive.head(), Some(head));
    before.write("file", 0, b"x");
    before.commit().unwrap();
    before.archive.note_shared(head);
    assert_eq!(before.archive.history.untold(), [], "told once");
    let (after, _) = open(&before.disk.files(), &master, &machine(1)).unwrap();
    assert_eq!(after.archive.history.shared(0).len(), 1);
    assert_eq!(after.archive.history.shared(0)[0].head, head);
}

/// Else the work of another machine that is not merged yet would count as taken.
#[test]
fn a_head_that_this_one_does_not_descend_from_is_not_noted() {
    let (files, master) = new_vault(Suite::Aes256Gcm);
    let [mut one, mut other] = [1, 2].map(|byte| open(&files, &master, &machine(byte)).unwrap().0);
    other.write("file", 0, b"their work");
    other.commit().unwrap();
    let (theirs, own) = (other.archive.head().unwrap(), one.archive.head().unwrap());
    one.archive.note_shared(theirs);
    one.write("file", 0, b"ours");
    one.commit().unwrap();
    one.archive.note_shared(own);
    assert!(
        !one.archive.history.holds(&theirs) && one.archive.history.shared(0).iter().all(|shared| shared.head == own)
    );
}
