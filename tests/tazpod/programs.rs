//! Programs that people keep secrets with, as an ordinary user in an unlocked vault; and all is still so after the next
//! unlock. That a plain `lock` works in between shows that none of them leaves anything held.

mod user;

use rustix::process::Signal;
use user::{User, eventually, signal};

/// Runs a check that prints what is to stay; the same must come out after lock and unlock.
fn stays(user: &User, check: &str) -> String {
    let before = user.shell_ok(check);
    user.lock();
    assert!(!user.is_mounted());
    user.unlock();
    assert_eq!(user.shell_ok(check), before, "after lock and unlock: {check}");
    before
}

/// A folder `~/from` with something of everything that an ordinary user can make.
const MAKE_TREE: &str = r#"
set -e
mkdir -p from/empty from/deep/er && cd from && umask 022
head -c 300000 /dev/urandom > deep/large && : > deep/er/nothing
echo 1 > 'with space' && echo 2 > $'line\nbreak' && echo 3 > umläut
ln deep/large deep/er/hard && ln deep/large hard
ln -s deep/large soft && ln -s /nowhere dangling && mkfifo fifo
chmod 600 hard && chmod 755 'with space' && chmod 500 empty && chmod 1777 deep/er
setfattr -n user.note -v 'of a file' umläut && setfattr -n user.note -v 'of a folder' deep
truncate -s 5000000 sparse && echo end >> sparse
touch -d '2001-02-03 04:05:06.123456789' umläut soft -h && touch -d '1969-12-31 23:00:00.5' deep
"#;

#[test]
fn git_keeps_a_repository() {
    let user = User::unlocked();
    user.shell_ok(
        "set -e; git init -q secrets/repo && cd secrets/repo && git config user.name A && git config user.email a@example.org
        for round in 1 2 3 4; do
            mkdir -p d$round && for file in $(seq 40); do echo $round $file > d$round/$file; done
            git add . && git commit -qm $round
        done
        git checkout -qb side HEAD~2 && echo side > side && git add side && git commit -qm side
        git checkout -q - && git merge -q -m merge side && git gc -q --aggressive --prune=now",
    );
    let shown =
        stays(&user, "cd secrets/repo && git fsck --full --strict && git status --porcelain && git log --format=%H");
    assert_eq!(shown.lines().count(), 6, "{shown}");
    user.shell_ok("git clone -q secrets/repo clone && diff -r --exclude=.git secrets/repo clone");
}

#[test]
fn sqlite_in_wal_mode_counts_what_many_processes_write() {
    let user = User::unlocked();
    user.shell_ok(
        "set -e; cd secrets && sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t (writer INTEGER, n INTEGER)' | grep -qx wal
        for writer in 1 2 3 4; do
            for n in $(seq 25); do echo \"INSERT INTO t VALUES ($writer, $n);\"; done |
                sqlite3 -bail -cmd '.timeout 60000' db & pids+=($!)
        done
        for pid in ${pids[@]}; do wait $pid || exit 1; done",
    );
    let check = "set -e; cd secrets && sqlite3 db 'PRAGMA integrity_check; SELECT writer, count(*), sum(n) FROM t GROUP BY writer'";
    assert_eq!(stays(&user, check), "ok\n1|25|325\n2|25|325\n3|25|325\n4|25|325\n");
}

#[test]
fn ssh_keys_are_made_and_used() {
    let user = User::unlocked();
    user.shell_ok(
        "mkdir -m 700 secrets/.ssh && cd secrets/.ssh && ssh-keygen -q -t ed25519 -N '' -C me -f id
        echo \"me $(cat id.pub)\" > signers && echo text > text && ssh-keygen -q -Y sign -f id -n file text 2>&1",
    );
    let check = "cd secrets/.ssh && stat -c '%a %n' id id.pub && diff <(ssh-keygen -y -f id) id.pub &&
        ssh-keygen -Y verify -f signers -I me -n file -s text.sig < text";
    let shown = stays(&user, check);
    assert!(shown.starts_with("600 id\n644 id.pub\n") && shown.contains("Good \"file\" signature"), "{shown}");
    let (status, _, told) = user.shell("cd secrets/.ssh && chmod 644 id && ssh-keygen -y -f id");
    assert!(status != 0 && told.contains("too open"), "{told}");
}

#[test]
fn gpg_has_its_home_in_the_vault() {
    let user = User::unlocked();
    let gpg = "export GNUPGHOME=$HOME/secrets/.gnupg; trap 'gpgconf --kill all' EXIT";
    user.shell_ok(&format!(
        "{gpg}; mkdir -m 700 $GNUPGHOME && cd secrets &&
        gpg -q --batch --passphrase '' --quick-generate-key a@example.org future-default default never &&
        echo 'MARKER-1873' | gpg -q --batch --trust-model always -r a@example.org -o message.gpg -e"
    ));
    let check = format!(
        "{gpg}; cd secrets && gpg -q --batch -d message.gpg && gpg --batch --with-colons -K | grep ^fpr &&
        echo signed | gpg -q --batch -s | gpg -q --batch -d 2>/dev/null"
    );
    assert!(stays(&user, &check).starts_with("MARKER-1873\nfpr"));
}

#[test]
fn rsync_goes_there_and_back_and_finds_no_difference() {
    let user = User::unlocked();
    user.shell_ok(MAKE_TREE);
    user.shell_ok("mkdir secrets/to && echo old > secrets/to/old && rsync -aHAX --delete from/ secrets/to/");
    let listed = "find from -printf x | wc -c";
    assert_eq!(user.shell_ok(&listed.replace("from", "secrets/to")), user.shell_ok(listed));
    let again = "rsync -aHAX --delete --checksum --itemize-changes from/ secrets/to/";
    assert_eq!(stays(&user, again), "");
    assert_eq!(
        user.shell_ok("cd secrets/to && stat -c %h hard && getfattr --only-values -n user.note umläut"),
        "3\nof a file"
    );
    user.shell_ok("rsync -aHAX --delete secrets/to/ back/");
    assert_eq!(user.shell_ok("rsync -aHAX --delete --checksum --itemize-changes from/ back/"), "");
    user.shell_ok("rm from/deep/er/hard && rsync -aHAX --delete from/ secrets/to/");
    assert_eq!(user.shell_ok("cd secrets/to && ls deep/er && stat -c %h hard"), "nothing\n2\n");
}

#[test]
fn tar_packs_and_unpacks_links_and_attributes() {
    let user = User::unlocked();
    user.shell_ok(MAKE_TREE);
    user.shell_ok(
        "tar --format=pax --xattrs -C from -cf from.tar . && mkdir secrets/to && tar --xattrs -C secrets/to -xpf from.tar",
    );
    let same = "tar --xattrs -C secrets/to -df from.tar && rsync -aHAX --delete --checksum --itemize-changes from/ secrets/to/";
    assert_eq!(stays(&user, same), "");
    user.shell_ok(
        "tar --format=pax --xattrs -C secrets/to -cf back.tar . && mkdir back && tar --xattrs -C back -xpf back.tar",
    );
    assert_eq!(user.shell_ok("rsync -aHAX --delete --checksum --itemize-changes from/ back/"), "");
}

/// Saves as careful editors do.
const SAVE_BY_RENAME: &str = r#"exec python3 -c '
import os
with open("secrets/.note.tmp", "x") as file:
    os.fchmod(file.fileno(), 0o600)
    file.write("saved by rename\n")
    file.flush()
    os.fsync(file.fileno())
os.rename("secrets/.note.tmp", "secrets/note")
folder = os.open("secrets", os.O_RDONLY | os.O_DIRECTORY)
os.fsync(folder)
'"#;

#[test]
fn a_save_by_rename_outlives_a_killed_agent() {
    let user = User::unlocked();
    user.shell_ok("echo old > secrets/note");
    user.shell_ok(SAVE_BY_RENAME);
    signal(user.agent(), Signal::KILL);
    eventually("the keeper cleans up", || !user.is_mounted());
    user.unlock();
    assert_eq!(stays(&user, "cd secrets && ls -A && stat -c %a note && cat note"), "note\n600\nsaved by rename\n");
}

#[test]
fn editors_save_over_a_file() {
    let user = User::unlocked();
    user.shell_ok("umask 077; printf 'one\ntwo\n' > secrets/note; ln -s note secrets/link");
    for (index, copy) in ["yes", "no", "auto"].into_iter().enumerate() {
        user.shell_ok(&format!(
            "cd secrets && vim -Nes -u NONE -i NONE -c 'set backupcopy={copy} backup swapfile fsync' -c '$s/.*/line {index}/' -c wq note"
        ));
        let check = "cd secrets && rm -f note~ && ls -A && stat -c %a note && cat link";
        assert_eq!(stays(&user, check), format!("link\nnote\n600\none\nline {index}\n"));
    }
    user.shell_ok("cd secrets && sed -i s/one/sed/ note && perl -pi -e s/line/perl/ note");
    assert_eq!(stays(&user, "cd secrets && ls -A && stat -c %a note && cat note"), "link\nnote\n600\nsed\nperl 2\n");
}

#[test]
fn flock_keeps_others_out() {
    let user = User::unlocked();
    user.shell_ok(
        "cd secrets && echo 0 > count && for writer in 1 2 3 4; do
            (for n in $(seq 20); do flock lock sh -c 'echo $(($(cat count) + 1)) > count'; done) & pids+=($!)
        done
        for pid in ${pids[@]}; do wait $pid || exit 1; done",
    );
    assert_eq!(stays(&user, "cat secrets/count"), "80\n");
    let held =
        "cd secrets && exec 9> lock && flock 9 && (flock -n lock true; echo $?) && (flock -sn lock true; echo $?)
        flock -w 0.2 lock true; echo $?; flock -u 9; flock -n lock true; echo $?";
    assert_eq!(user.shell_ok(held), "1\n1\n1\n0\n");
    let posix = r#"exec python3 -c '
import fcntl, os, struct
file = open("secrets/lock", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)
if os.fork() == 0:
    other = open("secrets/lock", "r+b")
    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)
    try:
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 14)
        os._exit(1)
    except BlockingIOError:
        os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
'"#;
    assert_eq!(user.shell_ok(posix), "0\n");
}
