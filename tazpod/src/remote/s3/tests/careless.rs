//! A server that keeps conditions as long as nobody else writes at the same moment: the contract but for its races (and it makes
//! a missing bucket unasked), and the probe finds it out.

use super::s3s::{ACCESS_KEY, S3sServer, SECRET_KEY};
use super::*;
use crate::remote::tests::run_except;

struct Careless(S3sServer);

impl Buckets for Careless {
    fn remote(&self, bucket: &str) -> S3Remote {
        let user = User { id: ACCESS_KEY.to_owned(), secret: SECRET_KEY.to_owned(), token: None };
        let place = place(&format!("http://127.0.0.1:{}", self.0.port), bucket);
        S3Remote::open(&place, &mut vault_of(&user), patience(), Parts::Never).unwrap()
    }
}

#[test]
fn a_careless_server_keeps_the_contract_but_for_races_and_is_found_out() {
    let server = Careless(S3sServer::start());
    let exceptions = ["of_racing_puts_one_wins", "conditions_are_kept", "storage_is_made_once_and_until_then_missing"];
    run_except(&server, &exceptions);
    let remote = server.remote("races");
    remote.make_storage().unwrap();
    let Conditions::Broken(reason) = remote.probe().unwrap() else { panic!("it was not found out") };
    assert!(reason.contains("more than one was told that it won"), "{reason}");
}
