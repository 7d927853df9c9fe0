//! `fresh`: what a server takes that nobody uses.

use anyhow::Result;

use crate::process::Process;
use crate::report::Report;

/// Memory once the server is quiet.
pub async fn run(server: Process) -> Result<Report> {
    server.quiet().await?;
    let mut report = Report::default();
    report.add("fresh_rss_mb", server.rss()? as f64 / 1024.0);
    Ok(report)
}
