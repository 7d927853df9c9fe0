//! `vorpal-load`: measures any XMPP server by the server's own CPU time and memory per unit of work.
//!
//! It runs on the server's machine, on one thread, and uses little CPU: stanzas are templates, and received stanzas are counted
//! rather than parsed. Rates and latencies depend on other load on the machine; the server's CPU time hardly does.

#![expect(clippy::disallowed_methods, reason = "a load is measured by the clock")]

mod archive;
mod burst;
mod chat;
mod churn;
mod enter;
mod fresh;
mod idle;
mod login;
mod missed;
mod number;
mod options;
mod process;
mod report;
mod roster;
mod scan;
mod scram;
mod session;
mod wire;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::task::LocalSet;

use crate::enter::Door;
use crate::options::{Mode, Options};
use crate::process::Process;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vorpal-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limit = Duration::from_secs(options.target.timeout);
    let report = LocalSet::new().block_on(&runtime, async {
        let server = Process::new(options.target.pid)?;
        let door = Rc::new(Door::new(options.target.clone())?);
        let work = async {
            match &options.mode {
                Mode::Login(login) => login::run(&door, server, login).await,
                Mode::Idle(idle) => idle::run(&door, server, idle).await,
                Mode::Chat(chat) => chat::run(&door, server, chat).await,
                Mode::Fresh => fresh::run(server).await,
                Mode::Page(page) => archive::run(&door, server, page).await,
                Mode::Subscribe(subscribe) => roster::subscribe(&door, server, subscribe).await,
                Mode::Storm(storm) => roster::storm(&door, server, storm).await,
                Mode::Missed(missed) => missed::run(&door, server, missed).await,
                Mode::Burst(burst) => burst::run(&door, server, burst).await,
                Mode::Churn(churn) => churn::run(&door, server, churn).await,
            }
        };
        tokio::time::timeout(limit, work)
            .await
            .context("not done in time: something was lost, or --timeout is too short")?
    })?;
    print!("{}", report.text(options.target.json));
    Ok(())
}
