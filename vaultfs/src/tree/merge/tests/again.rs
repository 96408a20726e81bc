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
