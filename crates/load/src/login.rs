//! `login`: TCP, STARTTLS, SCRAM, resource and initial presence.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;

use crate::enter::Door;
use crate::options::{Extras, Login};
use crate::process::Process;
use crate::report::Report;

/// Two passes: one after the other, then `width` at a time. The sessions stay until their pass has been measured.
pub async fn run(door: &Rc<Door>, server: Process, options: &Login) -> Result<Report> {
    let mut report = Report::default();
    let passes = [("login_cpu_ms", "login_wall_s", 1), ("login_wide_cpu_ms", "login_wide_wall_s", options.width)];
    for (cpu, wall, width) in passes {
        let before = server.quiet().await?;
        let began = Instant::now();
        let sessions = door.many(options.users, width, Extras::default(), |n| (n, "login".to_owned())).await?;
        let took = began.elapsed();
        let used = server.quiet().await? - before;
        report.add(cpu, used as f64 / 1000.0 / f64::from(options.users)).add(wall, took.as_secs_f64());
        for session in sessions {
            session.close().await?;
        }
    }
    Ok(report)
}
