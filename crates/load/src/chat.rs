//! `chat`: pairs of users who answer each other.
//!
//! The first of a pair sends as many messages as may be under way; each message that arrives is answered by one, until both
//! have sent their share. So the number under way stays the same, and a server that takes several stanzas from one read can
//! show it. Every receiver checks that numbers come without gap, repetition or change of order.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::enter::Door;
use crate::options::Chat;
use crate::process::Process;
use crate::report::{Report, percentile};
use crate::scan::between;
use crate::session::Session;

/// Logs in this many at a time.
const WIDTH: u32 = 16;
/// How long a session is read after all is done, to see what should not be there.
const STRAY: Duration = Duration::from_millis(2);
/// The length of a body.
const BODY: usize = 100;

/// Runs the chat and checks it.
pub async fn run(door: &Rc<Door>, server: Process, options: &Chat) -> Result<Report> {
    ensure!(options.in_flight > 0 && options.pairs > 0 && options.messages > 0, "nothing to do");
    let extras = options.extras;
    let users = options.pairs * 2;
    let talkers = door.many(users, WIDTH, extras, |n| (n, "talk".to_owned())).await?;
    let watchers = match extras.carbons {
        true => door.many(users, WIDTH, extras, |n| (n, "watch".to_owned())).await?,
        false => Vec::new(),
    };

    let cpu_before = server.quiet().await?;
    let began = Instant::now();
    let jids: Vec<String> = talkers.iter().map(|session| session.jid.clone()).collect();
    let mut tasks = JoinSet::new();
    for (number, session) in (0..).zip(talkers) {
        let partner = usize::try_from(number ^ 1).ok().and_then(|at| jids.get(at)).context("a pair has two users")?;
        tasks.spawn_local(Talker::new(session, number, partner, options, began).run());
    }
    for (number, session) in (0..).zip(watchers) {
        tasks.spawn_local(watch(session, number / 2, options.messages));
    }
    let (mut sessions, mut latencies) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (session, measured) = done??;
        sessions.push(session);
        latencies.extend(measured);
    }
    let wall = began.elapsed();
    let used = server.quiet().await? - cpu_before;

    for mut session in sessions {
        while timeout(STRAY, session.fill()).await.is_ok_and(|filled| filled.is_ok()) {}
        while let Some(range) = session.take()? {
            ensure!(number(session.get(range)).is_none(), "{} got one message too many", session.jid);
        }
        session.close().await?;
    }
    latencies.sort_unstable();
    let total = f64::from(options.pairs) * f64::from(options.messages);
    ensure!(latencies.len() as f64 == total, "{} of {total} messages arrived", latencies.len());
    let mut report = Report::default();
    report
        .add("chat_messages", total)
        .add("chat_cpu_us", used as f64 / total)
        .add("chat_per_s", total / wall.as_secs_f64())
        .add("chat_latency_p50_ms", percentile(&latencies, 0.5) / 1000.0)
        .add("chat_latency_p99_ms", percentile(&latencies, 0.99) / 1000.0);
    Ok(report)
}

/// How many of a pair's messages the first and the second send.
fn shares(messages: u32) -> [u32; 2] {
    [messages - messages / 2, messages / 2]
}

/// One that sends and receives.
struct Talker {
    session: Session,
    pair: u32,
    side: u32,
    partner: String,
    share: u32,
    sent: u32,
    order: Order,
    at_once: u32,
    began: Instant,
    latencies: Vec<u32>,
}

impl Talker {
    fn new(session: Session, number: u32, partner: &str, options: &Chat, began: Instant) -> Talker {
        let [first, second] = shares(options.messages);
        let (pair, side, partner) = (number / 2, number % 2, partner.to_owned());
        let (share, due, at_once) =
            if side == 0 { (first, [0, second], options.in_flight) } else { (second, [first, 0], 0) };
        let order = Order { pair, due, next: [0, 0] };
        Talker { session, pair, side, partner, share, sent: 0, order, at_once, began, latencies: Vec::new() }
    }

    async fn run(mut self) -> Result<(Session, Vec<u32>)> {
        for _ in 0..self.at_once {
            self.say()?;
        }
        self.session.flush().await?;
        while !self.order.complete() || self.sent < self.share || !self.session.all_acked() {
            self.session.fill().await?;
            while let Some(range) = self.session.take()? {
                let Some(message) = number(self.session.get(range)) else { continue };
                self.hear(message)?;
                self.say()?;
            }
            self.session.flush().await?;
        }
        Ok((self.session, self.latencies))
    }

    /// Sends the next message, if there is one left; after the last one all acks are asked for.
    fn say(&mut self) -> Result<()> {
        if self.sent == self.share {
            return Ok(());
        }
        let now = u64::try_from(self.began.elapsed().as_micros())?;
        let (pair, side, sent, partner) = (self.pair, self.side, self.sent, &self.partner);
        let mut body = format!("{pair:05} {side} {sent:07} {now:012} ");
        body.extend(std::iter::repeat_n('.', BODY.saturating_sub(body.len())));
        let stanza = format!(
            "<message to='{partner}' type='chat' id='{pair}-{side}-{sent:07}'><body>{body}</body>\
             <request xmlns='urn:xmpp:receipts'/></message>"
        );
        self.session.put(stanza.as_bytes());
        self.session.end_stanza();
        self.sent += 1;
        if self.sent == self.share && !self.session.all_acked() {
            self.session.ask();
        }
        Ok(())
    }

    fn hear(&mut self, message: Number) -> Result<()> {
        self.order.accept(&message).with_context(|| format!("at {}", self.session.jid))?;
        let now = u64::try_from(self.began.elapsed().as_micros())?;
        self.latencies.push(u32::try_from(now.saturating_sub(message.sent_at)).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// A second session, which gets a copy of all that its user sends and receives (XEP-0280 §6, §7).
async fn watch(mut session: Session, pair: u32, messages: u32) -> Result<(Session, Vec<u32>)> {
    let mut order = Order { pair, due: shares(messages), next: [0, 0] };
    while !order.complete() {
        session.fill().await?;
        while let Some(range) = session.take()? {
            let Some(message) = number(session.get(range)) else { continue };
            order.accept(&message).with_context(|| format!("copy at {}", session.jid))?;
        }
        session.flush().await?;
    }
    Ok((session, Vec::new()))
}

/// What one session is due to get, from each side of its pair, and how far it is.
#[derive(Debug)]
struct Order {
    pair: u32,
    due: [u32; 2],
    next: [u32; 2],
}

impl Order {
    fn complete(&self) -> bool {
        self.next == self.due
    }

    /// Fails on any message but the next of its side.
    fn accept(&mut self, message: &Number) -> Result<()> {
        let side = usize::try_from(message.side)?;
        let (Some(next), Some(due)) = (self.next.get_mut(side), self.due.get(side)) else { bail!("no side {side}") };
        ensure!(message.pair == self.pair, "a message of pair {} for pair {}", message.pair, self.pair);
        ensure!(*next < *due, "message {} of side {side}, from which {due} were due", message.sequence);
        ensure!(message.sequence == *next, "message {} of side {side} where {next} was due", message.sequence);
        *next += 1;
        Ok(())
    }
}

/// What a body says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    pair: u32,
    side: u32,
    sequence: u32,
    /// Microseconds after the beginning.
    sent_at: u64,
}

/// Reads a message's body; anything else is none of ours.
fn number(stanza: &[u8]) -> Option<Number> {
    let body = str::from_utf8(between(stanza, b"<body>", b'<')?).ok()?;
    let mut words = body.split(' ');
    let pair = words.next()?.parse().ok()?;
    let side = words.next()?.parse().ok()?;
    let sequence = words.next()?.parse().ok()?;
    let sent_at = words.next()?.parse().ok()?;
    Some(Number { pair, side, sequence, sent_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_within_a_copy() {
        let copy = b"<message><received><forwarded><message><body>00007 1 0000012 000000000345 ...</body></message>";
        assert_eq!(number(copy), Some(Number { pair: 7, side: 1, sequence: 12, sent_at: 345 }));
        assert_eq!(number(b"<presence from='a'/>"), None);
    }

    #[test]
    fn a_loss_a_repetition_a_swap_a_stranger_and_a_surplus_are_noticed() {
        let message = |pair, side, sequence| Number { pair, side, sequence, sent_at: 0 };
        let start = || Order { pair: 3, due: [2, 1], next: [0, 0] };
        for wrong in [
            vec![message(3, 0, 1)],
            vec![message(3, 0, 0), message(3, 0, 0)],
            vec![message(3, 0, 1), message(3, 0, 0)],
            vec![message(4, 0, 0)],
            vec![message(3, 2, 0)],
            vec![message(3, 1, 0), message(3, 1, 1)],
        ] {
            let mut order = start();
            assert!(wrong.iter().any(|message| order.accept(message).is_err()), "{wrong:?}");
        }
        let mut order = start();
        for right in [message(3, 0, 0), message(3, 1, 0), message(3, 0, 1)] {
            assert!(!order.complete());
            order.accept(&right).unwrap();
        }
        assert!(order.complete());
    }

    #[test]
    fn both_sides_together_send_all() {
        assert_eq!(shares(7), [4, 3]);
        assert_eq!(shares(1), [1, 0]);
    }
}
