//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};

use self::orders::Target;
use self::show::{Told, show};
use crate::Program;
use crate::orders::Order;

mod cert;
mod config;
mod flow;
mod orders;
mod out;
mod show;
mod text;
mod top;
mod trace;
mod user;
mod xep;

/// How long running reads may take after the server has ended.
const LAST_READS: Duration = Duration::from_secs(2);

/// An XMPP server that keeps its word: acknowledged means durable.
#[derive(Parser)]
#[command(name = "vorpal", version)]
struct Cli {
    /// The configuration file. Default: the file that VORPAL_CONFIG names, else /etc/vorpal/vorpal.toml if it exists. Without any
    /// file, the server serves localhost with the defaults, and the data directory is ./data.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Named,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server until it is told to stop.
    Serve,
    /// Creates, changes, shows and lists accounts.
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Shows the state of the server: accounts, sessions, listeners, certificates, disk.
    Status,
    /// Shows the activity of the server, refreshed each second until interrupted. With --json, one line for each second.
    Top {
        /// Shows one second and exits.
        #[arg(long)]
        once: bool,
    },
    /// Follows the stanzas of one account until interrupted: the decisions about each, and the reasons. Shows addresses and ids,
    /// never message texts.
    Trace {
        /// The address of the account.
        #[arg(value_name = "NAME@HOST")]
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
    /// Shows the certificates of the hosts.
    Cert {
        #[command(subcommand)]
        command: cert::Command,
    },
    /// Shows which modules handle what, in the order in which they run.
    Flow {
        /// Shows the modules as configured for this host. Without a host, shows all modules with their defaults.
        host: Option<String>,
    },
    /// Shows where an extension is implemented, and what it handles.
    Xep {
        /// Its number: 198, 0198 or XEP-0198.
        #[arg(value_parser = xep::number)]
        number: u16,
    },
}

/// Command names that operators know from other servers. They are not shown in the help.
#[derive(Subcommand)]
enum Alias {
    /// Creates an account: `user add`.
    #[command(hide = true)]
    Adduser {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// The password; other users of this machine can see it while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Sets a new password: `user passwd`.
    #[command(hide = true)]
    Passwd {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// Ends all sessions of the account.
        #[arg(long)]
        end_sessions: bool,
        /// The password; other users of this machine can see it while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Deletes an account: `user rm`.
    #[command(hide = true)]
    Deluser {
        /// Its address.
        #[arg(value_name = "NAME@HOST")]
        jid: String,
        /// Does not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Applies the configuration: `config apply`.
    #[command(hide = true)]
    Reload,
    /// Checks the configuration: `config check`.
    #[command(hide = true)]
    Check,
}

impl Alias {
    /// The command that it stands for.
    fn command(self) -> Command {
        match self {
            Alias::Adduser { jid, password } => Command::User { command: user::Command::Add { jid, password } },
            Alias::Passwd { jid, end_sessions, password } => {
                Command::User { command: user::Command::Passwd { jid, end_sessions, password } }
            }
            Alias::Deluser { jid, yes } => Command::User { command: user::Command::Rm { jid, yes } },
            Alias::Reload => Command::Config { command: config::Command::Apply },
            Alias::Check => Command::Config { command: config::Command::Check },
        }
    }
}

/// A command by its own name, or by an alias.
#[derive(Subcommand)]
enum Named {
    #[command(flatten)]
    Command(Command),
    #[command(flatten)]
    Alias(Alias),
}

#[derive(Subcommand)]
enum Session {
    /// Lists sessions.
    List {
        /// Only those of this account.
        #[arg(value_name = "NAME@HOST")]
        jid: Option<String>,
    },
    /// Ends a session, or all sessions of an account.
    Kick {
        /// The full address of the session, or the address of the account.
        #[arg(value_name = "NAME@HOST[/RESOURCE]")]
        jid: String,
    },
}

/// Runs the command of the process's arguments, with the modules of this program.
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
        let told = Told::of(&order);
        show(runtime()?.block_on(target()?.give_running(order))?, told, json)
    };
    let command = match cli.command {
        Named::Command(command) => command,
        Named::Alias(alias) => alias.command(),
    };
    if matches!(command, Command::Serve | Command::User { .. }) {
        crate::secret::protect_memory();
    }
    match command {
        Command::Serve => {
            let (runtime, config) = (runtime()?, target()?.config);
            let served = runtime.block_on(crate::run::serve(config, path.clone(), program));
            // A read that hangs on the disk must not keep the process alive.
            runtime.shutdown_timeout(LAST_READS);
            served
        }
        Command::User { command } => {
            let file = match &command {
                user::Command::Import { file } => user::shown(file),
                _ => String::new(),
            };
            let (target, order) = (target()?, command.order()?);
            if let Order::UserImport { users } = order {
                let (config, lines) = (target.config.clone(), users.clone());
                let answer = runtime()?.block_on(target.give(Order::UserImport { users }))?;
                return show::imported(answer, &file, |imported| user::advice(&config, &lines, imported), json);
            }
            let told = Told::of(&order);
            show(runtime()?.block_on(target.give(order))?, told, json)
        }
        Command::Top { once } => runtime()?.block_on(top::run(&target()?, once, json)),
        Command::Trace { jid } => runtime()?.block_on(trace::run(&target()?, &jid, json)),
        Command::Status => running(Order::Status),
        Command::Session { command: Session::List { jid } } => running(Order::SessionList { jid }),
        Command::Session { command: Session::Kick { jid } } => running(Order::SessionKick { jid }),
        Command::Config { command: config::Command::Apply } => {
            // The server reads the file itself; the command reads it to find the server, and has to say what that means.
            target().map_err(|error| anyhow!("nothing was reloaded:\n{error:#}"))?;
            running(Order::Reload)
        }
        Command::Config { command } => config::run(command, path.as_deref(), program, json),
        Command::Cert { command: cert::Command::List } => runtime()?.block_on(cert::list(&target()?, json)),
        Command::Flow { host } => flow::run(host.as_deref(), path.as_deref(), program, json),
        Command::Xep { number } => xep::run(number, program, json),
    }
}
