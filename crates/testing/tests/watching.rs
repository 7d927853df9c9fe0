//! What an operator sees: the numbers, and an account that is followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vorpal_core::core::watched::Trace;
use vorpal_core::watch::counts::Count;
use vorpal_core::watch::trace::{MAX_STEPS, MAX_TRACERS, Step};
use vorpal_proto::jid::BareJid;
use vorpal_testing::disk::Store;
use vorpal_testing::link::Bell;
use vorpal_testing::world::{ClientId, HOST, World};

struct Two {
    world: World,
    romeo: ClientId,
    juliet: ClientId,
}

/// Two who are online, with stream management.
fn two() -> Two {
    let mut world = World::new(1, Store::Memory, true, vorpal_modules::ALL);
    let mut online = |name: &str| {
        assert!(world.create_account(name));
        let id = world.client(name, "r");
        world.bind(id);
        world.enable(id);
        world.clients[id].send("<presence/>");
        world.settle();
        id
    };
    let (romeo, juliet) = (online("romeo"), online("juliet"));
    Two { world, romeo, juliet }
}

impl Two {
    fn say(&mut self, from: ClientId, to: &str, id: &str) {
        self.world.clients[from]
            .send(&format!("<message to='{to}@{HOST}' type='chat' id='{id}'><body>secret words</body></message>"));
        self.world.settle();
    }

    fn follow(&self, name: &str) -> Option<Trace> {
        let jid = BareJid::new(name, HOST).expect("a name");
        self.world.core().trace(jid, Arc::new(Bell::default()))
    }
}

fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.step).collect()
}

#[test]
fn a_message_is_counted_where_it_comes_is_stored_and_is_delivered() {
    let mut two = two();
    let counts = two.world.core().counts.clone();
    let read = |counts: &vorpal_core::watch::counts::Counts| {
        let all = [Count::Messages, Count::Delivered, Count::Entries, Count::Copied, Count::BouncedUnavailable];
        all.map(|count| counts.get(count))
    };
    assert_eq!(read(&counts), [0, 0, 0, 0, 0]);
    assert_eq!((counts.get(Count::Bound), counts.get(Count::Presences)), (2, 2));
    two.say(two.romeo, "juliet", "m1");
    two.say(two.juliet, "romeo", "m2");
    assert_eq!(read(&counts), [2, 2, 2, 0, 0]);
    two.say(two.romeo, "nobody", "m3");
    assert_eq!(read(&counts), [3, 3, 2, 0, 1], "the error is a message that is delivered");
}

#[test]
fn a_resumption_is_counted_as_what_it_is() {
    let mut two = two();
    two.world.cut(two.romeo);
    two.world.resume(two.romeo).expect("the session is there");
    let counts = two.world.core().counts.clone();
    assert_eq!((counts.get(Count::Detached), counts.get(Count::Resumed), counts.get(Count::Revived)), (1, 1, 0));
    two.world.crash();
    two.world.resume(two.romeo).expect("the session is back");
    let counts = two.world.core().counts.clone();
    assert_eq!((counts.get(Count::Resumed), counts.get(Count::Revived), counts.get(Count::NotResumed)), (0, 1, 0));
}

#[test]
fn what_is_refused_below_the_reserve_is_counted() {
    let mut two = two();
    two.world.mood.free_mib.store(1, std::sync::atomic::Ordering::Relaxed);
    two.world.tick();
    two.say(two.romeo, "juliet", "m1");
    let counts = &two.world.core().counts;
    assert_eq!(
        (counts.get(Count::Reserved), counts.get(Count::BouncedConstraint), counts.get(Count::Entries)),
        (1, 1, 0)
    );
}

#[test]
fn a_followed_account_shows_the_way_of_a_message_from_beginning_to_end_and_not_its_body() {
    let mut two = two();
    let trace = two.follow("romeo").expect("nobody else follows");
    two.say(two.romeo, "juliet", "m1");
    let (steps, lost) = trace.take();
    assert_eq!(lost, 0);
    assert_eq!(names(&steps), ["received", "planned", "home", "submitted", "committed", "settled"], "{steps:#?}");
    let first = &steps[0];
    assert_eq!((first.n, first.kind, first.id.as_deref()), (Some(2), Some("message"), Some("m1")));
    assert_eq!(steps[1].decision.as_deref(), Some("deliver"));
    assert_eq!(steps[1].sessions, [format!("juliet@{HOST}/r")]);
    assert_eq!(steps[2].decision.as_deref(), Some("log"));
    assert!(steps[3].entry.is_some() && steps[3].entry == steps[4].entry && steps[4].commit_ms == Some(0));
    assert_eq!(steps[5].n, Some(2));
    let text = format!("{steps:?}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn the_receiver_shows_to_whom_it_was_given_and_who_took_it() {
    let mut two = two();
    let trace = two.follow("juliet").expect("nobody else follows");
    two.say(two.romeo, "juliet", "m1");
    // Her client is asked for its acknowledgement by then.
    two.world.pass(Duration::from_secs(2));
    let (steps, _) = trace.take();
    assert_eq!(names(&steps)[..5], ["planned", "home", "submitted", "committed", "given"], "{steps:#?}");
    assert_eq!(steps[4].session.as_deref(), Some(format!("juliet@{HOST}/r").as_str()));
    assert_eq!(steps[4].decision.as_deref(), Some("queued"));
    let taken: Vec<_> = steps.iter().filter(|step| step.step == "taken").collect();
    assert_eq!(taken.len(), 1, "{steps:#?}");
    assert_eq!(taken[0].entry, steps[3].entry);
    two.say(two.juliet, "nobody", "m2");
    let (steps, _) = trace.take();
    let by_step: BTreeMap<_, _> = steps.iter().map(|step| (step.step, step)).collect();
    assert_eq!(by_step["answered"].decision.as_deref(), Some("service-unavailable"), "{steps:#?}");
}

#[test]
fn a_module_that_stops_a_stanza_is_named_with_its_reason() {
    let mut two = two();
    two.world.clients[two.juliet].send(&format!(
        "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='romeo@{HOST}'/></block></iq>"
    ));
    two.world.settle();
    let trace = two.follow("juliet").expect("nobody else follows");
    two.say(two.romeo, "juliet", "m1");
    let (steps, _) = trace.take();
    let stopped = steps.iter().find(|step| step.step == "stopped").unwrap_or_else(|| panic!("{steps:#?}"));
    assert_eq!((stopped.module, stopped.phase.as_deref()), (Some("blocking"), Some("Gate")));
    assert!(stopped.reason.is_some() && stopped.decision.is_some());
}

#[test]
fn an_account_that_nobody_follows_says_nothing_and_one_who_stops_is_told_nothing_more() {
    let mut two = two();
    let trace = two.follow("nurse").expect("nobody else follows");
    two.say(two.romeo, "juliet", "m1");
    assert!(trace.take().0.is_empty());
    let followers: Vec<_> = (1..MAX_TRACERS).map(|_| two.follow("romeo").expect("there is room")).collect();
    assert!(two.follow("romeo").is_none());
    drop(trace);
    let again = two.follow("romeo").expect("one has gone");
    drop(followers);
    two.say(two.romeo, "juliet", "m2");
    assert!(!again.take().0.is_empty());
}

#[test]
fn what_is_not_taken_in_time_is_lost_and_counted() {
    let mut two = two();
    let trace = two.follow("romeo").expect("nobody else follows");
    for at in 0..400 {
        two.say(two.romeo, "juliet", &format!("m{at}"));
    }
    let (steps, lost) = trace.take();
    assert_eq!((steps.len(), lost), (MAX_STEPS, 400 * 6 - MAX_STEPS as u64));
}
