//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::orders::{Target, did, show};
use crate::Program;
use crate::control::Order;

mod cert;
mod config;
mod flow;
mod orders;
mod top;
mod trace;
mod user;
mod xep;

/// How long reads that are under way may take when a server has ended.
const LAST_READS: Duration = Duration::from_secs(2);

/// An XMPP server that keeps its word: acknowledged means durable.
#[derive(Parser)]
#[command(name = "vorpal", version)]
struct Cli {
    /// The configuration. Without this option the file that VORPAL_CONFIG names, else /etc/vorpal/vorpal.toml if there is one;
    /// without any, localhost is served with defaults, and the data are in ./data.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answers in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until it is told to stop.
    Serve,
    /// Creates, changes and lists accounts.
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// How the server is.
    Status,
    /// What the server does, live: refreshed each second until it is interrupted. With --json, a line for each second.
    Top {
        /// Shows one second, and ends.
        #[arg(long)]
        once: bool,
    },
    /// Follows what is decided about one account's stanzas, and why, until it is interrupted. Shows addresses and ids, never
    /// what people write.
    Trace {
        /// Its address: name@host.
        jid: String,
    },
    /// Lists and ends sessions.
    Session {
        #[command(subcommand)]
        command: Session,
    },
    /// Checks, explains and applies the configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// The certificates of the hosts.
    Cert {
        #[command(subcommand)]
        command: cert::Command,
    },
    /// Which module takes part in what, in the order in which they run.
    Flow {
        /// As configured for this host; without one, every module there is.
        host: Option<String>,
    },
    /// Where an extension is implemented, and what it takes part in.
    Xep {
        /// Its number.
        number: u16,
    },
}

#[derive(Subcommand)]
enum Session {
    /// Lists all sessions.
    List,
    /// Ends a session, or all sessions of an account.
    Kick {
        /// The full address of the session, or the address of the account.
        jid: String,
    },
}

/// Runs the command that the process was given, with the modules of this program.
pub fn main() -> ExitCode {
    run(Program::VORPAL)
}

/// Runs the command with these modules: for a program with modules of its own.
pub fn run(program: Program) -> ExitCode {
    crate::files::keep_private();
    let cli = Cli::parse();
    match execute(cli, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vorpal: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli, program: Program) -> Result<()> {
    let (path, json) = (Program::file(cli.config), cli.json);
    let target = || Target::read(program, path.clone());
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let running = |order: Order| {
        let did = did(&order);
        show(runtime()?.block_on(target()?.give_running(order))?, did, json)
    };
    if matches!(cli.command, Command::Serve | Command::User { .. }) {
        crate::secret::protect_memory();
    }
    match cli.command {
        Command::Serve => {
            let (runtime, config) = (runtime()?, target()?.config);
            let served = runtime.block_on(crate::run::serve(config, path.clone(), program));
            // A read that hangs on the disk does not keep a server that has ended.
            runtime.shutdown_timeout(LAST_READS);
            served
        }
        Command::User { command } => {
            let (target, order) = (target()?, command.order()?);
            let advice = user::advice(&target.config, &order);
            let did = did(&order);
            show(runtime()?.block_on(target.give(order))?, did, json)?;
            advice.iter().for_each(|line| eprintln!("vorpal: {line}"));
            Ok(())
        }
        Command::Top { once } => runtime()?.block_on(top::run(&target()?, once, json)),
        Command::Trace { jid } => runtime()?.block_on(trace::run(&target()?, &jid, json)),
        Command::Status => running(Order::Status),
        Command::Session { command: Session::List } => running(Order::SessionList),
        Command::Session { command: Session::Kick { jid } } => running(Order::SessionKick { jid }),
        Command::Config { command: config::Command::Apply } => running(Order::Reload),
        Command::Config { command } => config::run(command, path.as_deref(), program, json),
        Command::Cert { command: cert::Command::List } => runtime()?.block_on(cert::list(&target()?, json)),
        Command::Flow { host } => flow::run(host.as_deref(), path.as_deref(), program, json),
        Command::Xep { number } => xep::run(number, program, json),
    }
}
