//! Accounts that are removed, disabled, and made again, while others write to them and the server dies.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use vorpal_core::bounds::Bounds;
use vorpal_core::life::load::MAX_ROWS;
use vorpal_core::life::users::{NewUser, Sessions};
use vorpal_core::owner::account::AccountRef;
use vorpal_core::store::{
    Entry, EntryId, EntrySize, KeyedRow, Kind, LogQuery, MapId, MapQuery, Owner, OwnerRow, Reader, Result, Row, Write,
};
use vorpal_proto::element::Element;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns;
use vorpal_proto::sasl::{decode_payload, encode_payload};
use vorpal_store::memory::Fault;
use vorpal_testing::client::Heard;
use vorpal_testing::disk::{Medium, Store};
use vorpal_testing::world::{ClientId, Secrets, World};

fn world() -> World {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    for name in ["romeo", "juliet", "tybalt"] {
        assert!(world.create_account(name));
    }
    world
}

fn jid(name: &str) -> BareJid {
    BareJid::new(name, "localhost").expect("an address")
}

fn say(world: &mut World, id: ClientId, xml: &str) {
    world.clients[id].send(xml);
    world.settle();
}

fn online(world: &mut World, name: &str, resource: &str) -> ClientId {
    let id = world.client(name, resource);
    world.bind(id);
    say(world, id, "<presence/>");
    id
}

fn heard(world: &mut World, id: ClientId) -> Vec<Element> {
    let drained = world.clients[id].inbox.drain(..);
    drained.filter_map(|heard| if let Heard::Element(element) = heard { Some(element) } else { None }).collect()
}

/// Romeo has two sessions, the first without stream management, and a contact who is away.
fn romeo_and_friend(world: &mut World) -> [ClientId; 2] {
    let first = online(world, "romeo", "first");
    let juliet = online(world, "juliet", "balcony");
    for kind in ["subscribe", "subscribed"] {
        for (from, to) in [(first, "juliet"), (juliet, "romeo")] {
            say(world, from, &format!("<presence type='{kind}' to='{to}@localhost'/>"));
        }
    }
    let second = world.client("romeo", "second");
    world.bind(second);
    world.enable(second);
    say(world, second, "<presence/>");
    say(world, juliet, "</stream:stream>");
    [first, second]
}

/// What Juliet's roster says of Romeo.
fn subscription(world: &mut World) -> String {
    subscription_of(world, "juliet", "romeo")
}

/// What somebody's roster says of somebody.
fn subscription_of(world: &mut World, name: &str, contact: &str) -> String {
    let id = world.client(name, "asks");
    world.bind(id);
    heard(world, id);
    say(world, id, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    let answers = heard(world, id);
    world.cut(id);
    let query = answers.iter().find_map(|answer| answer.find(ns::ROSTER, "query")).expect("a roster");
    let contact = format!("{contact}@localhost");
    let item = query.elements().find(|item| item.get("jid") == Some(contact.as_str()));
    item.and_then(|item| item.get("subscription")).unwrap_or("none").to_owned()
}

fn logs_in(world: &mut World, name: &str) -> bool {
    let id = world.client(name, "tries");
    world.open(id);
    let (_, auth) = world.sasl(id);
    world.clients[id].send(&auth);
    world.settle();
    let lock = world.core().loaded(&format!("{name}@localhost"));
    world.cut(id);
    lock.is_some_and(|lock| !lock.lock().disabled)
}

#[test]
fn an_account_that_is_removed_while_strangers_write_to_it_is_gone() {
    let mut world = world();
    let [first, second] = romeo_and_friend(&mut world);
    let tybalt = online(&mut world, "tybalt", "square");
    for n in 0..20 {
        world.clients[tybalt]
            .send(&format!("<message to='romeo@localhost' type='chat' id='{n}'><body>hi</body></message>"));
    }
    world.pump(tybalt);
    let lock = world.load(&jid("romeo")).expect("it is there");
    world.core().begin_removal(world.now, &lock, Box::new(|stored| assert!(stored)));
    for n in 20..30 {
        world.clients[tybalt]
            .send(&format!("<message to='romeo@localhost' type='chat' id='{n}'><body>hi</body></message>"));
        world.pump(tybalt);
    }
    drop(lock);
    world.settle();
    assert!(!logs_in(&mut world, "romeo"), "nobody logs in any more");
    assert!(!world.clients[first].is_connected() && !world.clients[second].is_connected());
    // It can be removed though it has begun, and then it is gone.
    world.load(&jid("juliet"));
    let lock = world
        .core()
        .all_loaded()
        .into_iter()
        .find(|lock| lock.jid == jid("romeo"))
        .expect("it stays until it is deleted");
    let left = world.core().leave(world.now, &lock, &jid("juliet"), Box::new(|_| ()));
    assert!(left.is_none());
    world.core().delete_user(world.now, &lock, Box::new(|stored| assert!(stored)));
    world.settle();
    drop(lock);
    assert!(!logs_in(&mut world, "romeo"));
    let bounced = heard(&mut world, tybalt).iter().filter(|m| m.get("type") == Some("error")).count();
    assert!((10..=30).contains(&bounced), "{bounced} come back");
    assert!(world.create_account("romeo"), "the name is free");
    assert!(logs_in(&mut world, "romeo"));
    assert_eq!(subscription(&mut world), "none");
}

#[test]
fn wherever_the_server_dies_a_name_is_free_only_when_nobody_holds_anything_of_it() {
    let (mut free, mut kept) = (0, 0);
    for died in 0..6 {
        let mut world = world();
        romeo_and_friend(&mut world);
        world.crash();
        let lock = world.load(&jid("romeo")).expect("it is there");
        world.core().begin_removal(world.now, &lock, Box::new(|_| ()));
        if died > 0 {
            world.write_or_die();
        }
        if died > 1 {
            world.load(&jid("juliet"));
            let left = world.core().leave(world.now, &lock, &jid("juliet"), Box::new(|_| ()));
            assert!(left.is_none());
        }
        if died > 2 {
            world.write_or_die();
        }
        if died > 3 {
            world.core().delete_user(world.now, &lock, Box::new(|_| ()));
        }
        if died > 4 {
            world.write_or_die();
        }
        drop(lock);
        world.crash();
        if world.load(&jid("romeo")).is_some() {
            kept += 1;
            assert_eq!(logs_in(&mut world, "romeo"), died == 0, "{died}");
            assert!(world.remove_account(&jid("romeo")));
        } else {
            free += 1;
        }
        assert_eq!(subscription(&mut world), "none", "{died}");
        assert!(world.create_account("romeo"));
        world.crash();
        assert!(logs_in(&mut world, "romeo"));
    }
    assert_eq!((free, kept), (1, 5));
}

#[test]
fn a_removal_that_cannot_be_stored_leaves_the_account_as_it_was() {
    let mut world = world();
    romeo_and_friend(&mut world);
    world.mood.refuses.store(true, Ordering::Relaxed);
    assert!(!world.remove_account(&jid("romeo")));
    assert!(!world.disable_account(&jid("romeo"), true));
    world.mood.refuses.store(false, Ordering::Relaxed);
    world.pass(Duration::from_secs(3));
    assert!(logs_in(&mut world, "romeo"));
    assert_eq!(subscription(&mut world), "both");
    let second = online(&mut world, "romeo", "second");
    assert!(world.clients[second].is_connected());
}

#[test]
fn an_account_stays_while_a_contact_holds_something_of_it() {
    let mut world = world();
    romeo_and_friend(&mut world);
    let lock = world.load(&jid("romeo")).expect("it is there");
    assert!(world.stored(|core, now, done| core.begin_removal(now, &lock, done)));
    // There is no room for what Juliet's roster says, and then there is.
    world.mood.refuses_one.store(true, Ordering::Relaxed);
    assert!(!world.finish_removal(&lock), "it is not deleted");
    drop(lock);
    assert!(!logs_in(&mut world, "romeo"));
    assert!(world.load(&jid("romeo")).is_some(), "it can be removed once more");
    assert!(world.remove_account(&jid("romeo")));
    assert_eq!(subscription(&mut world), "none");
}

#[test]
fn a_removal_that_stops_leaves_nothing_of_a_contact_whose_name_has_another_owner() {
    let mut world = world();
    romeo_and_friend(&mut world);
    world.load(&jid("juliet"));
    let lock = world.load(&jid("romeo")).expect("it is there");
    assert!(world.stored(|core, now, done| core.begin_removal(now, &lock, done)));
    assert!(world.stored(|core, now, done| assert!(core.leave(now, &lock, &jid("juliet"), done).is_none())));
    world.mood.refuses_one.store(true, Ordering::Relaxed);
    assert!(!world.stored(|core, now, done| core.delete_user(now, &lock, done)));
    world.core().stop_removal(&lock);
    drop(lock);
    // Juliet holds nothing of him any more: so her removal does not come to his roster.
    assert!(world.remove_account(&jid("juliet")));
    assert!(world.create_account("juliet"));
    assert!(world.disable_account(&jid("romeo"), false));
    assert_eq!(subscription_of(&mut world, "romeo", "juliet"), "none");
}

#[test]
fn of_two_accounts_that_are_removed_at_once_neither_keeps_the_other() {
    let mut world = world();
    romeo_and_friend(&mut world);
    let locks = ["romeo", "juliet"].map(|name| world.load(&jid(name)).expect("it is there"));
    for lock in &locks {
        assert!(world.stored(|core, now, done| core.begin_removal(now, lock, done)));
    }
    assert!(world.stored(|core, now, done| assert!(core.leave(now, &locks[0], &jid("juliet"), done).is_none())));
    assert!(world.stored(|core, now, done| core.delete_user(now, &locks[0], done)));
    // The other removal stops here.
    world.core().stop_removal(&locks[1]);
    drop(locks);
    assert!(world.disable_account(&jid("juliet"), false));
    assert_eq!(subscription(&mut world), "none");
}

#[test]
fn what_is_taken_back_while_an_account_is_being_removed_is_taken_back_if_it_stays() {
    let takes_back = [
        "<presence type='unsubscribe' to='romeo@localhost'/><presence type='unsubscribed' to='romeo@localhost'/>",
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='romeo@localhost' subscription='remove'/></query></iq>",
    ];
    for xml in takes_back {
        let mut world = world();
        romeo_and_friend(&mut world);
        let juliet = online(&mut world, "juliet", "r");
        let lock = world.load(&jid("romeo")).expect("it is there");
        assert!(world.stored(|core, now, done| core.begin_removal(now, &lock, done)));
        heard(&mut world, juliet);
        say(&mut world, juliet, xml);
        let told = heard(&mut world, juliet).into_iter().filter(|heard| heard.get("from") == Some("romeo@localhost"));
        assert_eq!(told.count(), 0, "it does not answer");
        world.core().stop_removal(&lock);
        drop(lock);
        assert!(world.disable_account(&jid("romeo"), false));
        assert_eq!(subscription_of(&mut world, "romeo", "juliet"), "none");
        world.cut(juliet);
    }
}

#[test]
fn a_session_that_was_to_end_with_a_new_password_does_not_come_back_though_its_row_was_left() {
    let mut world = world();
    let id = world.client("romeo", "r");
    world.bind(id);
    world.enable(id);
    let lock = world.load(&jid("romeo")).expect("it is there");
    world.mood.refuses.store(true, Ordering::Relaxed);
    world.core().kick_all(world.now, &lock, "ended by the operator");
    world.settle();
    world.mood.refuses.store(false, Ordering::Relaxed);
    let secrets = Secrets::several(2);
    let credentials = secrets.credentials(1);
    assert!(world.stored(|core, now, done| core.set_credentials(now, &lock, credentials, Sessions::End, done)));
    drop(lock);
    world.crash();
    let lock = world.load(&jid("romeo")).expect("it is there");
    assert!(lock.lock().sessions.is_empty());
}

#[test]
fn nobody_is_told_that_a_session_is_resumed_which_has_ended() {
    let mut world = world();
    let id = world.client("romeo", "r");
    world.bind(id);
    world.enable(id);
    world.mood.waits.store(true, Ordering::Relaxed);
    say(&mut world, id, "<message to='juliet@localhost' type='chat' id='1'><body>hi</body></message>");
    world.cut(id);
    world.authenticate(id);
    let smacks = world.clients[id].smacks.clone().expect("stream management");
    let token = smacks.token.expect("the session can be resumed");
    // It waits until what came on the connection before is stored.
    say(&mut world, id, &format!("<resume xmlns='urn:xmpp:sm:3' previd='{token}' h='{}'/>", smacks.received));
    let lock = world.load(&jid("romeo")).expect("it is there");
    world.mood.waits.store(false, Ordering::Relaxed);
    while world.write_or_die() == Some(true) {}
    // It is stored, and the connection has not gone on yet.
    world.core().disable_user(world.now, &lock, true, Box::new(|stored| assert!(stored)));
    world.settle();
    let heard: Vec<_> = heard(&mut world, id).iter().map(|element| element.name().to_owned()).collect();
    assert_eq!(heard, ["error"]);
}

#[test]
fn a_request_on_its_way_to_a_new_account_is_withdrawn_with_its_sender() {
    let mut world = world();
    let romeo = online(&mut world, "romeo", "r");
    let friends = [jid("nurse"), jid("romeo")];
    world.mood.waits.store(true, Ordering::Relaxed);
    world.mute_loader(true);
    say(&mut world, romeo, "<presence type='subscribe' to='nurse@localhost'/>");
    // The name gets an owner before that is stored: who has to be read before the request arrives.
    let lock = world.load(&friends[1]).expect("it is there");
    let user = NewUser::new(friends[0].clone()).expect("a name that can log in");
    world.core().create_user(world.now, &user, Secrets::derive().credentials(0), Box::new(|stored| assert!(stored)));
    world.core().begin_removal(world.now, &lock, Box::new(|stored| assert!(stored)));
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert_eq!(world.core().spilled_waiting().0, 1, "it waits for the account to be read");
    assert!(world.finish_removal(&lock));
    drop(lock);
    world.mute_loader(false);
    world.settle();
    let nurse = online(&mut world, "nurse", "n");
    let asked = heard(&mut world, nurse).into_iter().filter(|heard| heard.get("type") == Some("subscribe")).count();
    assert_eq!(asked, 0, "whoever asked is no more");
}

#[test]
fn nothing_is_written_of_an_account_that_is_deleted() {
    let mut world = world();
    let [first, _] = romeo_and_friend(&mut world);
    let lock = world.load(&jid("romeo")).expect("it is there");
    let owner = lock.lock().owner;
    // How far its log has come is to be written within a second of the commit.
    world.clients[first].send("<message to='juliet@localhost' type='chat' id='1'><body>hi</body></message>");
    world.pump(first);
    assert!(world.core().report(&lock).waiting > 0);
    drop(lock);
    assert!(world.remove_account(&jid("romeo")));
    // The store tidies up before that.
    world.pass(Duration::from_millis(500));
    world.pass(Duration::from_secs(5));
    let rows = world.reader().load(owner, 100).expect("the store can be read");
    assert!(rows.is_empty(), "{rows:?}");
}

/// Logs in, as far as it gets: whether a resource is bound.
fn comes_in(world: &mut World, id: ClientId) -> bool {
    let answered = |world: &mut World, name: &str| {
        let heard = heard(world, id);
        heard.into_iter().find(|element| element.name() == name)
    };
    world.connect(id);
    world.clients[id].open_stream("localhost");
    world.settle();
    heard(world, id);
    let (mut sasl, auth) = world.sasl(id);
    say(world, id, &auth);
    let Some(challenge) = answered(world, "challenge") else { return false };
    let challenge = decode_payload(&challenge.content()).expect("base64").unwrap_or_default();
    let response = encode_payload(Some(&sasl.respond(&challenge).expect("a challenge")));
    say(world, id, &format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"));
    if answered(world, "success").is_none() {
        return false;
    }
    world.clients[id].open_stream("localhost");
    world.settle();
    heard(world, id);
    say(world, id, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    answered(world, "iq").is_some_and(|answer| answer.get("type") == Some("result"))
}

#[test]
fn nobody_is_let_in_before_it_is_stored_that_an_account_is_enabled() {
    let mut world = world();
    assert!(world.disable_account(&jid("romeo"), true));
    let lock = world.load(&jid("romeo")).expect("it is there");
    world.mood.waits.store(true, Ordering::Relaxed);
    world.core().disable_user(world.now, &lock, false, Box::new(|stored| assert!(!stored)));
    let id = world.client("romeo", "early");
    assert!(!comes_in(&mut world, id));
    world.mood.refuses.store(true, Ordering::Relaxed);
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert!(lock.lock().disabled && lock.lock().sessions.is_empty());
    world.mood.refuses.store(false, Ordering::Relaxed);
    assert!(world.disable_account(&jid("romeo"), false));
    assert!(comes_in(&mut world, id));
}

#[test]
fn an_account_that_is_disabled_while_it_is_being_enabled_is_disabled() {
    let mut world = world();
    assert!(world.disable_account(&jid("romeo"), true));
    let lock = world.load(&jid("romeo")).expect("it is there");
    world.mood.waits.store(true, Ordering::Relaxed);
    world.core().disable_user(world.now, &lock, false, Box::new(|stored| assert!(stored)));
    world.core().disable_user(world.now, &lock, true, Box::new(|stored| assert!(stored)));
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    let id = world.client("romeo", "early");
    assert!(lock.lock().disabled && !comes_in(&mut world, id));
}

#[test]
fn the_old_password_lets_nobody_stay_who_came_while_the_new_one_was_being_stored() {
    let mut world = world();
    let lock = world.load(&jid("romeo")).expect("it is there");
    let secrets = Secrets::several(2);
    world.mood.waits.store(true, Ordering::Relaxed);
    let told = Box::new(|stored: bool| assert!(stored));
    world.core().set_credentials(world.now, &lock, secrets.credentials(1), Sessions::End, told);
    let (early, proven) = (world.client("romeo", "early"), world.client("romeo", "proven"));
    // Until it is stored, the old one counts.
    assert!(comes_in(&mut world, early));
    world.authenticate(proven);
    world.mood.waits.store(false, Ordering::Relaxed);
    world.settle();
    assert!(lock.lock().sessions.is_empty(), "whoever came with the old one is out");
    assert!(!world.clients[early].is_connected());
    say(&mut world, proven, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    assert!(lock.lock().sessions.is_empty(), "and nobody binds who had proven it");
}

#[test]
fn the_old_password_leaves_no_session_that_a_crash_brings_back() {
    let mut world = world();
    let lock = world.load(&jid("romeo")).expect("it is there");
    let secrets = Secrets::several(2);
    world.mood.waits.store(true, Ordering::Relaxed);
    world.core().set_credentials(world.now, &lock, secrets.credentials(1), Sessions::End, Box::new(|_| ()));
    let early = world.client("romeo", "early");
    assert!(comes_in(&mut world, early));
    say(&mut world, early, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    drop(lock);
    // The server dies when the new one is stored, before it ends the session.
    let Medium::Memory(disk) = world.medium() else { unreachable!("the store is in memory") };
    disk.next(Fault::CrashAfter);
    world.mood.waits.store(false, Ordering::Relaxed);
    assert!(!world.settle_or_die());
    world.crash();
    let lock = world.load(&jid("romeo")).expect("it is there");
    assert!(lock.lock().sessions.is_empty(), "it began with the old one");
    assert!(!comes_in(&mut world, early), "the new one counts");
}

/// A reader in whose middle of an account something happens, once.
struct Late<'a> {
    reader: Box<dyn Reader>,
    then: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl Reader for Late<'_> {
    fn load(&mut self, owner: Owner, limit: usize) -> Result<Vec<KeyedRow>> {
        let found = self.reader.load(owner, limit);
        if let Some(then) = self.then.take() {
            then();
        }
        found
    }

    fn find(&mut self, kind: Kind, host: &str, name: &str) -> Result<Option<OwnerRow>> {
        self.reader.find(kind, host, name)
    }

    fn owner(&mut self, owner: Owner) -> Result<Option<OwnerRow>> {
        self.reader.owner(owner)
    }

    fn owners(&mut self, kind: Kind, host: &str, past: Option<&str>, limit: usize) -> Result<Vec<OwnerRow>> {
        self.reader.owners(kind, host, past, limit)
    }

    fn map_get(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Row>> {
        self.reader.map_get(map, owner, key)
    }

    fn map_range(&mut self, map: MapId, owner: Owner, query: MapQuery<'_>) -> Result<Vec<KeyedRow>> {
        self.reader.map_range(map, owner, query)
    }

    fn map_count(&mut self, map: MapId, owner: Owner, prefix: &[u8], cap: usize) -> Result<usize> {
        self.reader.map_count(map, owner, prefix, cap)
    }

    fn map_reverse(
        &mut self,
        map: MapId,
        reverse: &[u8],
        past: Option<(Owner, &[u8])>,
        limit: usize,
    ) -> Result<Vec<KeyedRow>> {
        self.reader.map_reverse(map, reverse, past, limit)
    }

    fn log_range(&mut self, owner: Owner, query: LogQuery<'_>) -> Result<Vec<Entry>> {
        self.reader.log_range(owner, query)
    }

    fn log_count(&mut self, owner: Owner, query: LogQuery<'_>) -> Result<usize> {
        self.reader.log_count(owner, query)
    }

    fn log_sizes(&mut self, owner: Owner, query: LogQuery<'_>) -> Result<Vec<EntrySize>> {
        self.reader.log_sizes(owner, query)
    }

    fn log_archived(&mut self, owner: Owner) -> Result<u64> {
        self.reader.log_archived(owner)
    }

    fn log_get(&mut self, owner: Owner, id: EntryId) -> Result<Option<Entry>> {
        self.reader.log_get(owner, id)
    }

    fn blob(&mut self, map: MapId, owner: Owner, key: &[u8]) -> Result<Option<Bytes>> {
        self.reader.blob(map, owner, key)
    }

    fn blobs(&mut self, map: MapId, owner: Owner, past: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, u64)>> {
        self.reader.blobs(map, owner, past, limit)
    }

    fn maps(&mut self) -> Result<Vec<(MapId, Box<str>)>> {
        self.reader.maps()
    }
}

/// Loads Romeo, and something happens while he is read.
fn load_meanwhile(world: &Mutex<World>, then: impl FnOnce(&mut World) + Send) -> Option<AccountRef> {
    let (core, reader) = {
        let world = world.lock().expect("nobody panicked");
        (world.core().clone(), world.reader())
    };
    let mut late = Late { reader, then: Some(Box::new(|| then(&mut world.lock().expect("nobody panicked")))) };
    core.load(&mut late, &jid("romeo")).expect("the store can be read")
}

#[test]
fn what_was_read_of_an_account_before_it_was_deleted_does_not_bring_it_back() {
    let world = Mutex::new(world());
    let found = load_meanwhile(&world, |world| assert!(world.remove_account(&jid("romeo"))));
    assert!(found.is_none());
    let mut world = world.into_inner().expect("nobody panicked");
    assert!(!logs_in(&mut world, "romeo"));
    assert!(world.create_account("romeo"));
    assert!(logs_in(&mut world, "romeo"));
}

#[test]
fn what_was_read_of_an_account_before_it_changed_is_read_again() {
    let world = Mutex::new(world());
    world.lock().expect("nobody panicked").core().set_bounds(Bounds { idle_accounts: 0, ..Bounds::default() });
    let found = load_meanwhile(&world, |world| {
        assert!(world.disable_account(&jid("romeo"), true));
        // It is let go of again before the other reader is done.
        world.pass(Duration::from_secs(20));
        assert!(world.core().loaded("romeo@localhost").is_none());
    });
    assert!(found.is_some_and(|found| found.lock().disabled));
}

#[test]
fn accounts_that_nobody_uses_are_let_go_of_the_oldest_first() {
    let mut world = world();
    world.core().set_bounds(Bounds { idle_accounts: 10, ..Bounds::default() });
    for n in 0..10 {
        assert!(world.create_account(&format!("busy{n}")));
        online(&mut world, &format!("busy{n}"), "r");
    }
    for n in 0..12 {
        assert!(world.create_account(&format!("idle{n}")));
        world.load(&jid(&format!("idle{n}")));
        world.pass(Duration::from_secs(1));
    }
    let idle = |world: &World| -> Vec<usize> {
        (0..12).filter(|n| world.core().loaded(&format!("idle{n}@localhost")).is_some()).collect()
    };
    world.pass(Duration::from_secs(20));
    assert_eq!(idle(&world), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "those that are in use do not count");
    let tybalt = online(&mut world, "tybalt", "square");
    // One that is used again stays.
    say(&mut world, tybalt, "<message to='idle3@localhost' type='chat'><body>hi</body></message>");
    for n in [0, 1] {
        world.load(&jid(&format!("idle{n}")));
    }
    world.pass(Duration::from_secs(20));
    assert_eq!(idle(&world), [0, 1, 3, 6, 7, 8, 9, 10, 11]);
}

/// With a part of its rows it would be another account: without a block list, perhaps.
#[test]
fn an_account_with_more_rows_than_are_loaded_is_not_there_with_some_of_them() {
    let mut world = world();
    let romeo = online(&mut world, "romeo", "r");
    say(
        &mut world,
        romeo,
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block></iq>",
    );
    let mut reader = world.reader();
    let owner = reader.find(Kind::Account, "localhost", "romeo").expect("a reader").expect("an account").owner;
    // What comes first is what is loaded first.
    let map = reader.load(owner, 1).expect("a reader")[0].map;
    drop(reader);
    let fill = |count: usize| {
        move |_: &mut dyn vorpal_core::store::Ids| {
            let row = |n: usize| Write::Put {
                map,
                owner,
                key: format!("\u{0}{n:07}").into_bytes().into(),
                row: Some(Row::from(Bytes::from_static(b"{}"))),
            };
            (0..count).map(row).collect()
        }
    };
    world.write(fill(MAX_ROWS));
    world.settle();
    world.crash();
    let core = world.core().clone();
    let found = core.load(world.reader().as_mut(), &jid("romeo"));
    let error = found.err().expect("it is refused").to_string();
    assert!(error.contains("loading an account"), "{error}");
    assert!(!logs_in(&mut world, "romeo"), "nobody logs in to a part of it");
    let juliet = online(&mut world, "juliet", "r");
    heard(&mut world, juliet);
    say(&mut world, juliet, "<message to='romeo@localhost' type='chat' id='m'><body>hi</body></message>");
    let answers = heard(&mut world, juliet);
    let types: Vec<_> = answers.iter().map(|answer| answer.get("type")).collect();
    assert_eq!(types, [Some("error")], "{answers:?}");
}

/// The two sides of a subscription may differ: a backup of before, or a removal by a server of before.
#[test]
fn presence_goes_to_nobody_who_has_no_entry_for_it() {
    let mut world = world();
    romeo_and_friend(&mut world);
    let mut reader = world.reader();
    let owner = reader.find(Kind::Account, "localhost", "romeo").expect("a reader").expect("an account").owner;
    let rows = reader.load(owner, 1_000).expect("a reader");
    let entry = rows.into_iter().find(|row| row.key == "juliet@localhost").expect("an entry");
    drop(reader);
    world.write(|_| vec![Write::Put { map: entry.map, owner, key: entry.key.clone(), row: None }]);
    world.settle();
    world.crash();
    let romeo = online(&mut world, "romeo", "new");
    let juliet = online(&mut world, "juliet", "balcony");
    heard(&mut world, romeo);
    assert_eq!(subscription(&mut world), "both", "her side of it");
    for presence in ["<presence><show>away</show></presence>", "<presence type='unavailable'/>"] {
        say(&mut world, juliet, presence);
        let heard = heard(&mut world, romeo);
        assert!(heard.is_empty(), "{heard:?}");
    }
}

#[test]
fn a_session_that_waits_is_over_when_its_account_was_disabled_or_had_another_owner() {
    for removed in [false, true] {
        let mut world = world();
        let id = world.client("romeo", "orchard");
        world.bind(id);
        world.enable(id);
        say(&mut world, id, "<presence/>");
        world.cut(id);
        assert!(if removed { world.remove_account(&jid("romeo")) } else { world.disable_account(&jid("romeo"), true) });
        assert!(if removed { world.create_account("romeo") } else { world.disable_account(&jid("romeo"), false) });
        assert!(world.resume(id).is_err(), "removed: {removed}");
        assert_eq!(world.core().loaded("romeo@localhost").expect("it is there").lock().sessions.len(), 0);
    }
}
