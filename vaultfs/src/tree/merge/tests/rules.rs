//! The table of docs/MERGE.md, row by row.

use super::*;
use crate::tree::ConflictKind::{self, *};

/// Lets both sides edit a state, and merges.
pub(super) fn both(
    begin: impl FnOnce(&Machine),
    here: impl FnOnce(&Machine),
    there: impl FnOnce(&Machine),
) -> (Machine, Vec<Conflict>) {
    let base = empty();
    begin(&base);
    let (local, remote) = (base.fork(), base.fork());
    here(&local);
    there(&remote);
    merged(&base, &local, &remote)
}

pub(super) fn kinds(conflicts: &[Conflict]) -> Vec<(String, ConflictKind)> {
    conflicts.iter().map(|conflict| (conflict.path.to_string(), conflict.kind)).collect()
}

pub(super) fn conflict(path: &str, kind: ConflictKind) -> Vec<(String, ConflictKind)> {
    vec![(path.to_owned(), kind)]
}

#[test]
fn what_one_side_changed_is_taken() {
    let begin = |base: &Machine| {
        base.mkdir("d").put("d/edited", "1").put("d/gone", "2").put("d/moved", "3").put("same", "4");
    };
    let change = |side: &Machine| {
        side.put("d/edited", "new").rm("d/gone").mv("d/moved", "there").put("d/made", "5").chmod("same", 0o600);
    };
    let (here, told) = both(begin, change, |_| {});
    let (there, told_there) = both(begin, |_| {}, change);
    assert_eq!((told, told_there), (vec![], vec![]));
    for result in [here, there] {
        assert_eq!(result.names(), ["d", "d/edited", "d/made", "same", "there"]);
        assert_eq!((result.text("d/edited"), result.text("there")), ("new".into(), "3".into()));
        assert_eq!(result.find("same").unwrap().mode, 0o600);
    }
}

#[test]
fn what_both_did_alike_is_there_once() {
    let (result, told) = both(
        |base| base.put("a", "1").put("gone", "2").end(),
        |here| here.put("a", "same").rm("gone").mkdir("new").put("new/x", "made").put("new/mine", "3").end(),
        |there| there.put("a", "same").rm("gone").mkdir("new").put("new/x", "made").put("new/theirs", "4").end(),
    );
    assert_eq!(told, []);
    assert_eq!(result.names(), ["a", "new", "new/mine", "new/theirs", "new/x"]);
}

#[test]
fn of_two_edits_the_remote_keeps_the_name() {
    let (result, told) = both(
        |base| base.mkdir("d").put("d/f", "base").end(),
        |here| here.put("d/f", "here").chmod("d/f", 0o600).xattr("d/f", "user.a", "x").end(),
        |there| there.put("d/f", "there").end(),
    );
    let copy = format!("{FOLDER}/d/f");
    assert_eq!(told, [Conflict { path: path("d/f"), kind: BothEdited, copy: Some(path(&copy)) }]);
    assert_eq!((result.text("d/f"), result.text(&copy)), ("there".into(), "here".into()));
    assert_eq!(result.find(&copy).unwrap().mode, 0o600);
    assert_eq!(result.0.xattr(result.ino(&copy), b"user.a").unwrap(), b"x");
    assert_eq!(result.find(FOLDER).unwrap().mode, 0o700);
}

#[test]
fn a_file_that_is_saved_by_renaming_is_the_same_file() {
    let save = |side: &Machine, text: &str| side.save("f", text).end();
    let (result, told) = both(|base| save(base, "1"), |here| save(here, "here"), |there| save(there, "there"));
    assert_eq!(kinds(&told), conflict("f", BothEdited));
    assert_eq!((result.text("f"), result.text(&format!("{FOLDER}/f"))), ("there".into(), "here".into()));
    let rename = |side: &Machine| side.mv("f", "g").end();
    for (result, told) in [
        both(|base| save(base, "1"), |here| save(here, "new"), rename),
        both(|base| save(base, "1"), rename, |there| save(there, "new")),
    ] {
        assert_eq!((result.names(), result.text("g"), told), (vec!["g".to_owned()], "new".to_owned(), vec![]));
    }
}

#[test]
fn an_edit_stays_where_the_other_side_deleted() {
    let (edit, delete) = (|side: &Machine| side.put("f", "edit").end(), |side: &Machine| side.rm("f").end());
    for (result, told) in
        [both(|base| base.put("f", "1").end(), edit, delete), both(|base| base.put("f", "1").end(), delete, edit)]
    {
        assert_eq!((result.text("f"), kinds(&told)), ("edit".to_owned(), conflict("f", EditedAndDeleted)));
    }
}

#[test]
fn a_deleted_folder_stays_with_what_was_edited_in_it() {
    let begin = |base: &Machine| base.mkdir("d").mkdir("d/e").put("d/e/edited", "1").put("d/other", "2").end();
    let edit = |side: &Machine| side.put("d/e/edited", "edit").put("d/new", "3").end();
    let delete = |side: &Machine| side.rm("d").end();
    for (result, told) in [both(begin, edit, delete), both(begin, delete, edit)] {
        assert_eq!(result.names(), ["d", "d/e", "d/e/edited", "d/new"]);
        assert_eq!(kinds(&told), conflict("d/e/edited", EditedAndDeleted));
    }
}

#[test]
fn a_deletion_is_not_undone_by_what_the_other_side_left_alone() {
    let begin = |base: &Machine| base.mkdir("d").put("d/a", "1").put("d/b", "2").put("c", "3").end();
    let (result, _) = both(begin, |here| here.rm("d").end(), |there| there.put("c", "4").end());
    assert_eq!(result.names(), ["c"]);
    let (result, _) = both(begin, |here| here.mv("d", "e").end(), |there| there.rm("d").end());
    assert_eq!(result.names(), ["c"], "a folder is worth no more than what was changed in it");
}

#[test]
fn a_rename_and_an_edit_are_both_taken() {
    let begin = |base: &Machine| base.mkdir("d").put("f", "1").end();
    let (rename, edit) = (|side: &Machine| side.mv("f", "d/g").end(), |side: &Machine| side.put("f", "edit").end());
    for (result, told) in [both(begin, rename, edit), both(begin, edit, rename)] {
        assert_eq!(
            (result.names(), result.text("d/g"), told),
            (vec!["d".to_owned(), "d/g".to_owned()], "edit".to_owned(), vec![])
        );
    }
}

#[test]
fn of_two_renames_the_remotes_counts_and_a_note_tells() {
    let (result, told) = both(
        |base| base.put("f", "1").mkdir("d").put("d/x", "2").end(),
        |here| here.mv("f", "here").mv("d", "d-here").end(),
        |there| there.mv("f", "there").mv("d", "d-there").end(),
    );
    assert_eq!(kinds(&told), [("d-here".to_owned(), BothRenamed), ("here".to_owned(), BothRenamed)]);
    let note = format!("{FOLDER}/NOTES.txt");
    assert_eq!(result.names()[3..], ["d-there", "d-there/x", "there"], "{:?}", result.names());
    assert_eq!(
        result.text(&note),
        "d was renamed on both sides: to d-here and to d-there. It is called d-there.\n\
         f was renamed on both sides: to here and to there. It is called there.\n"
    );
}

#[test]
fn two_new_files_of_one_name_are_both_kept() {
    let (result, told) = both(
        |_| {},
        |here| here.put("f", "here").put("same", "x").end(),
        |there| there.put("f", "there").put("same", "x").end(),
    );
    assert_eq!(kinds(&told), conflict("f", NameTaken));
    assert_eq!(
        (result.text("f"), result.text(&format!("{FOLDER}/f")), result.text("same")),
        ("there".into(), "here".into(), "x".into())
    );
}

#[test]
fn a_folder_and_a_file_of_one_name_are_both_kept() {
    let (file, folder) =
        (|side: &Machine| side.put("n", "file").end(), |side: &Machine| side.mkdir("n").put("n/x", "inner").end());
    let (result, told) = both(|_| {}, file, folder);
    assert_eq!(kinds(&told), conflict("n", NameTaken));
    assert_eq!((result.text("n/x"), result.text(&format!("{FOLDER}/n"))), ("inner".into(), "file".into()));
    let (result, _) = both(|_| {}, folder, file);
    assert_eq!((result.text("n"), result.text(&format!("{FOLDER}/n/x"))), ("file".into(), "inner".into()));
}

#[test]
fn a_name_that_two_different_files_were_given_is_the_remotes() {
    let (result, told) = both(
        |base| base.put("a", "1").put("b", "2").end(),
        |here| here.mv("a", "c").end(),
        |there| there.mv("b", "c").end(),
    );
    assert_eq!(kinds(&told), conflict("c", NameTaken));
    assert_eq!((result.text("c"), result.text(&format!("{FOLDER}/c"))), ("2".into(), "1".into()));
    assert!(result.find("a").is_none() && result.find("b").is_none());
}

#[test]
fn folders_moved_into_each_other_lie_where_the_remote_has_them() {
    let (result, told) = both(
        |base| base.mkdir("a").put("a/x", "1").mkdir("b").put("b/y", "2").end(),
        |here| here.mv("a", "b/a").end(),
        |there| there.mv("b", "a/b").end(),
    );
    assert_eq!((result.text("a/x"), result.text("a/b/y")), ("1".into(), "2".into()));
    assert_eq!(kinds(&told), conflict("b/a", MovedIntoEachOther));
    assert!(result.text(&format!("{FOLDER}/NOTES.txt")).contains("It is called a."));
}

#[test]
fn hard_links_are_one_file() {
    let (result, told) = both(
        |base| base.put("a", "1").ln("a", "b").ln("a", "gone").end(),
        |here| here.ln("a", "c").rm("gone").put("b", "edit").end(),
        |there| there.ln("a", "d").mv("b", "e").end(),
    );
    assert_eq!((result.names(), told), (["a", "c", "d", "e"].map(String::from).to_vec(), vec![]));
    assert_eq!((result.find("a").unwrap().nlink, result.text("e")), (4, "edit".into()));
}

#[test]
fn a_name_of_a_hard_link_goes_though_the_file_stays() {
    let (result, told) = both(
        |base| base.put("a", "1").ln("a", "b").end(),
        |here| here.rm("a").end(),
        |there| there.put("a", "edit").end(),
    );
    assert_eq!((result.names(), result.text("b"), told), (vec!["b".to_owned()], "edit".to_owned(), vec![]));
}

#[test]
fn names_of_a_hard_link_that_each_side_removed_are_gone_also_when_merged_again() {
    let (result, told) = both(
        |base| base.put("a", "1").ln("a", "b").end(),
        |here| here.rm("a").put("a", "here").end(),
        |there| there.rm("b").put("b", "there").end(),
    );
    assert_eq!((result.text("a"), result.text("b"), told), ("here".into(), "there".into(), vec![]));
}

#[test]
fn mode_time_and_attributes_are_taken_each_by_itself() {
    let (result, told) = both(
        |base| base.put("f", "1").xattr("f", "user.a", "0").xattr("f", "user.b", "0").xattr("f", "user.c", "0").end(),
        |here| here.chmod("f", 0o600).xattr("f", "user.a", "here").xattr("f", "user.c", "here").end(),
        |there| there.touch("f", 77).xattr("f", "user.b", "there").xattr("f", "user.c", "there").end(),
    );
    let stat = result.find("f").unwrap();
    assert_eq!((told, stat.mode, stat.mtime.secs), (vec![], 0o600, 77));
    let value = |name: &str| String::from_utf8(result.0.xattr(stat.ino, name.as_bytes()).unwrap()).unwrap();
    assert_eq!((value("user.a"), value("user.b"), value("user.c")), ("here".into(), "there".into(), "there".into()));
}

#[test]
fn a_link_whose_target_changed_is_an_edit() {
    let begin = |base: &Machine| base.symlink("l", "old").end();
    let here = |side: &Machine| side.rm("l").symlink("l", "here").end();
    let there = |side: &Machine| side.rm("l").symlink("l", "there").end();
    let target =
        |result: &Machine, name: &str| String::from_utf8(result.0.read_link(result.ino(name)).unwrap()).unwrap();
    let (result, told) = both(begin, here, there);
    assert_eq!(kinds(&told), conflict("l", BothEdited));
    assert_eq!((target(&result, "l"), target(&result, &format!("{FOLDER}/l"))), ("there".into(), "here".into()));
    let (result, told) = both(begin, here, |_| {});
    assert_eq!((target(&result, "l"), told), ("here".into(), vec![]));
}

#[test]
fn a_long_path_in_the_conflict_folder_is_cut_to_its_name() {
    let (deep, file) = (vec!["x".repeat(250); 16].join("/"), "f".repeat(75));
    let begin = |base: &Machine| {
        let mut at = String::new();
        for name in deep.split('/') {
            at = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            base.mkdir(&at);
        }
        base.put(&format!("{deep}/{file}"), "1");
    };
    let edit = |text: &'static str| {
        let name = format!("{deep}/{file}");
        move |side: &Machine| side.put(&name, text).end()
    };
    let (result, told) = both(begin, edit("here"), edit("there"));
    assert_eq!(told[0].copy, Some(path(&format!("{FOLDER}/{file}"))));
    assert_eq!(result.text(&format!("{FOLDER}/{file}")), "here");
}

#[test]
fn a_result_that_no_archive_could_hold_is_refused_and_nothing_changes() {
    let deep = |letter: &str| vec![letter.repeat(250); 9].join("/");
    let make = |side: &Machine, at: &str| {
        let mut path = String::new();
        for name in at.split('/') {
            path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if side.find(&path).is_none() {
                side.mkdir(&path);
            }
        }
    };
    let base = empty();
    base.mkdir("moved");
    let (local, remote) = (base.fork(), base.fork());
    make(&local, &format!("moved/{}", deep("x")));
    make(&remote, &deep("y"));
    remote.mv("moved", &format!("{}/moved", deep("y")));
    let before = local.dump();
    assert_eq!(local.merge_into(&base, &remote).unwrap_err(), TreeError::NameTooLong);
    assert_eq!(local.dump(), before);
}

#[test]
fn trees_without_common_ids_are_matched_by_path_and_content() {
    let base = empty();
    base.mkdir("d").put("d/f", "1").put("gone", "2").put("both", "3").put("edit", "4");
    let (local, remote) = (base.reload(), base.reload());
    local.put("both", "here").put("edit", "5").rm("gone").put("mine", "6");
    remote.put("both", "there").put("d/f", "7").put("theirs", "8");
    let told = local.merge_matching(&base, &remote, Matching::Paths).unwrap().conflicts;
    assert_eq!(kinds(&told), conflict("both", BothEdited));
    assert_eq!(
        local.names().iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>(),
        ["both", "d", "d/f", "edit", "mine", "theirs"]
    );
    assert_eq!(
        (local.text("both"), local.text(&format!("{FOLDER}/both")), local.text("d/f"), local.text("edit")),
        ("there".into(), "here".into(), "7".into(), "5".into())
    );
    // Its ids are the remote's now, so that its difference to that can be written.
    assert_eq!(remote_then_difference(&remote, &local).dump(), local.dump());
}

#[test]
fn open_files_go_on_as_the_same_inode_and_deleted_ones_keep_their_content() {
    let base = empty();
    base.put("kept", "1").put("gone", "2");
    let (local, remote) = (base.fork(), base.fork());
    remote.save("kept", "new").rm("gone");
    let (kept, gone) = (local.ino("kept"), local.ino("gone"));
    local.0.pin(gone).unwrap();
    let merged = local.merge_into(&base, &remote).unwrap();
    assert_eq!((local.ino("kept"), local.text("kept")), (kept, "new".into()));
    let mut held = [0];
    assert_eq!((local.0.read(gone, 0, &mut held).unwrap(), held, local.0.stat(gone).unwrap().nlink), (1, *b"2", 0));
    assert_eq!(merged.changes.removed, [(gone, Ino::ROOT, b"gone".to_vec())]);
    assert!(merged.changes.inodes.contains(&kept) && merged.changes.inodes.contains(&Ino::ROOT));
    local.0.unpin(gone, 1);
    assert!(local.0.stat(gone).is_err());
}
