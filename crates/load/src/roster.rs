//! `subscribe`: contacts are made. `storm`: all users of such rosters become available at once.
//!
//! The users stand in a ring; each is a contact of those next to it, as many on one side as on the other.

use std::collections::HashSet;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::enter::Door;
use crate::options::{Extras, Ring, Storm, Subscribe};
use crate::process::Process;
use crate::report::Report;
use crate::scan::{attribute, has};
use crate::session::{Session, head, name};

/// Logs in this many at a time.
const WIDTH: u32 = 16;

/// Makes all subscriptions of the ring, in both directions, `width` pairs of users at a time (RFC 6121 §3.1, §2.1.6).
pub async fn subscribe(door: &Rc<Door>, server: Process, options: &Subscribe) -> Result<Report> {
    let ring = options.ring;
    ring.check()?;
    let extras = Extras { roster: true, ..Extras::default() };
    let sessions = door.many(ring.users, WIDTH, extras, |n| (n, "roster".to_owned())).await?;
    let jids: Vec<String> = sessions.iter().map(|session| session.bare().to_owned()).collect();

    let before = server.quiet().await?;
    let began = std::time::Instant::now();
    let (tell, mut told) = mpsc::unbounded_channel();
    let (mut people, mut tasks) = (Vec::new(), JoinSet::new());
    for (number, session) in (0..).zip(sessions) {
        let (ask, asked) = mpsc::unbounded_channel();
        people.push(ask);
        let person = Person { session, number, prefix: door.prefix().to_owned(), asked: HashSet::new() };
        tasks.spawn_local(person.run(asked, tell.clone()));
    }
    drop(tell);
    let mut waiting = ring.pairs().into_iter();
    let start = |pair: Option<(u32, u32)>| -> Result<bool> {
        let Some((from, to)) = pair else { return Ok(false) };
        let (Some(person), Some(jid)) = (people.get(from as usize), jids.get(to as usize)) else {
            bail!("no user {from}")
        };
        person.send(jid.clone())?;
        Ok(true)
    };
    for _ in 0..options.width {
        start(waiting.next())?;
    }
    let total = ring.users * ring.contacts / 2; // pairs of users; two subscriptions each
    let (mut halves, mut made) = (HashSet::new(), 0);
    while made < total {
        tokio::select! {
            Some(half) = told.recv() => {
                let (one, other) = half;
                if halves.insert((one, other)) && halves.contains(&(other, one)) {
                    made += 1;
                    start(waiting.next())?;
                }
            }
            Some(ended) = tasks.join_next() => { ended??; }
        }
    }
    let took = began.elapsed();
    let used = server.quiet().await? - before;
    drop(people);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let made = f64::from(total) * 2.0;
    let mut report = Report::default();
    report
        .add("subscribe_made", made)
        .add("subscribe_cpu_ms", used as f64 / 1000.0 / made)
        .add("subscribe_per_s", made / took.as_secs_f64());
    Ok(report)
}

/// A user who asks whom it is told to, and grants whatever is asked of it, asking back.
struct Person {
    session: Session,
    number: u32,
    prefix: String,
    asked: HashSet<String>,
}

impl Person {
    /// Runs until nobody can tell it to ask any more. Tells of every contact with whom it has come to `both`.
    async fn run(
        mut self,
        mut ask: mpsc::UnboundedReceiver<String>,
        tell: mpsc::UnboundedSender<(u32, u32)>,
    ) -> Result<()> {
        loop {
            tokio::select! {
                whom = ask.recv() => match whom {
                    Some(whom) => self.ask(&whom),
                    None => break,
                },
                filled = self.session.fill() => filled?,
            }
            while let Some(range) = self.session.take()? {
                let stanza = self.session.get(range).to_vec();
                self.react(&stanza, &tell)?;
            }
            self.session.flush().await?;
        }
        self.session.close().await
    }

    fn react(&mut self, stanza: &[u8], tell: &mpsc::UnboundedSender<(u32, u32)>) -> Result<()> {
        let (kind, from) = (attribute(head(stanza), "type"), attribute(head(stanza), "from"));
        ensure!(kind != Some(b"error"), "{}", String::from_utf8_lossy(stanza));
        match (name(stanza), kind) {
            (b"presence", Some(b"subscribe")) => {
                let from = String::from_utf8(from.context("a request from nobody")?.to_vec())?;
                self.session.put(format!("<presence to='{from}' type='subscribed'/>").as_bytes());
                self.session.end_stanza();
                self.ask(&from);
            }
            (b"iq", Some(b"set")) if has(stanza, "jabber:iq:roster") => {
                let id = String::from_utf8_lossy(attribute(head(stanza), "id").unwrap_or_default());
                self.session.put(format!("<iq type='result' id='{id}'/>").as_bytes());
                self.session.end_stanza();
                if attribute(stanza, "subscription") == Some(b"both") {
                    let contact = attribute(stanza, "jid").and_then(|jid| account(&self.prefix, jid));
                    tell.send((self.number, contact.context("a push for a stranger")?))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self, whom: &str) {
        if self.asked.insert(whom.to_owned()) {
            self.session.put(format!("<presence to='{whom}' type='subscribe'/>").as_bytes());
            self.session.end_stanza();
        }
    }
}

/// Two measurements over a ring whose subscriptions were made before. All sessions are bound, then: everybody sends initial
/// presence at once, which the server answers with the presence of the contacts (RFC 6121 §4.2.2, §4.3); then
/// everybody is away, which is a plain broadcast (§4.4.2). Then everybody leaves, uncounted, and it begins again.
pub async fn storm(door: &Rc<Door>, server: Process, options: &Storm) -> Result<Report> {
    let ring = options.ring;
    ring.check()?;
    let extras = Extras { roster: true, silent: true, ..Extras::default() };
    let mut sessions = door.many(ring.users, WIDTH, extras, |n| (n, "storm".to_owned())).await?;
    let mut used = [0; 3];
    for _ in 0..options.times {
        for (used, (presence, wanted)) in used.iter_mut().zip([
            ("<presence/>", Wanted { kind: None, holds: "" }),
            ("<presence><show>away</show></presence>", Wanted { kind: None, holds: ">away<" }),
            ("<presence type='unavailable'/>", Wanted { kind: Some(b"unavailable"), holds: "" }),
        ]) {
            let before = server.quiet().await?;
            let mut tasks = JoinSet::new();
            for (number, session) in (0..).zip(sessions) {
                // Who has gone is told nothing: only that the server was quiet says that all is done.
                let gone = wanted.kind.is_some();
                let due = if gone { HashSet::new() } else { ring.contacts_of(number).into_iter().collect() };
                tasks.spawn_local(appear(session, number, presence, wanted, due, door.prefix().to_owned()));
            }
            let mut back = Vec::new();
            while let Some(ended) = tasks.join_next().await {
                back.push(ended??);
            }
            back.sort_unstable_by_key(|(number, _)| *number);
            sessions = back.into_iter().map(|(_, session)| session).collect();
            *used += server.quiet().await? - before;
        }
    }
    for session in sessions {
        session.close().await?;
    }
    let pairs = f64::from(ring.users) * f64::from(ring.contacts) * f64::from(options.times);
    let mut report = Report::default();
    for (name, used) in
        ["storm_cpu_us_per_pair", "storm_change_cpu_us_per_pair", "storm_end_cpu_us_per_pair"].iter().zip(used)
    {
        report.add(name, used as f64 / pairs);
    }
    Ok(report)
}

/// Which presence of a contact counts.
#[derive(Clone, Copy)]
struct Wanted {
    kind: Option<&'static [u8]>,
    holds: &'static str,
}

/// Sends a presence and waits until each contact that is due has been seen with one that is wanted.
async fn appear(
    mut session: Session,
    number: u32,
    presence: &str,
    wanted: Wanted,
    mut due: HashSet<u32>,
    prefix: String,
) -> Result<(u32, Session)> {
    session.put(presence.as_bytes());
    session.end_stanza();
    session.flush().await?;
    loop {
        while let Some(range) = session.take()? {
            let stanza = session.get(range);
            let kind = attribute(head(stanza), "type");
            ensure!(kind != Some(b"error"), "{}", String::from_utf8_lossy(stanza));
            if name(stanza) == b"presence" && kind == wanted.kind && has(stanza, wanted.holds) {
                let from = attribute(head(stanza), "from").and_then(|from| account(&prefix, from));
                due.remove(&from.context("presence of a stranger")?);
            }
        }
        if due.is_empty() {
            return Ok((number, session));
        }
        session.fill().await?;
    }
}

/// The number in an address of ours.
fn account(prefix: &str, jid: &[u8]) -> Option<u32> {
    str::from_utf8(jid).ok()?.strip_prefix(prefix)?.split('@').next()?.parse().ok()
}

impl Ring {
    fn check(self) -> Result<()> {
        ensure!(self.contacts > 0 && self.contacts.is_multiple_of(2), "as many contacts on one side as on the other");
        ensure!(self.users > self.contacts, "more users than contacts");
        Ok(())
    }

    /// Each pair of contacts once. Neighbours in this list have no user in common, so that many pairs can be made at a time.
    fn pairs(self) -> Vec<(u32, u32)> {
        let steps = 1..=self.contacts / 2;
        steps.flat_map(|step| (0..self.users).map(move |user| (user, (user + step) % self.users))).collect()
    }

    fn contacts_of(self, user: u32) -> Vec<u32> {
        let steps = 1..=self.contacts / 2;
        steps.flat_map(|step| [(user + step) % self.users, (user + self.users - step) % self.users]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_in_the_ring_has_the_same_number_of_contacts_and_each_pair_is_made_once() {
        let ring = Ring { users: 9, contacts: 4 };
        let pairs: HashSet<(u32, u32)> = ring.pairs().into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        assert_eq!(pairs.len(), 18);
        assert_eq!(ring.pairs().len(), 18);
        for user in 0..9 {
            let contacts: HashSet<u32> = ring.contacts_of(user).into_iter().collect();
            assert_eq!(contacts.len(), 4);
            assert!(contacts.iter().all(|other| pairs.contains(&(user.min(*other), user.max(*other)))));
        }
    }

    #[test]
    fn a_ring_with_too_few_users_or_an_odd_number_of_contacts_is_refused() {
        assert!(Ring { users: 4, contacts: 4 }.check().is_err());
        assert!(Ring { users: 9, contacts: 3 }.check().is_err());
        assert!(Ring { users: 9, contacts: 0 }.check().is_err());
        assert!(Ring { users: 5, contacts: 4 }.check().is_ok());
    }

    #[test]
    fn only_addresses_with_our_prefix_have_a_number() {
        assert_eq!(account("r", b"r12@localhost/storm"), Some(12));
        assert_eq!(account("r", b"u12@localhost"), None);
        assert_eq!(account("r", b"localhost"), None);
    }
}
