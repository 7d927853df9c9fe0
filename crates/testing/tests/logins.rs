//! What a stream offers to log in with, and what the server makes of a password when it sees one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use vorpal_net::c2s::{Connection, Settings};
use vorpal_proto::jid::BareJid;
use vorpal_proto::parse::Limits;
use vorpal_proto::sasl::{ChannelBindings, Credentials, Hash, Iterations, Mechanism, SALT_BYTES, encode_payload};
use vorpal_testing::disk::Store;
use vorpal_testing::link::Bell;
use vorpal_testing::world::{HOST, PASSWORD, World};

fn world() -> World {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
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
    let open = format!(
        "<stream:stream to='{HOST}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    let mut input = BytesMut::from(format!("{open}{said}").as_bytes());
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

#[test]
fn keys_of_other_hashes_are_made_when_the_right_password_is_seen() {
    let mut world = world();
    let jid = BareJid::new("romeo", HOST).expect("an address");
    assert!(!log_in(&mut world, "wrong"));
    let lock = world.core().loaded(jid.as_str()).expect("it was looked at");
    assert_eq!(world.core().missing_hashes(&lock), [Hash::Sha512], "as the world creates accounts");
    let before = world.core().credentials(Some(&lock), jid.as_str(), Some(Hash::Sha1)).to_text();

    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(world.core().missing_hashes(&lock), []);
    let of = |world: &World, hash| world.core().credentials(Some(&lock), jid.as_str(), Some(hash));
    assert!(of(&world, Hash::Sha512).matches(PASSWORD));
    assert_eq!(of(&world, Hash::Sha1).to_text(), before, "what is there stays");
    let made = of(&world, Hash::Sha512).to_text();
    assert!(log_in(&mut world, PASSWORD));
    assert_eq!(of(&world, Hash::Sha512).to_text(), made, "once");

    // They are stored, and keys of an old password never replace those of a new one.
    let derive = |hash, password| Credentials::derive(hash, password, &[1; SALT_BYTES], Iterations::MIN).expect("keys");
    world.core().add_credentials(world.now, &lock, &[derive(Hash::Sha512, "old")]);
    drop(lock);
    world.restart();
    let core = world.core().clone();
    assert!(log_in(&mut world, PASSWORD));
    let lock = core.loaded(jid.as_str()).expect("it was looked at");
    assert_eq!(core.credentials(Some(&lock), jid.as_str(), Some(Hash::Sha512)).to_text(), made);
}
