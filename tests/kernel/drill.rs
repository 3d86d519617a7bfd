//! The drill's scratch host, before anybody rescues it: every lock-out must lock a client out.

use ssh_rescue::host::Host;
use ssh_rescue::rehearse::drill::{LOCKOUTS, Sight, Stage};

use super::common::root;

#[test]
fn every_lock_out_locks_a_client_out() {
    if !root("drill") {
        return;
    }
    for lockout in LOCKOUTS {
        let sight = Stage::build(&Host::live(), |stage| {
            assert_eq!(stage.see().unwrap(), [Sight::Banner; 2], "{}: a fresh host", lockout.name);
            (lockout.apply)(stage)?;
            stage.see()
        })
        .unwrap_or_else(|e| panic!("{}: {}", lockout.name, ssh_rescue::chain(&e)));
        println!("{}: {sight:?}", lockout.name);
        assert!(!sight.contains(&Sight::Banner), "{}: {sight:?}", lockout.name);
    }
}
