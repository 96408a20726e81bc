//! Servers that hang, fail, lie and break off: a clear error in bounded time, nothing changed here, and the next try works.

use std::time::{Duration, Instant};

use super::moto::{Fault, Proxy};
use super::*;
use crate::remote::tests::{Notes, Sample, done, names_in, noise};

/// A bucket that is reached through a proxy.
struct Broken {
    server: Server,
    proxy: Proxy,
}

impl Broken {
    fn new() -> Self {
        Self::before(Server::start())
    }

    fn before(server: Server) -> Self {
        server.ready("box");
        let proxy = Proxy::before(server.moto.port);
        Self { server, proxy }
    }

    fn remote(&self) -> S3Remote {
        self.remote_with(patience())
    }

    fn remote_with(&self, patience: Patience) -> S3Remote {
        let place = place(&format!("http://127.0.0.1:{}", self.proxy.port), "box");
        S3Remote::open(&place, &mut vault_of(&self.server.user), patience, self.server.parts).unwrap()
    }
}

const ALWAYS: usize = 1000;

#[test]
fn a_server_that_hangs_or_fails_costs_a_bounded_time_and_changes_nothing() {
    let broken = Broken::new();
    let (here, there) = (Sample::v1(1), Sample::v1(2));
    let version = done(broken.remote().put(&there.path, &there.description, &[]).unwrap());
    let hasty = Patience { read: Duration::from_secs(2), stalled: Duration::from_secs(2), ..patience() };
    let hanging = |error: &RemoteError| matches!(error, RemoteError::TimedOut(_));
    let failing = |error: &RemoteError| matches!(error, RemoteError::Server { reason, .. } if reason.contains("503"));
    for fault in [Fault::Hang, Fault::Status(503)] {
        let fits = |error: &RemoteError| if fault == Fault::Hang { hanging(error) } else { failing(error) };
        broken.proxy.set(fault, ALWAYS);
        let remote = broken.remote_with(hasty);
        let begun = Instant::now();
        let errors = [
            remote.heads().unwrap_err(),
            remote.put(&here.path, &here.description, &[]).unwrap_err(),
            remote.fetch(&version, &here.path).unwrap_err(),
        ];
        assert!(begun.elapsed() < Duration::from_secs(40), "{fault:?}: {:?}", begun.elapsed());
        for error in errors {
            assert!(fits(&error) && error.hint().contains("try again"), "{fault:?}: {error:?}");
        }
        assert_eq!(std::fs::read(&here.path).unwrap(), here.bytes);
        assert_eq!(names_in(here.path.parent().unwrap()), ["archive"]);
        broken.proxy.set(Fault::None, 0);
        assert_eq!(head(&remote).version, version);
    }
}

#[test]
fn nobody_listening_is_told_as_such() {
    let server = Server::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let remote = connect(&format!("http://127.0.0.1:{port}"), "box", &server.user);
    let error = remote.heads().unwrap_err();
    assert!(matches!(&error, RemoteError::Unreachable { reason, .. } if reason.contains("refused")), "{error:?}");
    let nowhere = connect("http://no-such-host.invalid", "box", &server.user);
    let error = nowhere.heads().unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
}

#[test]
fn one_failure_is_tried_again_unnoticed() {
    let broken = Broken::new();
    let (mut remote, sample) = (broken.remote(), Sample::of(noise(1, 100_000)));
    let notes = Notes::watch(&mut remote);
    let once = |fault| broken.proxy.set(fault, 1);
    once(Fault::Status(500));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    once(Fault::CutUpload(50_000));
    let second = Sample::of(noise(2, 100_000));
    let version = done(remote.put(&second.path, &second.description, &[version]).unwrap());
    assert_eq!(broken.proxy.left(), 0);
    let target = sample.path.with_extension("fetched");
    once(Fault::CutDownload(60_000));
    assert_eq!(remote.fetch(&version, &target).unwrap(), second.description);
    assert_eq!((broken.proxy.left(), std::fs::read(&target).unwrap()), (0, second.bytes));
    // What went twice counts once.
    let notes = notes.take();
    assert!(notes.len() == 3 && notes.iter().all(|note| note.ended && note.reached == note.bytes), "{notes:?}");
}

#[test]
fn an_upload_that_is_cut_again_and_again_leaves_what_was_there() {
    let broken = Broken::before(Server::start_with_parts());
    let remote = broken.remote();
    let old = Sample::v1(1);
    let version = done(remote.put(&old.path, &old.description, &[]).unwrap());
    for sample in [Sample::of(noise(1, 1 << 20)), Sample::of(noise(1, 18 << 20))] {
        broken.proxy.set(Fault::CutUpload(300_000), ALWAYS);
        let error = remote.put(&sample.path, &sample.description, std::slice::from_ref(&version)).unwrap_err();
        let fits = matches!(error, RemoteError::Cut { .. } | RemoteError::TimedOut(_));
        assert!(fits && error.hint().contains("try again"), "{error:?}");
        broken.proxy.set(Fault::None, 0);
        assert_eq!(head(&remote).version, version);
    }
    let call = remote.store.client.list_multipart_uploads().bucket("box").send();
    assert!(remote.runtime.block_on(call).unwrap().uploads().is_empty(), "parts are thrown away");
    let next = Sample::of(noise(1, 18 << 20));
    done(remote.put(&next.path, &next.description, &[version]).unwrap());
}

#[test]
fn a_download_that_breaks_off_or_stalls_replaces_nothing() {
    let broken = Broken::new();
    let sample = Sample::of(noise(1, 1 << 20));
    let version = done(broken.remote().put(&sample.path, &sample.description, &[]).unwrap());
    let here = Sample::v1(1);
    for fault in [Fault::CutDownload(300_000), Fault::StallDownload(300_000)] {
        broken.proxy.set(fault, ALWAYS);
        let remote = broken.remote();
        let begun = Instant::now();
        let error = remote.fetch(&version, &here.path).unwrap_err();
        assert!(matches!(error, RemoteError::Cut { .. }), "{fault:?}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(40), "{fault:?}: {:?}", begun.elapsed());
        assert_eq!(std::fs::read(&here.path).unwrap(), here.bytes);
        assert_eq!(names_in(here.path.parent().unwrap()), ["archive"]);
        broken.proxy.set(Fault::None, 0);
        assert_eq!(remote.fetch(&version, &here.path.with_extension("fetched")).unwrap(), sample.description);
        std::fs::remove_file(here.path.with_extension("fetched")).unwrap();
    }
}

#[test]
fn a_large_archive_comes_in_ranges_and_what_breaks_off_is_taken_up_again() {
    let broken = Broken::new();
    let (mut remote, here) = (broken.remote(), Sample::v1(1));
    let notes = Notes::watch(&mut remote);
    let sample = Sample::of(noise(1, (18 << 20) + 5));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    assert_eq!(head(&remote).version, version);
    broken.proxy.requests();
    broken.proxy.set(Fault::CutDownload(300_000), 1);
    let target = sample.path.with_extension("fetched");
    assert_eq!(remote.fetch(&version, &target).unwrap(), sample.description);
    assert!(std::fs::read(&target).unwrap() == sample.bytes);
    // Three, and one of them again.
    assert_eq!((broken.proxy.left(), broken.proxy.requests().len()), (0, 4));
    let notes = notes.take();
    assert!(notes.iter().all(|note| note.ended && note.reached == note.bytes), "{notes:?}");
    for (fault, is_told) in [
        (Fault::CutDownload(300_000), (|error| matches!(error, RemoteError::Cut { .. })) as fn(&RemoteError) -> bool),
        (Fault::Flip(50_000), |error| matches!(error, RemoteError::Damaged { .. })),
    ] {
        broken.proxy.set(fault, ALWAYS);
        let error = remote.fetch(&version, &here.path).unwrap_err();
        assert!(is_told(&error), "{fault:?}: {error:?}");
        assert_eq!(std::fs::read(&here.path).unwrap(), here.bytes);
        assert_eq!(names_in(here.path.parent().unwrap()), ["archive"]);
    }
    broken.proxy.set(Fault::None, 0);
    let other = Sample::of(noise(2, 18 << 20));
    done(broken.remote().put(&other.path, &other.description, std::slice::from_ref(&version)).unwrap());
    assert!(matches!(remote.fetch(&version, &here.path), Err(RemoteError::Changed(_))), "it was replaced meanwhile");
}

#[test]
fn bytes_that_change_on_the_way_are_damage() {
    let broken = Broken::new();
    let (remote, here) = (broken.remote(), Sample::v1(1));
    let sample = Sample::of(noise(1, 100_000));
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    broken.proxy.set(Fault::Flip(50_000), ALWAYS);
    let error = remote.fetch(&version, &here.path).unwrap_err();
    assert!(matches!(error, RemoteError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read(&here.path).unwrap(), here.bytes);
    broken.proxy.set(Fault::None, 0);
    assert_eq!(remote.fetch(&version, &here.path).unwrap(), sample.description);
}

#[test]
fn a_store_that_ignores_conditions_is_found_out() {
    let mut broken = Broken::new();
    // The signature covers what is left out.
    broken.server.moto.check(false);
    broken.proxy.set(Fault::StripConditions, ALWAYS);
    let Conditions::Broken(reason) = broken.remote().probe().unwrap() else { panic!("it was not found out") };
    assert!(reason.contains("overwrote"), "{reason}");
    broken.proxy.set(Fault::None, 0);
    assert_eq!(broken.remote().probe().unwrap(), Conditions::KeptInOneRequest);
}

/// It is believed before it is fetched, and refused.
#[test]
fn an_answer_that_says_it_is_huge_fills_no_disk() {
    let broken = Broken::new();
    let sample = Sample::v1(1);
    let mut remote = broken.remote();
    let version = done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    broken.proxy.set(Fault::Claim(1 << 60), ALWAYS);
    let target = sample.path.with_extension("fetched");
    let error = remote.fetch(&version, &target).unwrap_err();
    assert!(matches!(error, RemoteError::NoRoom { .. }) && error.hint().contains("make room"), "{error:?}");
    remote.set_transfers(Transfers::new(None, 1 << 30));
    let error = remote.fetch(&version, &target).unwrap_err();
    assert!(matches!(error, RemoteError::TooLarge { .. }), "{error:?}");
    assert_eq!(names_in(target.parent().unwrap()), ["archive"]);
}

#[test]
fn looking_at_what_is_there_is_one_request() {
    let broken = Broken::new();
    let (remote, sample) = (broken.remote(), Sample::v1(1));
    done(remote.put(&sample.path, &sample.description, &[]).unwrap());
    broken.proxy.requests();
    head(&remote);
    assert_eq!(broken.proxy.requests(), ["HEAD /box/tazpod/vault/vault.tar.aes HTTP/1.1"]);
}
