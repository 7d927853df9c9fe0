//! What a stream offers to log in with, and what the server makes of a password when it sees one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use vorpal_core::life::users::{NewUser, Sessions};
use vorpal_core::module::host::KeyPolicy;
use vorpal_core::module::{Module, Result, Setup, Stage};
use vorpal_core::owner::account::AccountRef;
use vorpal_net::c2s::{Connection, Need, Settings};
use vorpal_proto::element::el;
use vorpal_proto::jid::BareJid;
use vorpal_proto::ns::{self, Ns};
use vorpal_proto::parse::Limits;
use vorpal_proto::sasl::client::{Client, Secret};
use vorpal_proto::sasl::{
    ChannelBindings, Credentials, Hash, Iterations, Mechanism, Nonce, Renewal, SALT_BYTES, Shown, decode_payload,
    encode_payload,
};
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::link::Bell;
use vorpal_testing::world::{HOST, PASSWORD, World};

const OPEN: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// PLAIN is offered: it shows the server the password.
fn world() -> World {
    let plain = "login.plain_without_tls = true";
    let mut world = World::configured(1, Store::Memory, true, vorpal_modules::ALL, plain);
    assert!(world.create_account("romeo"));
    world
}

fn settings(mechanisms: &[&str]) -> Settings {
    let known = |name: &&str| Mechanism::from_name(name).expect("a mechanism");
    let mechanisms: Vec<Mechanism> = mechanisms.iter().map(known).collect();
    let of_host = (!mechanisms.is_empty()).then(|| (HOST.to_owned(), mechanisms));
    Settings {
        max_attempts: 5,
        max_before_login: 16 * 1024,
        max_stanza: 256 * 1024,
        without_tls: true,
        plain_without_tls: false,
        mechanisms: HashMap::from_iter(of_host),
        passthrough: true,
        limits: Limits::default(),
    }
}

/// What the server says to this, on a stream of its own.
fn answer(world: &World, settings: Settings, tls: Option<ChannelBindings>, said: &str) -> String {
    let mut connection = Connection::new(world.core().clone(), Arc::new(settings), tls, Arc::new(Bell::default()));
    let mut input = BytesMut::from(format!("{OPEN}{said}").as_bytes());
    connection.input(world.now, &mut input);
    let mut out = Vec::new();
    connection.output(&mut out, usize::MAX);
    String::from_utf8(out).expect("UTF-8")
}

fn offered(text: &str) -> Vec<&str> {
    text.split("<mechanism>").skip(1).filter_map(|rest| rest.split('<').next()).collect()
}

fn tls() -> Option<ChannelBindings> {
    Some(ChannelBindings { exporter: Some([7; 32]), server_end_point: None })
}

#[test]
fn a_host_offers_what_it_is_told_to() {
    let world = world();
    let all = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    for (configured, with_tls, without) in [
        (&[][..], [&["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"][..], &all].concat(), &all[..3]),
        (&["SCRAM-SHA-1", "PLAIN"], vec!["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"], &["SCRAM-SHA-1"]),
        (&["SCRAM-SHA-512"], vec!["SCRAM-SHA-512-PLUS", "SCRAM-SHA-512"], &["SCRAM-SHA-512"]),
    ] {
        let secure = answer(&world, settings(configured), tls(), "");
        assert_eq!(offered(&secure), with_tls);
        assert!(secure.contains("<channel-binding type='tls-exporter'/>"), "{secure}");
        assert_eq!(offered(&answer(&world, settings(configured), None, "")), without);
    }
    let plain_alone = answer(&world, settings(&["PLAIN"]), tls(), "");
    assert_eq!(offered(&plain_alone), ["PLAIN"]);
    assert!(!plain_alone.contains("channel-binding"), "nothing that is offered is bound: {plain_alone}");
}

#[test]
fn what_is_not_offered_is_refused() {
    let world = world();
    let auth =
        |mechanism| format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>biws</auth>");
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "EXTERNAL"] {
        let said = answer(&world, settings(&["SCRAM-SHA-1", "PLAIN"]), tls(), &auth(mechanism));
        assert!(said.ends_with("<invalid-mechanism/></failure>"), "{said}");
    }
}

#[test]
fn where_a_proxy_has_ended_tls_there_is_neither_tls_nor_a_channel_nor_plain_unless_allowed() {
    let world = world();
    let said = answer(&world, settings(&[]), None, "");
    assert!(!said.contains("starttls") && !said.contains("-PLUS") && !said.contains("channel-binding"), "{said}");
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHg=</auth>";
    assert!(answer(&world, settings(&[]), None, auth).ends_with("<invalid-mechanism/></failure>"));
    let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    assert!(!answer(&world, settings(&[]), None, starttls).contains("proceed"));
    let allowed = Settings { plain_without_tls: true, ..settings(&[]) };
    assert_eq!(offered(&answer(&world, allowed, None, "")).last(), Some(&"PLAIN"));
    // And nothing of this where TLS has to be turned on first.
    let starttls = Settings { without_tls: false, plain_without_tls: true, ..settings(&[]) };
    let said = answer(&world, starttls, None, auth);
    assert!(said.contains("<required/>") && offered(&said).is_empty(), "{said}");
    assert!(said.ends_with("<encryption-required/></failure>"), "{said}");
}

/// Logs in with PLAIN; whether it worked.
fn log_in(world: &mut World, password: &str) -> bool {
    let id = world.client("romeo", "orchard");
    world.open(id);
    let payload = encode_payload(Some(format!("\0romeo\0{password}").as_bytes()));
    world.clients[id]
        .send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{payload}</auth>"));
    world.settle();
    let heard = format!("{:?}", world.clients[id].inbox);
    assert!(heard.contains("success") != heard.contains("failure"), "{heard}");
    heard.contains("success")
}

fn romeo(world: &World) -> AccountRef {
    world.core().loaded(&format!("romeo@{HOST}")).expect("it was looked at")
}

fn keep(world: &World, hashes: &[Hash], iterations: u32) {
    let iterations = Iterations::new(iterations).expect("a number of iterations");
    let host = world.core().host(HOST).expect("the host");
    host.set_key_policy(KeyPolicy { hashes: hashes.to_vec(), iterations });
}

/// What is stored of Romeo's password for a hash.
fn stored(world: &World, hash: Hash) -> Option<Credentials> {
    let lock = romeo(world);
    let host = world.core().host(HOST).expect("the host");
    let credentials = world.core().credentials(&host, Some(&lock), lock.jid.as_str(), Some(hash));
    credentials.matches(PASSWORD).then_some(credentials)
}

fn texts(world: &World) -> Vec<Option<String>> {
    Hash::ALL.into_iter().map(|hash| stored(world, hash).map(|credentials| credentials.to_text())).collect()
}

#[test]
fn keys_of_other_hashes_are_made_when_the_right_password_is_seen() {
    let mut world = world();
    assert!(!log_in(&mut world, "wrong"));
    assert_eq!(world.core().keys_to_make(&romeo(&world)).0, [Hash::Sha512], "as the world creates accounts");
    let before = stored(&world, Hash::Sha1).expect("it is there").to_text();

    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(world.core().keys_to_make(&romeo(&world)).0, []);
    let made = texts(&world);
    assert!(made.iter().all(Option::is_some), "{made:?}");
    assert_eq!(made[2], Some(before), "what is good stays");
    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(texts(&world), made, "once");
    world.restart();
    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(texts(&world), made, "they are stored");
}

#[test]
fn keys_that_the_host_does_not_want_go_when_the_wanted_ones_are_there() {
    let mut world = world();
    keep(&world, &[Hash::Sha512], 4_096);
    assert!(!log_in(&mut world, "wrong"));
    assert!(stored(&world, Hash::Sha1).is_some() && stored(&world, Hash::Sha512).is_none(), "it is not seen yet");
    assert!(log_in(&mut world, PASSWORD));
    let left = texts(&world);
    assert!(matches!(left.as_slice(), [Some(_), None, None]), "{left:?}");
    world.restart();
    keep(&world, &[Hash::Sha512], 4_096);
    assert!(log_in(&mut world, PASSWORD), "SHA-512 is enough for PLAIN");
    assert_eq!(texts(&world), left);
}

#[test]
fn keys_of_fewer_iterations_are_made_anew_and_those_of_more_stay() {
    let mut world = world();
    keep(&world, &[Hash::Sha256], 6_000);
    assert!(log_in(&mut world, PASSWORD));
    let rounds = |world: &World| stored(world, Hash::Sha256).map(|credentials| credentials.iterations().count());
    assert_eq!(rounds(&world), Some(6_000));
    keep(&world, &[Hash::Sha256], 5_000);
    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(rounds(&world), Some(6_000));
}

#[test]
fn what_was_made_of_an_old_password_changes_nothing() {
    let mut world = world();
    assert!(log_in(&mut world, PASSWORD));
    let checked = stored(&world, Hash::Sha256).expect("it is there");
    let derive = |hash, password| Credentials::derive(hash, password, &[1; SALT_BYTES], Iterations::MIN).expect("keys");
    let lock = romeo(&world);
    let done = Box::new(|stored: bool| assert!(stored));
    world.core().set_credentials(world.now, &lock, &[derive(Hash::Sha256, "new")], Sessions::Keep, done);
    let late = Renewal { checked, made: vec![derive(Hash::Sha512, PASSWORD), derive(Hash::Sha256, PASSWORD)] };
    world.core().renew_credentials(world.now, &lock, &late);
    world.settle();
    assert_eq!(texts(&world), [None, None, None], "neither that, nor keys of the old password for other hashes");
    assert!(!log_in(&mut world, PASSWORD));
    assert!(log_in(&mut world, "new"));
}

/// The first message of the server to somebody who logs in with SCRAM.
fn challenge(world: &World, settings: Settings, tls: Option<ChannelBindings>, mechanism: &str, name: &str) -> String {
    let payload = encode_payload(Some(format!("n,,n={name},r=abcdefgh").as_bytes()));
    let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{payload}</auth>");
    let mut connection = Connection::new(world.core().clone(), Arc::new(settings), tls, Arc::new(Bell::default()));
    let mut input = BytesMut::from(format!("{OPEN}{auth}").as_bytes());
    assert!(matches!(connection.input(world.now, &mut input), Need::Admit(_)));
    if matches!(connection.admitted(true), Some(Need::Load(_))) {
        connection.loaded(world.now, Ok(()));
    }
    let mut out = Vec::new();
    connection.output(&mut out, usize::MAX);
    let said = String::from_utf8(out).expect("UTF-8");
    let challenge = said.split("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>").nth(1).expect("a challenge");
    let challenge = decode_payload(challenge.split('<').next().unwrap_or_default()).expect("base64").expect("data");
    String::from_utf8(challenge.to_vec()).expect("UTF-8")
}

#[test]
fn a_name_without_an_account_is_asked_for_as_many_iterations_as_a_new_one() {
    let world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    keep(&world, &[Hash::Sha512], 7_000);
    let said = challenge(&world, settings(&[]), tls(), "SCRAM-SHA-512", "nobody");
    assert!(said.contains(",i=7000"), "{said}");
}

#[test]
fn a_challenge_signs_what_was_offered() {
    let world = world();
    let both = ChannelBindings { exporter: Some([7; 32]), server_end_point: Some(vec![8; 32]) };
    // XEP-0474 §6.3: SCRAM-SHA-1 and its -PLUS, tls-exporter and tls-server-end-point.
    let said = challenge(&world, settings(&["SCRAM-SHA-1"]), Some(both), "SCRAM-SHA-1", "romeo");
    assert!(said.ends_with(",h=G6k/rBLDqgOhRRaCuuatSDFkJ08="), "{said}");
    // SCRAM-SHA-1 alone, and no types were announced.
    let said = challenge(&world, settings(&["SCRAM-SHA-1"]), None, "SCRAM-SHA-1", "romeo");
    assert!(said.ends_with(",h=LrtFoCs8XsoI+diY4u3rG69UGN8="), "{said}");
}

/// Romeo's keys for SHA-1 as they are, with which his clients log in, and those of another password for SHA-256.
fn another_password(world: &World) -> [Credentials; 2] {
    let other = Credentials::derive(Hash::Sha256, "new", &[1; SALT_BYTES], Iterations::MIN).expect("keys");
    [stored(world, Hash::Sha1).expect("it is there"), other]
}

#[test]
fn a_new_password_may_end_the_sessions_and_their_tokens_wherever_the_server_crashes() {
    let mut changed = 0;
    for commits in 0..8 {
        let mut world = world();
        let ids = ["orchard", "balcony"].map(|resource| world.client("romeo", resource));
        for id in ids {
            world.bind(id);
            world.enable(id);
        }
        world.cut(ids[1]);
        let (lock, credentials) = (romeo(&world), another_password(&world));
        world.core().set_credentials(world.now, &lock, &credentials, Sessions::End, Box::new(|_| ()));
        drop(lock);
        for _ in 0..commits {
            world.write_or_die();
        }
        world.crash();
        let resumed = ids.map(|id| world.resume(id).is_ok());
        let host = world.core().host(HOST).expect("the host");
        let lock = romeo(&world);
        let now = world.core().credentials(&host, Some(&lock), lock.jid.as_str(), Some(Hash::Sha256));
        if now.matches("new") {
            changed += 1;
            assert_eq!(resumed, [false, false], "after {commits} commits");
        }
    }
    assert!((1..8).contains(&changed), "it crashed before and after the change: {changed}");
}

#[test]
fn sessions_end_with_a_new_password_only_if_they_are_told_to() {
    let mut world = world();
    let id = world.client("romeo", "orchard");
    world.bind(id);
    world.enable(id);
    let (lock, credentials) = (romeo(&world), another_password(&world));
    world.core().set_credentials(world.now, &lock, &credentials, Sessions::Keep, Box::new(|stored| assert!(stored)));
    world.settle();
    assert_eq!((lock.lock().sessions.len(), world.clients[id].is_connected()), (1, true));
    world.cut(id);
    assert!(world.resume(id).is_ok());
    world.core().set_credentials(world.now, &lock, &credentials, Sessions::End, Box::new(|stored| assert!(stored)));
    world.settle();
    assert_eq!((lock.lock().sessions.len(), world.clients[id].is_connected()), (0, false));
    let failed = world.resume(id).expect_err("the token counts no more");
    assert!(failed.get("h").is_none(), "nothing is known of it: {failed:?}");
}

/// What the world does while a login is under way.
fn revoke(world: &mut World, how: &str) {
    let lock = romeo(world);
    let done = Box::new(|stored: bool| assert!(stored));
    let core = world.core();
    match how {
        "passwd" => core.set_credentials(world.now, &lock, &another_password(world), Sessions::End, done),
        "disable" => core.disable_user(world.now, &lock, true, done),
        _ => core.delete_user(world.now, &lock, done),
    }
    world.settle();
}

#[test]
fn a_login_that_is_proven_comes_to_no_session_when_it_is_revoked() {
    for how in ["passwd", "disable", "rm"] {
        let mut world = world();
        let id = world.client("romeo", "orchard");
        world.authenticate(id);
        revoke(&mut world, how);
        let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>orchard</resource></bind>";
        world.clients[id].send(&format!("<iq type='set' id='bind'>{bind}</iq>"));
        world.settle();
        let heard = format!("{:?}", world.clients[id].inbox);
        assert!(heard.contains("not-authorized") && !heard.contains("result"), "{how}: {heard}");
    }
}

#[test]
fn a_login_that_is_not_proven_yet_fails_when_it_is_revoked() {
    for how in ["passwd", "disable", "rm"] {
        let mut world = world();
        let id = world.client("romeo", "orchard");
        world.open(id);
        let (mut sasl, auth) = world.sasl(id);
        world.clients[id].send(&auth);
        world.settle();
        let Some(Heard::Element(challenge)) = world.clients[id].inbox.pop_back() else { panic!("no challenge") };
        let challenge = decode_payload(&challenge.content()).expect("base64").expect("data");
        revoke(&mut world, how);
        let response = encode_payload(Some(&sasl.respond(&challenge).expect("a challenge")));
        world.clients[id].send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"));
        world.settle();
        let heard = format!("{:?}", world.clients[id].inbox);
        assert!(!heard.contains("success"), "{how}: {heard}");
        assert!(heard.contains("failure"), "{how}: {heard}");
    }
}

/// What challenges for this name show, by hash.
fn shown(world: &World, name: &str) -> Vec<Shown> {
    let jid = BareJid::new(name, HOST).expect("an address");
    let mut reader = world.reader();
    world.core().load(reader.as_mut(), &jid).expect("the store can be read");
    let (host, lock) = (world.core().host(HOST).expect("the host"), world.core().loaded(jid.as_str()));
    let shown = |hash| world.core().credentials(&host, lock.as_ref(), jid.as_str(), Some(hash)).shown();
    Hash::ALL.into_iter().map(shown).collect()
}

/// How many names show what.
fn population(world: &World, prefix: &str, names: u32) -> BTreeMap<Vec<Shown>, u32> {
    let mut counts = BTreeMap::new();
    (0..names).for_each(|n| *counts.entry(shown(world, &format!("{prefix}{n}"))).or_default() += 1);
    counts
}

#[test]
fn names_without_an_account_look_like_the_accounts_of_the_host() {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    keep(&world, &Hash::ALL, 7_000);
    let derive = |hash, salt: &[u8], count| {
        Credentials::derive(hash, PASSWORD, salt, Iterations::new(count).expect("a count")).expect("keys")
    };
    let new: Vec<_> = Hash::ALL.into_iter().map(|hash| derive(hash, &[1; SALT_BYTES], 7_000)).collect();
    let prosody = [derive(Hash::Sha1, b"2f6e0b7c-93d1-4c52-8a0e-5d1f7b9e3c44", 10_000)];
    let ejabberd = [derive(Hash::Sha1, &[2; 12], 4_096), derive(Hash::Sha256, &[3; 12], 4_096)];
    for n in 0..40 {
        let credentials = [&prosody[..], &ejabberd, &new, &new][n % 4];
        let user = NewUser::new(BareJid::new(&format!("user{n}"), HOST).expect("an address")).expect("a name");
        world.core().create_user(world.now, &user, credentials, Box::new(|stored| assert!(stored)));
    }
    world.settle();
    let there = population(&world, "user", 40);
    assert_eq!(there.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([10, 20]), "three kinds: {there:?}");
    let absent = population(&world, "nobody", 400);
    assert!(absent.keys().eq(there.keys()), "{absent:?}");
    for (kind, count) in &absent {
        // Four standard deviations of 400 draws are at most 40.
        assert!(count.abs_diff(there[kind] * 10) < 40, "{count} of {kind:?}");
    }

    // The same after a crash, whether the counts had been stored or not, and after a restart.
    for pass in [0, 1, 2] {
        world.pass(Duration::from_secs(pass));
        world.crash();
        keep(&world, &Hash::ALL, 7_000);
        assert_eq!(population(&world, "nobody", 400), absent);
    }

    // Accounts that go, and passwords that change, are counted as well.
    for n in 0..40 {
        let jid = BareJid::new(&format!("user{n}"), HOST).expect("an address");
        world.core().load(world.reader().as_mut(), &jid).expect("the store can be read");
        let lock = world.core().loaded(jid.as_str()).expect("it is there");
        let done = Box::new(|stored: bool| assert!(stored));
        match n % 4 {
            0 => world.core().delete_user(world.now, &lock, done),
            _ => world.core().set_credentials(world.now, &lock, &new, Sessions::Keep, done),
        }
    }
    world.settle();
    assert_eq!(population(&world, "nobody", 100).len(), 1);
    assert!(population(&world, "nobody", 100).keys().eq(population(&world, "user", 40).keys()));
}

#[test]
fn a_disabled_account_looks_as_it_did_and_lets_nobody_in() {
    let mut world = world();
    let before = shown(&world, "romeo");
    let text = texts(&world);
    world.core().disable_user(world.now, &romeo(&world), true, Box::new(|stored| assert!(stored)));
    world.settle();
    assert_eq!(shown(&world, "romeo"), before);
    assert!(text.iter().any(Option::is_some) && texts(&world).iter().all(Option::is_none));
    assert!(!log_in(&mut world, PASSWORD));
}

/// Logs in with each mechanism; the condition of the failure, or `success`.
fn outcomes(world: &mut World, user: &str, password: &str) -> Vec<String> {
    let mut outcomes = Vec::new();
    for mechanism in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let known = Mechanism::from_name(mechanism).expect("a mechanism");
        let id = world.client(user, "orchard");
        world.open(id);
        world.clients[id].inbox.clear();
        let mut client = Client::new(known, user, Secret::Password(password.to_owned()), Nonce::from_random([3; 24]));
        let first = encode_payload(Some(&client.first().expect("a message")));
        world.clients[id]
            .send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>"));
        world.settle();
        let mut heard = world.clients[id].inbox.pop_front();
        if let Some(Heard::Element(challenge)) =
            heard.take_if(|heard| matches!(heard, Heard::Element(e) if e.name() == "challenge"))
        {
            let data = decode_payload(&challenge.content()).expect("base64").expect("a challenge");
            let last = encode_payload(Some(&client.respond(&data).expect("an answer")));
            world.clients[id].send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{last}</response>"));
            world.settle();
            heard = world.clients[id].inbox.pop_front();
        }
        let Some(Heard::Element(end)) = heard else { panic!("{mechanism}: {heard:?}") };
        let condition = end.elements().next().map(|condition| condition.name().to_owned());
        outcomes.push(condition.unwrap_or(end.name().to_owned()));
    }
    outcomes
}

#[test]
fn only_who_knows_the_password_is_told_that_the_account_is_disabled() {
    let mut world = world();
    assert_eq!(outcomes(&mut world, "romeo", PASSWORD), ["success"; 4]);
    world.core().disable_user(world.now, &romeo(&world), true, Box::new(|stored| assert!(stored)));
    world.settle();
    assert_eq!(outcomes(&mut world, "romeo", PASSWORD), ["account-disabled"; 4]);
    assert_eq!(outcomes(&mut world, "romeo", "wrong"), ["not-authorized"; 4]);
    assert_eq!(outcomes(&mut world, "nobody", PASSWORD), ["not-authorized"; 4]);
    world.core().disable_user(world.now, &romeo(&world), false, Box::new(|stored| assert!(stored)));
    world.settle();
    assert_eq!(outcomes(&mut world, "romeo", PASSWORD), ["success"; 4]);
}

/// slixmpp 1.8 says so with every mechanism (RFC 5802 §6).
#[test]
fn a_client_that_claims_to_have_seen_no_plus_may_go_on() {
    let world = world();
    let first = encode_payload(Some(b"y,,n=romeo,r=nonce"));
    let auth = |mechanism: &str, first: &str| {
        format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>")
    };
    let refused = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";
    let said = answer(&world, settings(&[]), tls(), &auth("SCRAM-SHA-256", &first).repeat(20));
    assert!(said.ends_with(&refused.repeat(20)), "{said}");
    // Other failures count as before.
    let said = answer(&world, settings(&[]), tls(), &auth("SCRAM-SHA-256", "eA==").repeat(6));
    assert_eq!(said.matches("<malformed-request/>").count(), 5);
    assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
    // And so many bytes of it are too many.
    let said = answer(&world, settings(&[]), tls(), &auth("SCRAM-SHA-256", &first).repeat(200));
    assert!(said.contains("<policy-violation"), "{said}");
}

static OFFERS: Module = Module { name: "offers", xeps: &[], setup: offers };

fn offers(m: &mut Setup<'_>) -> Result {
    m.stream_feature(Stage::Opened, || el("opened", OFFERED));
    m.stream_feature(Stage::Authenticated, || el("authenticated", OFFERED));
    m.on_nonza(OFFERED, "nonza", |cx, _| cx.say(&el("taken", OFFERED)));
    Ok(())
}

const OFFERED: Ns = ns::PING;

#[test]
fn modules_offer_their_features_at_their_stage_and_take_elements_in_a_session_alone() {
    let mut world = World::new(1, Store::Memory, true, &[&OFFERS]);
    assert!(world.create_account("romeo"));
    let unprotected = Settings { without_tls: false, ..settings(&[]) };
    let said = answer(&world, unprotected, None, "");
    assert!(said.contains("<starttls") && !said.contains(OFFERED.as_str()), "{said}");

    let allowed = Arc::new(Settings { plain_without_tls: true, ..settings(&[]) });
    let log_in = || {
        let mut connection = Connection::new(world.core().clone(), allowed.clone(), None, Arc::new(Bell::default()));
        let payload = encode_payload(Some(format!("\0romeo\0{PASSWORD}").as_bytes()));
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{payload}</auth>");
        let said = say(&mut connection, &world, &format!("{OPEN}{auth}"));
        assert!(said.contains("<opened") && !said.contains("<authenticated"), "{said}");
        let mut need = connection.admitted(true);
        if let Some(Need::Load(jid)) = need {
            world.core().load(world.reader().as_mut(), &jid).expect("the store can be read");
            need = connection.loaded(world.now, Ok(()));
        }
        let Some(Need::Derive(check)) = need else { panic!("no password is checked") };
        assert!(connection.derived(world.now, check.run()).is_none());
        let said = say(&mut connection, &world, OPEN);
        assert!(said.contains("<success") && said.contains("<bind"), "{said}");
        assert!(said.contains("<authenticated") && !said.contains("<opened"), "{said}");
        connection
    };
    let nonza = format!("<nonza xmlns='{}'/>", OFFERED.as_str());
    let mut early = log_in();
    let said = say(&mut early, &world, &nonza);
    assert!(said.contains("<unsupported-stanza-type") && !said.contains("<taken"), "{said}");

    let mut connection = log_in();
    let said = say(&mut connection, &world, "<resume xmlns='urn:xmpp:sm:3' previd='none' h='0'/>");
    assert!(said.contains("<failed xmlns='urn:xmpp:sm:3'><item-not-found"), "{said}");
    say(&mut connection, &world, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    assert!(connection.may_bind(world.now, true).is_none() && connection.is_bound());
    let said = say(&mut connection, &world, &nonza);
    assert!(said.contains("<taken"), "{said}");
}

/// What the server says to this.
fn say(connection: &mut Connection, world: &World, text: &str) -> String {
    connection.input(world.now, &mut BytesMut::from(text));
    let mut out = Vec::new();
    connection.output(&mut out, usize::MAX);
    String::from_utf8(out).expect("UTF-8")
}
