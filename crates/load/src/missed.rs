//! `missed`: messages for those who are not there: stored, then delivered.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::enter::Door;
use crate::number::{Number, Order};
use crate::options::{Extras, Missed};
use crate::process::Process;
use crate::report::Report;
use crate::scan::has;
use crate::session::Session;

/// Logs in this many at a time.
const WIDTH: u32 = 16;
/// A sender asks the server for a sign of life after so many messages, as a client with a bound on what is under way.
const WINDOW: u32 = 50;

/// Even accounts send to odd ones, which then come and read.
pub async fn run(door: &Rc<Door>, server: Process, options: &Missed) -> Result<Report> {
    let (pairs, messages) = (options.pairs, options.messages);
    ensure!(pairs > 0 && messages > 0, "nothing to do");
    let total = f64::from(pairs) * f64::from(messages);
    let domain = door.domain().to_owned();
    let senders = door.many(pairs, WIDTH, options.extras, |n| (n * 2, "send".to_owned())).await?;
    let before = server.quiet().await?;
    let mut tasks = JoinSet::new();
    for (pair, session) in (0..).zip(senders) {
        let to = format!("{}{}@{domain}", door.prefix(), pair * 2 + 1);
        tasks.spawn_local(send(session, pair, to, messages, domain.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??.close().await?;
    }
    let stored = server.quiet().await? - before;

    let silent = Extras { silent: true, ..options.extras };
    let receivers = door.many(pairs, WIDTH, silent, |n| (n * 2 + 1, "receive".to_owned())).await?;
    let before = server.quiet().await?;
    for (pair, session) in (0..).zip(receivers) {
        tasks.spawn_local(receive(session, pair, messages));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??.close().await?;
    }
    let delivered = server.quiet().await? - before;
    let mut report = Report::default();
    report
        .add("missed_messages", total)
        .add("missed_store_cpu_us", stored as f64 / total)
        .add("missed_deliver_cpu_us", delivered as f64 / total);
    Ok(report)
}

async fn send(mut session: Session, pair: u32, to: String, messages: u32, domain: String) -> Result<Session> {
    for sequence in 0..messages {
        let number = Number { pair, side: 0, sequence, sent_at: 0 };
        session.put(number.message(&to).as_bytes());
        session.end_stanza();
        if (sequence + 1).is_multiple_of(WINDOW) || sequence + 1 == messages {
            session
                .put(format!("<iq type='get' id='ping' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>").as_bytes());
            let answer = session.answer_to("ping").await.with_context(|| format!("after message {sequence}"))?;
            ensure!(has(&answer, "result"), "{}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(session)
}

async fn receive(mut session: Session, pair: u32, messages: u32) -> Result<Session> {
    let mut order = Order::new(pair, [messages, 0]);
    session.put(b"<presence/>");
    session.end_stanza();
    session.flush().await?;
    while !order.complete() {
        session.fill().await?;
        while let Some(range) = session.take()? {
            let Some(message) = Number::read(session.get(range)) else { continue };
            order.accept(&message).with_context(|| format!("at {}", session.jid))?;
        }
        session.flush().await?;
    }
    Ok(session)
}
