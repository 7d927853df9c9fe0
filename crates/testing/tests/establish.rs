//! What a client that has logged in asks for, as one value: to resume a session, or else to bind a resource.

use std::sync::Arc;

use vorpal_core::life::bind::BindError;
use vorpal_core::life::establish::{Bind, Establish, Established, Resume};
use vorpal_core::life::resume::NoSuchSession;
use vorpal_core::owner::account::AccountRef;
use vorpal_core::session::{Carrier, Peer};
use vorpal_testing::disk::Store;
use vorpal_testing::link::Bell;
use vorpal_testing::world::{HOST, World};

/// Romeo has a session that waits to be resumed: its token.
fn away() -> (World, AccountRef, String) {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    assert!(world.create_account("romeo"));
    let id = world.client("romeo", "orchard");
    world.bind(id);
    world.enable(id);
    world.cut(id);
    let token = world.clients[id].smacks.clone().and_then(|smacks| smacks.token).expect("a token");
    let lock = world.core().loaded(&format!("romeo@{HOST}")).expect("romeo is here");
    (world, lock, token)
}

fn carrier(world: &World, revocations: u32) -> Carrier {
    let order = world.core().next_connection();
    Carrier { wake: Arc::new(Bell::default()), order, revocations, peer: Peer::default() }
}

fn establish(world: &World, lock: &AccountRef, token: Option<&str>, resource: Option<&str>) -> Established {
    let resume = token.map(|token| Resume { token: token.to_owned(), h: 0 });
    let bind = resource.map(|resource| Bind { resource: Some(resource.to_owned()) });
    let carrier = carrier(world, world.core().revocations(lock));
    world.core().establish(world.now, Establish { account: lock.clone(), resume, bind }, carrier)
}

fn sessions(lock: &AccountRef) -> Vec<String> {
    lock.lock().sessions.iter().filter_map(|session| Some(session.jid.resource()?.to_owned())).collect()
}

#[test]
fn a_session_that_is_resumed_is_not_bound() {
    let (world, lock, token) = away();
    let Established::Resuming(attached, resume) = establish(&world, &lock, Some(&token), Some("balcony")) else {
        panic!("it is not resumed");
    };
    assert_eq!((attached.session.jid.resource(), resume.token), (Some("orchard"), token));
    assert!(attached.session.is_attached() && attached.session.epoch() == attached.epoch);
    assert_eq!(sessions(&lock), ["orchard"]);
}

#[test]
fn a_session_that_is_not_there_is_bound_if_that_is_asked_for_as_well() {
    let (world, lock, _) = away();
    let Established::Bound(attached, not_resumed) = establish(&world, &lock, Some("none"), Some("balcony")) else {
        panic!("it is not bound");
    };
    assert_eq!(attached.session.jid.resource(), Some("balcony"));
    assert_eq!(not_resumed, Some(NoSuchSession { h: None }));
    assert_eq!(sessions(&lock), ["orchard", "balcony"]);

    let failed = establish(&world, &lock, Some("none"), None);
    let nothing = Some(NoSuchSession { h: None });
    assert!(matches!(failed, Established::Failed { resume, bind: None } if resume == nothing), "{failed:?}");
    let failed = establish(&world, &lock, None, None);
    assert!(matches!(failed, Established::Failed { resume: None, bind: None }), "{failed:?}");
    let long = "r".repeat(2_000);
    let failed = establish(&world, &lock, None, Some(&long));
    assert!(matches!(failed, Established::Failed { resume: None, bind: Some(BindError::BadResource) }), "{failed:?}");
    assert_eq!(sessions(&lock), ["orchard", "balcony"]);
}

#[test]
fn a_login_that_was_revoked_gets_no_session_in_either_way() {
    let (mut world, lock, token) = away();
    let before = world.core().revocations(&lock);
    world.core().disable_user(world.now, &lock, true, Box::new(|stored| assert!(stored)));
    world.settle();
    let resume = Some(Resume { token, h: 0 });
    let asked = Establish { account: lock.clone(), resume, bind: Some(Bind::default()) };
    let failed = world.core().establish(world.now, asked, carrier(&world, before));
    assert!(matches!(failed, Established::Failed { resume: Some(_), bind: Some(BindError::Revoked) }), "{failed:?}");
    assert!(sessions(&lock).is_empty());
}
