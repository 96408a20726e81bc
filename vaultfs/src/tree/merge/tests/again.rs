//! Merges that would come to something else when they are done again: the side that was merged with the outcome, or the outcome with
//! the other side, as after a merge that did not come to its end. [`merged`] does both for each.

use super::rules::{both, conflict, kinds};
use super::*;
use crate::tree::ConflictKind::*;

#[test]
fn an_edit_stays_though_each_side_removed_the_name_that_the_other_left() {
    let begin = |base: &Machine| base.put("a", "1").ln("a", "b").end();
    let edits: [fn(&Machine, &str); 3] = [
        |side, name| side.put(name, "edit").end(),
        |side, name| side.chmod(name, 0o604).end(),
        |side, name| side.xattr(name, "user.a", "x").end(),
    ];
    for edit in edits {
        let keep = |name: &'static str, other: &'static str| {
            move |side: &Machine| {
                side.rm(other);
                edit(side, name);
            }
        };
        for (result, told) in [
            both(begin, keep("b", "a"), |there| there.rm("b").end()),
            both(begin, |here| here.rm("a").end(), keep("a", "b")),
            both(begin, keep("b", "a"), keep("a", "b")),
        ] {
            let name = &kinds(&told)[0].0;
            assert_eq!((result.names(), kinds(&told)), (vec![name.clone()], conflict(name, EditedAndDeleted)));
            assert_ne!((result.text(name), result.find(name).unwrap().mode), ("1".into(), 0o600));
        }
    }
    let (result, told) = both(begin, |here| here.rm("a").end(), |there| there.rm("b").end());
    assert_eq!((result.names(), told), (vec![], vec![]), "nobody changed it");
}

#[test]
fn a_name_of_a_hard_link_that_is_another_files_there_goes_to_the_conflict_folder() {
    let copy = format!("{FOLDER}/b");
    let (result, told) = both(
        |base| base.put("a", "1").end(),
        |here| here.mv("a", "b").end(),
        |there| there.mkdir("b").ln("a", "b/a").end(),
    );
    assert_eq!(told, [Conflict { path: path("b"), kind: NameTaken, copy: Some(path(&copy)) }]);
    assert_eq!((result.ino("b/a"), result.find("a")), (result.ino(&copy), None));
    let (result, told) = both(
        |base| base.put("a", "1").end(),
        |here| here.ln("a", "b").end(),
        |there| there.rm("a").put("b", "there").end(),
    );
    assert_eq!(kinds(&told), [("a".to_owned(), EditedAndDeleted), ("b".to_owned(), NameTaken)]);
    assert_eq!((result.ino("a"), result.text("a"), result.text("b")), (result.ino(&copy), "1".into(), "there".into()));
    let (result, told) =
        both(|_| {}, |here| here.put("a", "here").ln("a", "b").end(), |there| there.put("a", "1").put("b", "2").end());
    assert_eq!(kinds(&told), [("a".to_owned(), NameTaken), ("b".to_owned(), NameTaken)]);
    assert_eq!((result.ino(&copy), result.text(&copy)), (result.ino(&format!("{FOLDER}/a")), "here".into()));
}

#[test]
fn what_was_changed_of_a_file_that_the_other_side_saved_anew_stays() {
    let (result, told) = both(
        |base| base.put("f", "1").end(),
        |here| here.chmod("f", 0o604).xattr("f", "user.a", "x").end(),
        |there| there.save("f", "new").end(),
    );
    let stat = result.find("f").unwrap();
    assert_eq!((result.text("f"), stat.mode, told), ("new".into(), 0o604, vec![]));
    assert_eq!(result.0.xattr(stat.ino, b"user.a").unwrap(), b"x");
}

#[test]
fn folders_that_were_moved_into_each_other_do_not_follow_one_that_had_to_make_way() {
    let (result, told) = both(
        |base| base.mkdir("a").put("a/x", "1").mkdir("b").end(),
        |here| here.mkdir("b/new").mv("a", "b/new/a").end(),
        |there| there.mv("b", "a/b").put("a/b/new", "2").end(),
    );
    assert_eq!(kinds(&told), [("b/new".to_owned(), NameTaken), ("b/new/a".to_owned(), MovedIntoEachOther)]);
    assert_eq!((result.text("a/x"), result.text("a/b/new")), ("1".into(), "2".into()));
    assert!(result.find(&format!("{FOLDER}/b/new")).is_some());
}
