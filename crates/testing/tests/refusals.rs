//! Rows that are not loaded with their account, and batches that are refused because a condition on them does not hold: what a
//! module may count on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use vorpal_core::module::hook::IqCx;
use vorpal_core::module::{At, Module, Result, Setup, SetupError};
use vorpal_core::owner::cold::{Blobs, ColdMap, Counted, Expected, Extra, Json, Page};
use vorpal_core::owner::state::Cell;
use vorpal_core::session::inquiries::{Answer, Found, Job, Said, ok, reply};
use vorpal_proto::element::{Element, el};
use vorpal_proto::error::StanzaError;
use vorpal_proto::ns::{self, Ns};
use vorpal_testing::client::Heard;
use vorpal_testing::disk::Store;
use vorpal_testing::world::{ClientId, World};

const TICKETS: Ns = Ns::private("urn:example:tickets");

static MODULE: Module = Module { name: "tickets", xeps: &[], setup };

/// By film and seat.
type Key = (String, String);

#[derive(Clone, Copy)]
struct Tickets {
    left: ColdMap<Key, Counted<Json<String>>>,
    notes: ColdMap<String, Json<String>>,
    posters: Blobs<String>,
    taken: Cell<u64>,
}

fn setup(m: &mut Setup<'_>) -> Result {
    let tickets = Tickets {
        left: m.cold_map("tickets"),
        notes: m.cold_map("ticket_notes"),
        posters: m.blobs("posters"),
        taken: m.account_state("tickets_taken"),
    };
    m.iq_set(At::OwnAccount, TICKETS, "issue", move |cx, asked| issue(cx, tickets, asked));
    for at in [At::OwnAccount, At::Anyone] {
        m.iq_set(at, TICKETS, "take", move |cx, asked| take(cx, tickets, asked));
    }
    m.iq_set(At::OwnAccount, TICKETS, "note", move |cx, asked| note(cx, tickets, asked));
    m.iq_set(At::OwnAccount, TICKETS, "clear", move |cx, asked| {
        cx.clear(tickets.left, &(get(asked, "film"),), 100)?;
        cx.remove_blob(tickets.posters, &get(asked, "film"))?;
        ok()
    });
    m.iq_get_reading(At::OwnAccount, TICKETS, "left", move |cx, asked| left(cx, tickets, asked));
    m.iq_get_reading(At::OwnAccount, TICKETS, "notes", move |cx, asked| notes(cx, tickets, asked));
    Ok(())
}

fn get(asked: &Element, name: &str) -> String {
    asked.get(name).unwrap_or_default().to_owned()
}

fn key(asked: &Element) -> Key {
    (get(asked, "film"), get(asked, "seat"))
}

fn issue(cx: &mut IqCx<'_>, tickets: Tickets, asked: &Element) -> Answer {
    let count = get(asked, "count").parse().map_err(|_| StanzaError::bad_request("no count"))?;
    let expires = asked.get("seconds").and_then(|s| s.parse().ok()).map(|s| cx.now.plus(Duration::from_secs(s)));
    let extra = Extra { expires, reverse: Some(Bytes::from(get(asked, "film"))) };
    cx.put_with(tickets.left, &key(asked), &Counted { count, rest: Json(get(asked, "seat")) }, extra)?;
    cx.put_blob(tickets.posters, &get(asked, "film"), Bytes::from(asked.content()))?;
    ok()
}

/// The last one gets `conflict`. With `counts` the account's own number of them is changed as well.
fn take(cx: &mut IqCx<'_>, tickets: Tickets, asked: &Element) -> Answer {
    cx.put(tickets.notes, &"taken".to_owned(), &Json(cx.asker.to_string()))?;
    cx.take(tickets.left, &key(asked), 1, StanzaError::conflict().with_text("sold out"))?;
    if asked.get("counts").is_some() {
        cx.update_cell(tickets.taken, |taken| Ok(Some(taken.copied().unwrap_or(0) + 1)))?;
    }
    ok()
}

fn note(cx: &mut IqCx<'_>, tickets: Tickets, asked: &Element) -> Answer {
    let (name, text) = (get(asked, "name"), Json(asked.content()));
    let before = asked.get("before").map(|before| Json(before.to_owned()));
    let expected = match &before {
        Some(before) => Expected::Value(before),
        None => Expected::Absent,
    };
    cx.require(tickets.notes, &name, expected, StanzaError::conflict())?;
    cx.put(tickets.notes, &name, &text)?;
    ok()
}

fn left(cx: &mut IqCx<'_>, tickets: Tickets, asked: &Element) -> std::result::Result<Said, StanzaError> {
    let film = get(asked, "film");
    if film.is_empty() {
        return Ok(reply(el("left", TICKETS)).into());
    }
    let taken = cx.account()?.states.get(tickets.taken).copied().unwrap_or(0);
    let (rows, posters) = (cx.cold(tickets.left)?, cx.cold_blobs(tickets.posters)?);
    let job: Job = Box::new(move |store| {
        let page = Page { past: None, descending: false, limit: 10 };
        let seats = rows.range(store, &(film.clone(),), page)?;
        let all = rows.reverse(store, film.as_bytes(), None, 10)?;
        let last = rows.range(store, &(), Page { descending: true, limit: 1, ..page })?;
        let item = |((film, seat), row): &(Key, Counted<Json<String>>)| {
            assert_eq!(&row.rest.0, seat);
            el("seat", TICKETS).attr("film", film).attr("name", seat).attr("left", row.count)
        };
        let size = posters.list(store, None, 9)?.into_iter().find(|(name, _)| *name == film).map(|(_, size)| size);
        let poster = posters.get(store, &film)?.map(|poster| String::from_utf8_lossy(&poster).into_owned());
        assert_eq!(size.unwrap_or(0) as usize, poster.as_ref().map_or(0, String::len));
        let answer = el("left", TICKETS)
            .attr("taken", taken)
            .attr("known", all.len())
            .attr_opt("last", last.first().map(|((film, _), _)| film))
            .attr_opt("poster", poster)
            .children(seats.iter().map(item));
        Ok(Found { messages: Vec::new(), reply: reply(answer) })
    });
    Ok(job.into())
}

fn notes(cx: &mut IqCx<'_>, tickets: Tickets, asked: &Element) -> std::result::Result<Job, StanzaError> {
    let (rows, name) = (cx.cold(tickets.notes)?, get(asked, "name"));
    Ok(Box::new(move |store| {
        let text = rows.get(store, &name)?.map(|Json(text)| text);
        Ok(Found { messages: Vec::new(), reply: reply(el("notes", TICKETS).attr_opt("text", text)) })
    }))
}

fn world(store: Store, clients: &[(&str, &str)]) -> (World, Vec<ClientId>) {
    let mut modules = vec![&MODULE];
    modules.extend(vorpal_modules::ALL);
    let mut world = World::new(1, store, true, &modules);
    let ids = clients.iter().map(|(account, resource)| {
        world.create_account(account);
        let id = world.client(account, resource);
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    });
    let ids: Vec<ClientId> = ids.collect();
    world.pass(Duration::from_secs(2));
    ids.iter().for_each(|id| world.clients[*id].inbox.clear());
    (world, ids)
}

fn ask(world: &mut World, id: ClientId, kind: &str, iq: &str, to: &str, payload: &str) {
    let to = if to.is_empty() { String::new() } else { format!(" to='{to}@localhost'") };
    world.clients[id].send(&format!("<iq type='{kind}' id='{iq}'{to}>{payload}</iq>"));
}

/// The answers a client has heard since: `id` and `ok`, or the condition of the error.
fn answers(world: &mut World, id: ClientId) -> Vec<String> {
    let heard = world.clients[id].inbox.drain(..);
    let iqs = heard.filter_map(|heard| match heard {
        Heard::Element(iq) if iq.is(ns::CLIENT, "iq") => Some(iq),
        _ => None,
    });
    iqs.map(|iq| {
        let condition =
            iq.find(ns::CLIENT, "error").and_then(|error| error.elements().next().map(|c| c.name().to_owned()));
        format!("{} {}", iq.get("id").unwrap_or_default(), condition.as_deref().unwrap_or("ok"))
    })
    .collect()
}

/// The payload of the answer to a question.
fn asked(world: &mut World, id: ClientId, payload: &str) -> Element {
    ask(world, id, "get", "q", "", payload);
    world.settle();
    let answer = world.clients[id].inbox.drain(..).find_map(|heard| match heard {
        Heard::Element(iq) if iq.get("id") == Some("q") => iq.elements().next().cloned(),
        _ => None,
    });
    answer.expect("an answer with a payload")
}

const ISSUE: &str = "<issue xmlns='urn:example:tickets' film='f' seat='s' count='1'>poster</issue>";
const TAKE: &str = "<take xmlns='urn:example:tickets' film='f' seat='s'/>";
const LEFT: &str = "<left xmlns='urn:example:tickets' film='f'/>";
const R: &str = "<r xmlns='urn:xmpp:sm:3'/>";

fn h(world: &mut World, id: ClientId) -> u32 {
    world.clients[id].send(R);
    world.settle();
    world.clients[id].smacks.as_ref().expect("it counts").acked
}

fn waits(world: &World, waits: bool) {
    world.mood.waits.store(waits, Ordering::Relaxed);
}

#[test]
fn of_two_who_take_the_last_one_gets_it_and_the_other_gets_an_error_of_its_own() {
    for store in [Store::Memory, Store::Sqlite] {
        let clients = [("romeo", "a"), ("romeo", "b"), ("romeo", "c"), ("juliet", "d")];
        let (mut world, ids) = world(store, &clients);
        let [a, b, c, d] = ids[..] else { panic!("four") };
        ask(&mut world, a, "set", "issue", "", ISSUE);
        world.settle();
        assert_eq!(answers(&mut world, a), ["issue ok"]);
        // All of this is one commit, or on its way at once.
        waits(&world, true);
        ask(&mut world, a, "set", "1", "", TAKE);
        ask(&mut world, b, "set", "2", "", TAKE);
        ask(&mut world, d, "set", "3", "romeo", TAKE);
        world.settle();
        for id in [a, b, c, d] {
            world.clients[id].send("<message to='juliet@localhost/d' type='chat' id='m'><body>hi</body></message>");
            ask(&mut world, id, "set", "x", "", "<block xmlns='urn:xmpp:blocking'><item jid='x@y'/></block>");
        }
        world.settle();
        waits(&world, false);
        world.settle();
        assert_eq!(answers(&mut world, a), ["1 ok", "x ok"]);
        assert_eq!(answers(&mut world, b), ["2 conflict", "x ok"]);
        assert_eq!(answers(&mut world, c), ["x ok"]);
        let heard: Vec<Heard> = world.clients[d].inbox.drain(..).collect();
        let messages = heard.iter().filter(|h| matches!(h, Heard::Element(e) if e.is(ns::CLIENT, "message")));
        assert_eq!(messages.filter(|h| matches!(h, Heard::Element(e) if e.get("type") == Some("chat"))).count(), 4);
        world.clients[d].inbox.extend(heard);
        assert_eq!(answers(&mut world, d), ["3 conflict", "x ok"]);
        // What a refused batch had besides was not written, and everything is settled.
        let note = asked(&mut world, c, "<notes xmlns='urn:example:tickets' name='taken'/>");
        assert_eq!(note.get("text"), Some("romeo@localhost/a"));
        assert_eq!([a, b, c, d].map(|id| h(&mut world, id)), [5, 4, 4, 4]);
        // Their clients acknowledge what they have heard.
        world.pass(Duration::from_secs(2));
        world.crash();
        for (id, handled) in [(a, 5), (b, 4), (c, 4), (d, 4)] {
            assert_eq!(world.resume(id).ok(), Some(handled));
            world.settle();
            assert_eq!(answers(&mut world, id), [""; 0], "every answer was heard");
        }
        assert_eq!(asked(&mut world, a, LEFT).elements().count(), 0);
    }
}

/// Romeo has taken something, or was refused it; the server has put off a row of his session meanwhile, and is killed when all of that is
/// committed and nothing is said of it. Gives the `h` after the start, how many stanzas he had sent, and the answers he hears then.
fn killed(count: u32, also: &str) -> (u32, u32, Vec<String>, World) {
    let (mut world, ids) = world(Store::Memory, &[("romeo", "a"), ("juliet", "b")]);
    let [romeo, juliet] = ids[..] else { panic!("two") };
    ask(&mut world, romeo, "set", "issue", "", ISSUE);
    for at in 0..1 - count.min(1) {
        ask(&mut world, romeo, "set", &format!("first{at}"), "", TAKE);
    }
    world.settle();
    world.pass(Duration::from_secs(2));
    answers(&mut world, romeo);
    let sent = h(&mut world, romeo);
    // His cursor moves: a row is due.
    world.clients[juliet].send("<message to='romeo@localhost' type='chat' id='m'><body>hi</body></message>");
    world.settle();
    waits(&world, true);
    world.clients[romeo].send(also);
    ask(&mut world, romeo, "set", "take", "", TAKE);
    world.settle();
    world.tick();
    world.settle();
    world.tick();
    waits(&world, false);
    // Everything that waits is one commit.
    assert_eq!(world.write_or_die(), Some(true));
    world.clients[romeo].inbox.clear();
    world.crash();
    let h = world.resume(romeo).expect("the session is there");
    world.settle();
    let said = answers(&mut world, romeo);
    (h, sent, said, world)
}

#[test]
fn a_row_behind_a_refusal_says_nothing_of_what_was_refused() {
    for also in ["", R] {
        let (h, sent, mut said, mut world) = killed(0, also);
        // Others may come once more after a kill.
        said.retain(|answer| answer.starts_with("take"));
        assert_eq!((h, said), (sent, vec![]), "it was never handled, and its client asks again");
        ask(&mut world, 0, "set", "again", "", TAKE);
        world.settle();
        assert_eq!(answers(&mut world, 0), ["again conflict"]);
    }
}

#[test]
fn a_row_behind_a_condition_that_holds_undoes_nothing() {
    for also in ["", R] {
        let (h, sent, said, mut world) = killed(1, also);
        assert_eq!(h, sent + 1, "it is handled, and its client does not ask again");
        assert_eq!(said, ["take ok"], "the answer was stored with it");
        assert_eq!(asked(&mut world, 0, LEFT).elements().count(), 0, "it was taken once");
    }
}

#[test]
fn a_refusal_that_its_client_has_heard_is_acknowledged_and_not_asked_for_again() {
    let (mut world, ids) = world(Store::Memory, &[("romeo", "a")]);
    let romeo = ids[0];
    let before = h(&mut world, romeo);
    ask(&mut world, romeo, "set", "take", "", TAKE);
    assert_eq!(h(&mut world, romeo), before + 1, "at once, without the next tick");
    assert_eq!(answers(&mut world, romeo), ["take conflict"]);
    world.crash();
    assert_eq!(world.resume(romeo).ok(), Some(before + 1));
    // Acknowledged with nobody hearing it: it is said again.
    world.clients[romeo].deaf = true;
    ask(&mut world, romeo, "set", "take", "", TAKE);
    world.clients[romeo].send(R);
    world.settle();
    world.pass(Duration::from_secs(2));
    world.clients[romeo].deaf = false;
    world.crash();
    assert_eq!(world.resume(romeo).ok(), Some(before + 2));
    world.settle();
    assert_eq!(answers(&mut world, romeo), ["take conflict"]);
}

#[test]
fn with_changes_of_loaded_rows_what_was_built_on_them_comes_to_nothing_too() {
    let (mut world, ids) = world(Store::Memory, &[("romeo", "a"), ("romeo", "b")]);
    let [a, b] = ids[..] else { panic!("two") };
    let counted = "<take xmlns='urn:example:tickets' film='f' seat='s' counts=''/>";
    ask(&mut world, a, "set", "issue", "", ISSUE);
    world.settle();
    waits(&world, true);
    ask(&mut world, a, "set", "1", "", counted);
    ask(&mut world, b, "set", "2", "", counted);
    world.settle();
    ask(&mut world, a, "set", "3", "", "<block xmlns='urn:xmpp:blocking'><item jid='x@y'/></block>");
    world.settle();
    waits(&world, false);
    world.settle();
    assert_eq!(answers(&mut world, a), ["issue ok", "1 ok", "3 ok"]);
    assert_eq!(answers(&mut world, b), ["2 conflict"], "its own error all the same");
    world.pass(Duration::from_secs(2));
    assert_eq!(asked(&mut world, a, LEFT).get("taken"), Some("1"));
    assert_eq!(h(&mut world, b), 2);
}

#[test]
fn debts_are_paid_before_a_batch_that_may_be_refused() {
    let (mut world, ids) = world(Store::Memory, &[("romeo", "a"), ("juliet", "b")]);
    let romeo = ids[0];
    let before = h(&mut world, romeo);
    world.mood.refuses_one.store(true, Ordering::Relaxed);
    world.clients[romeo].send("<message to='juliet@localhost' type='chat' id='m'><body>hi</body></message>");
    world.settle();
    // The error of the message is owed; a refused batch would take it along.
    waits(&world, true);
    ask(&mut world, romeo, "set", "take", "", TAKE);
    world.settle();
    waits(&world, false);
    assert_eq!(world.write_or_die(), Some(true));
    world.clients[romeo].inbox.clear();
    world.crash();
    assert_eq!(world.resume(romeo).ok(), Some(before + 1), "the message, whose error is stored");
}

#[test]
fn conditions_compare_rows_and_expired_ones_are_none() {
    for store in [Store::Memory, Store::Sqlite] {
        let (mut world, ids) = world(store, &[("romeo", "a")]);
        let a = ids[0];
        let note = |world: &mut World, iq: &str, before: &str, text: &str| {
            let before = if before.is_empty() { String::new() } else { format!(" before='{before}'") };
            let note = format!("<note xmlns='urn:example:tickets' name='n'{before}>{text}</note>");
            ask(world, a, "set", iq, "", &note);
            world.settle();
        };
        note(&mut world, "1", "", "one");
        note(&mut world, "2", "", "two");
        note(&mut world, "3", "two", "three");
        note(&mut world, "4", "one", "four");
        assert_eq!(answers(&mut world, a), ["1 ok", "2 conflict", "3 conflict", "4 ok"]);
        let soon = ISSUE.replace("count='1'", "count='5' seconds='10'");
        ask(&mut world, a, "set", "5", "", &soon);
        ask(&mut world, a, "set", "6", "", TAKE);
        world.settle();
        world.advance(Duration::from_secs(11));
        ask(&mut world, a, "set", "7", "", TAKE);
        world.settle();
        assert_eq!(answers(&mut world, a), ["5 ok", "6 ok", "7 conflict"]);
    }
}

#[test]
fn rows_and_blobs_are_read_by_job_and_go_by_prefix_and_with_the_account() {
    for store in [Store::Memory, Store::Sqlite] {
        let (mut world, ids) = world(store, &[("romeo", "a"), ("juliet", "b")]);
        let [a, b] = ids[..] else { panic!("two") };
        for (at, id) in [(0, a), (1, a), (2, a), (3, b)] {
            let film = if at == 2 { "ff" } else { "f" };
            let issue = ISSUE.replace("'s'", &format!("'s{at}'")).replace("'f'", &format!("'{film}'"));
            ask(&mut world, id, "set", "i", "", &issue);
            world.settle();
        }
        let seats =
            |left: &Element| left.elements().filter_map(|seat| seat.get("name").map(str::to_owned)).collect::<Vec<_>>();
        let left = asked(&mut world, a, LEFT);
        assert_eq!(seats(&left), ["s0", "s1"]);
        assert_eq!((left.get("known"), left.get("last"), left.get("poster")), (Some("3"), Some("ff"), Some("poster")));
        assert_eq!(asked(&mut world, a, "<left xmlns='urn:example:tickets'/>").attrs().count(), 0, "without a job");
        ask(&mut world, a, "set", "c", "", "<clear xmlns='urn:example:tickets' film='f'/>");
        world.settle();
        let left = asked(&mut world, a, LEFT);
        assert_eq!((seats(&left).len(), left.get("known"), left.get("poster")), (0, Some("1"), None));
        assert_eq!(left.get("last"), Some("ff"));
        // Nobody who takes the name sees any of it.
        let jid = "romeo@localhost".parse().expect("an address");
        assert!(world.remove_account(&jid));
        world.settle();
        assert!(world.create_account("romeo"));
        let again = world.client("romeo", "again");
        world.bind(again);
        assert_eq!(asked(&mut world, again, LEFT).get("last"), None);
    }
}

#[test]
fn a_name_stands_for_one_kind_of_table() {
    fn loaded_and_not(m: &mut Setup<'_>) -> Result {
        m.account_map::<String, u64>("one");
        m.cold_map::<String, Bytes>("one");
        Ok(())
    }
    fn not_and_loaded(m: &mut Setup<'_>) -> Result {
        m.cold_map::<String, Bytes>("two");
        m.account_map::<String, u64>("two");
        Ok(())
    }
    fn other_types(m: &mut Setup<'_>) -> Result {
        m.cold_map::<String, Bytes>("three");
        m.cold_map::<u64, Bytes>("three");
        Ok(())
    }
    fn rows_and_blobs(m: &mut Setup<'_>) -> Result {
        m.cold_map::<String, Bytes>("four");
        m.blobs::<String>("four");
        Ok(())
    }
    fn the_same(m: &mut Setup<'_>) -> Result {
        m.cold_map::<String, Bytes>("five");
        m.cold_map::<String, Bytes>("five");
        Ok(())
    }
    let build = |setup| {
        let module = Box::leak(Box::new(Module { name: "m", xeps: &[], setup }));
        vorpal_core::module::registry::Registry::build([&*module], vorpal_core::core::core_names(), |_| None).map(drop)
    };
    for setup in [loaded_and_not, not_and_loaded, other_types, rows_and_blobs] {
        assert!(matches!(build(setup), Err(SetupError::OtherTable("m", _))));
    }
    assert!(build(the_same).is_ok());
}
