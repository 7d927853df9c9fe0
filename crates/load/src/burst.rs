//! `burst`: how fast the server gets through work that lies ready, while nothing else runs: do more cores help?
//!
//! A load program on the same machine takes about as much CPU as the server, so it would keep the second core busy, and
//! a server that can use only one would look as fast on both. Hence the server is stopped (SIGSTOP), messages for
//! all pairs are written into the sockets, and it is let go on (SIGCONT) while this program sleeps, but for a look at the server's
//! CPU time every few milliseconds. What the server says meanwhile has to fit into the sockets' buffers; reading it comes
//! after, and is checked like any chat. The wall time from SIGCONT to the last CPU time used is the server's
//! own: with one core and with two it does the same work.
//!
//! What others use of the same cores meanwhile is taken off: `burst_core_us` is the time of the cores the server may
//! run on, less what others used, per message. Idle time counts, so a server that leaves a core idle pays for it.
//! Throughput on two cores against one is the ratio of `2 × one core's` to `two cores'` core time.

use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::timeout;

use crate::enter::Door;
use crate::number::{Number, Order};
use crate::options::{Burst, Extras};
use crate::process::{Cores, Meter, Process};
use crate::report::Report;
use crate::session::Session;

/// Logs in this many at a time.
const WIDTH: u32 = 16;
/// How often the server's CPU time is looked at.
const LOOK: Duration = Duration::from_millis(4);
/// It is done when it has used less than a fiftieth of a core for so long.
const STILL: Duration = Duration::from_millis(200);
/// A write that waits for so long does not fit into the sockets' buffers.
const FITS: Duration = Duration::from_secs(2);

/// Bursts of `messages` from the first of each pair to the second.
pub async fn run(door: &Rc<Door>, server: Process, options: &Burst) -> Result<Report> {
    ensure!(options.pairs > 0 && options.messages > 0 && options.times > 0, "nothing to do");
    let extras = Extras::default();
    let mut senders = door.many(options.pairs, WIDTH, extras, |n| (n * 2, "burst".to_owned())).await?;
    let mut receivers = door.many(options.pairs, WIDTH, extras, |n| (n * 2 + 1, "burst".to_owned())).await?;
    let mut sum = Took::default();
    // The first is not counted: it warms the server up.
    for time in 0..=options.times {
        let took =
            once(server, options, &mut senders, &mut receivers).await.with_context(|| format!("burst {time}"))?;
        if time > 0 {
            sum.wall += took.wall;
            sum.cpu += took.cpu;
            sum.core += took.core;
            sum.others += took.others;
        }
    }
    for session in senders.into_iter().chain(receivers) {
        session.close().await?;
    }
    let total = f64::from(options.pairs) * f64::from(options.messages) * f64::from(options.times);
    let mut report = Report::default();
    report
        .add("burst_messages", total)
        .add("burst_cpu_us", sum.cpu * 1e6 / total)
        .add("burst_core_us", sum.core * 1e6 / total)
        .add("burst_per_s", total / sum.wall)
        .add("burst_cores_used", sum.cpu / sum.wall)
        .add("burst_others_cores", sum.others / sum.wall);
    Ok(report)
}

/// In seconds: from the signal to the end; of the server; of the cores it may use, less `others`.
#[derive(Default)]
struct Took {
    wall: f64,
    cpu: f64,
    core: f64,
    others: f64,
}

async fn once(server: Process, options: &Burst, senders: &mut [Session], receivers: &mut [Session]) -> Result<Took> {
    server.quiet().await?;
    let stopped = Stopped::new(server)?;
    for (pair, (sender, receiver)) in (0..).zip(senders.iter_mut().zip(receivers.iter())) {
        for sequence in 0..options.messages {
            sender.put(Number { pair, side: 0, sequence, sent_at: 0 }.message(&receiver.jid).as_bytes());
        }
        timeout(FITS, sender.flush()).await.context("the messages do not fit into the socket: take fewer")??;
    }
    let cores = Cores::of(server)?;
    let mut meter = Meter::new(server);
    let (others_before, cpu_before) = (cores.busy()?, meter.read()?);
    drop(stopped);
    let began = Instant::now();
    let (mut wall, mut cpu, mut busy) = (Duration::ZERO, cpu_before, others_before);
    loop {
        tokio::time::sleep(LOOK).await;
        let (now, used, all) = (began.elapsed(), meter.read()?, cores.busy()?);
        if (used - cpu).as_secs_f64() > (now - wall).as_secs_f64() / 50.0 {
            (wall, cpu, busy) = (now, used, all);
        } else if now - wall > STILL {
            break;
        }
    }
    let before_reading = meter.read()?;
    for (pair, receiver) in (0..).zip(receivers.iter_mut()) {
        let mut order = Order::new(pair, [options.messages, 0]);
        while !order.complete() {
            timeout(FITS, receiver.fill()).await.context("messages are missing")??;
            while let Some(range) = receiver.take()? {
                let Some(message) = Number::read(receiver.get(range)) else { continue };
                order.accept(&message)?;
            }
        }
    }
    let after = (meter.read()? - before_reading).as_secs_f64();
    let (wall, cpu, busy) =
        (wall.as_secs_f64(), (cpu - cpu_before).as_secs_f64(), (busy - others_before).as_secs_f64());
    ensure!(after < cpu / 20.0, "the server had more to do when its messages were read: they did not fit, take fewer");
    let others = (busy - cpu).max(0.0);
    Ok(Took { wall, cpu, core: wall * cores.count() - others, others })
}

/// A stopped server; it goes on when this is dropped, whatever happens.
struct Stopped(Process);

impl Stopped {
    fn new(server: Process) -> Result<Stopped> {
        signal(server, "-STOP")?;
        Ok(Stopped(server))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = signal(self.0, "-CONT") {
            eprintln!("vorpal-load: the server stays stopped: {error:#}");
        }
    }
}

fn signal(server: Process, name: &str) -> Result<()> {
    let done = Command::new("kill").args([name, &server.id().to_string()]).status()?;
    ensure!(done.success(), "kill {name}: {done}");
    Ok(())
}
