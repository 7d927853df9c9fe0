//! `chat`: pairs of users who answer each other.
//!
//! The first of a pair sends as many messages as may be under way; each message that arrives is answered by one, until both
//! have sent their share. So the number under way stays the same, and a server that takes several stanzas from one read can
//! show it. Every receiver checks that numbers come without gap, repetition or change of order.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::archive;
use crate::enter::Door;
use crate::number::{Number, Order};
use crate::options::Chat;
use crate::process::Process;
use crate::report::{Report, percentile};
use crate::session::Session;

/// Logs in this many at a time.
const WIDTH: u32 = 16;
/// The resource of those who talk.
const TALK: &str = "talk";
/// How long a session is read after all is done, to see what should not be there.
const STRAY: Duration = Duration::from_millis(2);

/// Runs the chat and checks it.
pub async fn run(door: &Rc<Door>, server: Process, options: &Chat) -> Result<Report> {
    ensure!(options.in_flight > 0 && options.pairs > 0 && options.messages > 0, "nothing to do");
    let extras = options.extras;
    let users = options.pairs * 2;
    let mut talkers = door.many(users, WIDTH, extras, |n| (n, TALK.to_owned())).await?;
    let watchers = match extras.carbons {
        true => door.many(users, WIDTH, extras, |n| (n, "watch".to_owned())).await?,
        false => Vec::new(),
    };

    if options.archived {
        let first = talkers.first_mut().context("at least one pair")?;
        archive::require(first).await?;
    }
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
            ensure!(Number::read(session.get(range)).is_none(), "{} got one message too many", session.jid);
        }
        if options.archived && session.jid.ends_with(TALK) {
            archive::require_newest(&mut session, shares(options.messages)).await?;
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
        let order = Order::new(pair, due);
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
                let Some(message) = Number::read(self.session.get(range)) else { continue };
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
        let sent_at = u64::try_from(self.began.elapsed().as_micros())?;
        let number = Number { pair: self.pair, side: self.side, sequence: self.sent, sent_at };
        self.session.put(number.message(&self.partner).as_bytes());
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
    let mut order = Order::new(pair, shares(messages));
    while !order.complete() {
        session.fill().await?;
        while let Some(range) = session.take()? {
            let Some(message) = Number::read(session.get(range)) else { continue };
            order.accept(&message).with_context(|| format!("copy at {}", session.jid))?;
        }
        session.flush().await?;
    }
    Ok((session, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_together_send_all() {
        assert_eq!(shares(7), [4, 3]);
        assert_eq!(shares(1), [1, 0]);
    }
}
