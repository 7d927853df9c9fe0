//! `idle`: what a session costs that does nothing.

use std::rc::Rc;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::enter::Door;
use crate::options::Idle;
use crate::process::Process;
use crate::report::Report;

/// Logs in this many at a time.
const WIDTH: u32 = 16;

/// Memory before and after, both when the server is quiet. The server should be freshly started, or it fills the room
/// that others have left.
pub async fn run(door: &Rc<Door>, server: Process, options: &Idle) -> Result<Report> {
    let accounts = options.accounts.unwrap_or(options.sessions).max(1);
    let who = move |n| (n % accounts, format!("idle{}", n / accounts));
    for session in door.many(options.warm_up, 1, options.extras, who).await? {
        session.close().await?;
    }
    let cpu_before = server.quiet().await?;
    let before = server.rss()?;
    let sessions = door.many(options.sessions, WIDTH, options.extras, who).await?;
    let mut sitting = JoinSet::new();
    for mut session in sessions {
        sitting.spawn_local(async move { session.sit().await });
    }
    let cpu_after = server.quiet().await?;
    let after = server.rss()?;
    if let Some(ended) = sitting.try_join_next() {
        ended??; // a session that does not last would be counted as a cheap one
    }
    let count = f64::from(options.sessions);
    let mut report = Report::default();
    report
        .add("idle_sessions", count)
        .add("idle_rss_kb_per_session", (after as f64 - before as f64) / count)
        .add("idle_rss_before_kb", before as f64)
        .add("idle_rss_after_kb", after as f64)
        .add("idle_login_cpu_ms", (cpu_after - cpu_before) as f64 / 1000.0 / count);
    Ok(report)
}
