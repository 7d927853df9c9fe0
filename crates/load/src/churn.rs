//! `churn`: connections that end without a word, at every stage of login. Memory and descriptors must be as before.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::enter::Door;
use crate::options::{Churn, Extras};
use crate::process::Process;
use crate::report::Report;
use crate::session::Session;
use crate::wire::Wire;

/// How far a connection gets before it ends.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// TCP.
    Connected,
    /// Half a stream's opening tag.
    HalfOpen,
    /// The features that offer STARTTLS.
    Offered,
    /// `<proceed/>`.
    Proceed,
    /// The first bytes of a ClientHello.
    HalfHello,
    /// TLS.
    Secured,
    /// The features that offer SASL, and half of an answer.
    HalfAuth,
    /// SCRAM's challenge.
    Challenged,
    /// SASL's success.
    Authenticated,
    /// A resource, no presence.
    Bound,
    /// Presence.
    Available,
}

const STAGES: [Stage; 11] = [
    Stage::Connected,
    Stage::HalfOpen,
    Stage::Offered,
    Stage::Proceed,
    Stage::HalfHello,
    Stage::Secured,
    Stage::HalfAuth,
    Stage::Challenged,
    Stage::Authenticated,
    Stage::Bound,
    Stage::Available,
];
/// How many before the measurement: what the server sets up once, and the room that its allocator keeps, is not counted.
const WARM_UP: u32 = 2000;
/// How many accounts take part.
const ACCOUNTS: u32 = 100;

/// `count` connections, each stage in turn.
pub async fn run(door: &Rc<Door>, server: Process, options: &Churn) -> Result<Report> {
    ensure!(options.count > 0, "nothing to do");
    all(door, WARM_UP.min(options.count), options.width).await?;
    let cpu_before = server.quiet().await?;
    let (rss_before, files_before) = (server.rss()?, server.files()?);
    all(door, options.count, options.width).await?;
    let used = server.quiet().await? - cpu_before;
    let (rss_after, files_after) = (server.rss()?, server.files()?);
    let mut report = Report::default();
    report
        .add("churn_connections", options.count.into())
        .add("churn_rss_before_mb", rss_before as f64 / 1024.0)
        .add("churn_rss_after_mb", rss_after as f64 / 1024.0)
        .add("churn_growth_bytes", (rss_after as f64 - rss_before as f64) * 1024.0 / f64::from(options.count))
        .add("churn_files_before", files_before as f64)
        .add("churn_files_after", files_after as f64)
        .add("churn_cpu_ms", used as f64 / 1000.0 / f64::from(options.count));
    Ok(report)
}

async fn all(door: &Rc<Door>, count: u32, width: u32) -> Result<()> {
    let next = Rc::new(Cell::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..width.min(count) {
        let (door, next) = (door.clone(), next.clone());
        workers.spawn_local(async move {
            while next.get() < count {
                let number = next.replace(next.get() + 1);
                let Some(stage) = STAGES.iter().copied().cycle().nth(number as usize % STAGES.len()) else { continue };
                partly(&door, number, stage).await.with_context(|| format!("connection {number}, {stage:?}"))?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Goes as far as the stage, and drops the connection.
async fn partly(door: &Door, number: u32, stage: Stage) -> Result<()> {
    let (account, resource) = (number % ACCOUNTS, format!("churn{number}"));
    let mut tcp = match stage {
        Stage::Bound | Stage::Available => {
            let silent = matches!(stage, Stage::Bound);
            return door.enter(account, &resource, Extras { silent, ..Extras::default() }).await.map(drop);
        }
        _ => door.connect().await?,
    };
    match stage {
        Stage::Connected => return Ok(()),
        Stage::HalfOpen => return Ok(tcp.write_all(b"<?xml version='1.0'?><stream:stream xmlns='jabber:cl").await?),
        Stage::Offered => {
            let mut session = Session::new(Wire::Tcp(tcp));
            door.open(&mut session);
            return session.expect("urn:ietf:params:xml:ns:xmpp-tls").await.map(drop);
        }
        _ => {}
    }
    let mut wire = door.starttls(tcp).await?;
    match stage {
        Stage::Proceed => return Ok(()),
        // RFC 8446 §5.1: a record of 512 bytes that holds a handshake, of which little comes.
        Stage::HalfHello => return Ok(wire.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await?),
        _ => {}
    }
    wire = door.tls().over(wire, door.domain()).await?;
    if matches!(stage, Stage::Secured) {
        return Ok(());
    }
    let mut session = Session::new(wire);
    door.open(&mut session);
    match stage {
        Stage::HalfAuth => {
            session.answer().await?;
            session.put(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biws");
            session.flush().await
        }
        Stage::Challenged => door.challenge(&mut session, account).await.map(drop),
        _ => door.authenticate(&mut session, account).await,
    }
}
