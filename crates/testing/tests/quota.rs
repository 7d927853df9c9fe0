//! What one account may make the server store, and what becomes of the rest.

use std::time::Duration;

use vorpal_core::bounds::Bounds;
use vorpal_core::route::quota::{CONTACT_SHARE, STRANGER_SHARE, STRANGERS_PART};
use vorpal_core::store::{Kind, LogQuery, Owner};
use vorpal_proto::element::Element;
use vorpal_proto::ns;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

/// What may wait for an account in these tests.
const MOST: u64 = 100_000;

/// The smallest archive there can be.
const ARCHIVE: u64 = 1 << 20;

const STORES: [Store; 2] = [Store::Memory, Store::Sqlite];

fn world(store: Store, archive: Option<&str>) -> World {
    let archive = archive.unwrap_or("enabled = false");
    let settings = format!("[modules.mam]\n{archive}\n");
    let mut world = World::configured(1, store, true, vorpal_modules::ALL, &settings);
    bound(&mut world);
    world
}

fn bound(world: &mut World) {
    world.core().set_bounds(Bounds { offline_bytes: MOST, ..Bounds::default() });
}

/// The process is killed, and started again with the same bounds.
fn crash(world: &mut World, clients: &[ClientId]) {
    world.settle();
    world.crash();
    bound(world);
    clients.iter().for_each(|id| world.bind(*id));
}

fn online(world: &mut World, name: &str) -> ClientId {
    assert!(world.create_account(name));
    let id = world.client(name, "r");
    world.bind(id);
    id
}

/// Sends a message of about so many bytes. The condition of the error that it is answered with, if it is.
fn send(world: &mut World, from: ClientId, to: &str, bytes: usize) -> Option<String> {
    world.clients[from].inbox.clear();
    let body = "x".repeat(bytes);
    world.clients[from].send(&format!("<message to='{to}@localhost' type='chat'><body>{body}</body></message>"));
    world.settle();
    world.clients[from].inbox.drain(..).find_map(|heard| match heard {
        Heard::Element(e) => condition(&e),
        _ => None,
    })
}

fn condition(stanza: &Element) -> Option<String> {
    let error = stanza.find(ns::CLIENT, "error")?;
    error.elements().next().map(|condition| condition.name().to_owned())
}

/// Sends until it is refused: how often it was not.
fn fill(world: &mut World, from: ClientId, to: &str, bytes: usize) -> u64 {
    for sent in 0..2_000 {
        if let Some(condition) = send(world, from, to, bytes) {
            assert_eq!(condition, "service-unavailable", "the answer of XEP-0160 §2");
            return sent;
        }
    }
    panic!("it is never refused");
}

fn owner(world: &World, name: &str) -> Owner {
    world.reader().find(Kind::Account, "localhost", name).expect("the store can be read").expect("an account").owner
}

/// What the log of an account takes, in bytes.
fn stored(world: &World, name: &str) -> u64 {
    let sizes = world.reader().log_sizes(owner(world, name), LogQuery::default()).expect("the store can be read");
    sizes.iter().map(|entry| entry.bytes).sum()
}

fn befriend(world: &mut World, a: (ClientId, &str), b: (ClientId, &str)) {
    for (kind, (from, _), (_, to)) in
        [("subscribe", a, b), ("subscribed", b, a), ("subscribe", b, a), ("subscribed", a, b)]
    {
        world.clients[from].send(&format!("<presence type='{kind}' to='{to}@localhost'/>"));
        world.settle();
    }
}

#[test]
fn a_stranger_takes_a_quarter_of_what_may_wait_and_strangers_a_half() {
    for store in STORES {
        let mut world = world(store, None);
        let (juliet, friend) = (online(&mut world, "juliet"), online(&mut world, "friend"));
        befriend(&mut world, (friend, "friend"), (juliet, "juliet"));
        world.cut(juliet);
        let before = stored(&world, "juliet");
        let strangers: Vec<ClientId> = (0..3).map(|n| online(&mut world, &format!("stranger{n}"))).collect();
        let taken: Vec<u64> = strangers.iter().map(|id| fill(&mut world, *id, "juliet", 900)).collect();
        // Each entry takes about 1,100 bytes.
        let each = MOST / STRANGER_SHARE / 1_100;
        assert!((each - 1..=each + 2).contains(&taken[0]), "{taken:?}");
        assert!(taken[1] > 0 && taken[2] == 0, "half of it is full: {taken:?}");
        assert!(stored(&world, "juliet") - before <= MOST / STRANGERS_PART);
        // A friend takes the other half, and no more than a half.
        let theirs = fill(&mut world, friend, "juliet", 900);
        assert!(theirs <= MOST / CONTACT_SHARE / 1_000);
        assert!(theirs > taken[0] * 3 / 2, "{theirs} of a friend, {} of a stranger", taken[0]);
        let all = stored(&world, "juliet") - before;
        assert!(all <= MOST && all > MOST * 9 / 10, "{all}");
        // It is the same after a crash, though nobody has logged in as juliet since.
        let mut everybody = strangers.clone();
        everybody.push(friend);
        crash(&mut world, &everybody);
        for id in everybody {
            assert_eq!(send(&mut world, id, "juliet", 2_000).as_deref(), Some("service-unavailable"));
        }
        // When she has taken what waits there is room again, for all.
        world.bind(juliet);
        world.clients[juliet].send("<presence/>");
        world.settle();
        assert_eq!(world.core().loaded("juliet@localhost").expect("she is here").lock().waiting_bytes(), 0);
        world.clients[juliet].send("<presence type='unavailable'/>");
        world.settle();
        assert_eq!(send(&mut world, strangers[2], "juliet", 900), None);
    }
}

#[test]
fn a_session_that_does_not_acknowledge_is_one_for_which_messages_wait() {
    let mut world = world(Store::Memory, None);
    let (juliet, romeo) = (online(&mut world, "juliet"), online(&mut world, "romeo"));
    world.enable(juliet);
    world.clients[juliet].smacks.as_mut().expect("stream management").mute = true;
    world.clients[juliet].send("<presence/>");
    world.settle();
    world.cut(juliet);
    let bare = fill(&mut world, romeo, "juliet", 900);
    assert!(bare > 0);
    assert!(stored(&world, "juliet") <= MOST / STRANGER_SHARE);
    // An error cannot be answered: beyond the bound it is dropped.
    let before = stored(&world, "juliet");
    for _ in 0..100 {
        let error =
            format!("<error type='cancel'><service-unavailable xmlns='{}'/></error>", ns::STANZA_ERROR.as_str());
        let body = "x".repeat(900);
        world.clients[romeo]
            .send(&format!("<message to='juliet@localhost/r' type='error'><body>{body}</body>{error}</message>"));
        world.settle();
    }
    assert_eq!(stored(&world, "juliet"), before);
}

#[test]
fn the_oldest_messages_of_an_archive_that_is_full_go_and_the_newest_stay() {
    for store in STORES {
        let mut world = world(store, Some("max_bytes = '1 MiB'"));
        let (juliet, romeo) = (online(&mut world, "juliet"), online(&mut world, "romeo"));
        world.clients[juliet].send("<presence/>");
        world.settle();
        let mut largest = 0;
        for n in 0..600 {
            assert_eq!(send(&mut world, romeo, "juliet", 4_000 + n), None, "{n}");
            if n % 20 == 0 {
                world.pass(Duration::from_secs(2));
            }
            largest = largest.max(stored(&world, "juliet")).max(stored(&world, "romeo"));
        }
        world.pass(Duration::from_secs(5));
        assert!(largest <= ARCHIVE + 150_000, "{largest}");
        for name in ["juliet", "romeo"] {
            let said = world.reader().log_archived(owner(&world, name)).expect("the store can be read");
            assert_eq!(said, stored(&world, name), "nothing is kept but what the archive has");
            assert!(said <= ARCHIVE && said > ARCHIVE * 3 / 4, "{said}");
            let newest = LogQuery { newest_first: true, limit: 1, ..LogQuery::default() };
            let newest = world.reader().log_range(owner(&world, name), newest).expect("the store can be read");
            assert!(newest[0].body.len() > 4_599);
        }
        // What is in memory is what is stored.
        let account = world.core().loaded("juliet@localhost").expect("she is here");
        let (known, said) = (account.lock().archived_bytes(), stored(&world, "juliet"));
        assert!(known >= said && known <= said + 150_000, "{known}, {said}");
    }
}

#[test]
fn an_archive_that_grows_faster_than_the_oldest_go_refuses_until_they_have_gone() {
    let mut world = world(Store::Memory, Some("max_bytes = '1 MiB'"));
    let (juliet, romeo) = (online(&mut world, "juliet"), online(&mut world, "romeo"));
    world.clients[juliet].send("<presence/>");
    world.settle();
    // The clock stands still: nothing is looked after.
    let refused = (0..200).find_map(|_| send(&mut world, romeo, "juliet", 10_000));
    assert_eq!(refused.as_deref(), Some("resource-constraint"));
    assert!(stored(&world, "juliet") <= ARCHIVE + ARCHIVE / 4 + 12_000);
    world.pass(Duration::from_secs(5));
    assert!(stored(&world, "juliet") <= ARCHIVE);
    assert_eq!(send(&mut world, romeo, "juliet", 10_000), None);
}

#[test]
fn an_archive_that_is_full_refuses_where_that_is_configured_also_after_a_crash() {
    for store in STORES {
        let mut world = world(store, Some("max_bytes = '1 MiB'\nfull = 'refuse'"));
        let (juliet, romeo) = (online(&mut world, "juliet"), online(&mut world, "romeo"));
        world.clients[juliet].send("<presence/>");
        world.settle();
        let mut sent = 0;
        let refused = loop {
            match send(&mut world, romeo, "juliet", 10_000) {
                Some(condition) => break condition,
                None => sent += 1,
            }
            world.pass(Duration::from_secs(1));
            assert!(sent < 200, "it is never full");
        };
        assert_eq!(refused, "resource-constraint");
        let taken = stored(&world, "juliet");
        assert!((ARCHIVE..=ARCHIVE + 12_000).contains(&taken), "{taken}");
        crash(&mut world, &[juliet, romeo]);
        assert_eq!(send(&mut world, romeo, "juliet", 10).as_deref(), Some("resource-constraint"));
        assert_eq!(stored(&world, "juliet"), taken, "nothing of it has gone");
    }
}

/// Fifty sessions of one account send as much as they can to somebody who is not there and to somebody who is; others go on.
#[test]
fn one_account_cannot_fill_the_disk_for_all() {
    let mut world = world(Store::Sqlite, Some("max_bytes = '1 MiB'"));
    let (_, here) = (world.create_account("away"), online(&mut world, "here"));
    let (romeo, juliet) = (online(&mut world, "romeo"), online(&mut world, "juliet"));
    for id in [here, juliet] {
        world.clients[id].send("<presence/>");
        world.settle();
    }
    assert!(world.create_account("tybalt"));
    let attackers: Vec<ClientId> = (0..50).map(|n| world.client("tybalt", &format!("r{n}"))).collect();
    attackers.iter().for_each(|id| world.bind(*id));
    let body = "x".repeat(20_000);
    for _ in 0..20 {
        for id in &attackers {
            for to in ["away", "here", "tybalt"] {
                let message = format!("<message to='{to}@localhost' type='chat'><body>{body}</body></message>");
                world.clients[*id].send(&message);
            }
        }
        world.settle();
        world.pass(Duration::from_secs(1));
        world.clients.iter_mut().for_each(|client| client.inbox.clear());
        assert_eq!(send(&mut world, romeo, "juliet", 100), None, "others are not refused");
    }
    world.pass(Duration::from_secs(90));
    // 60 MB were sent.
    let most = ARCHIVE + ARCHIVE / 4 + MOST;
    for name in ["tybalt", "away", "here"] {
        let taken = stored(&world, name);
        assert!(taken <= most, "{name} takes {taken}");
    }
    assert!(stored(&world, "away") <= MOST);
}
