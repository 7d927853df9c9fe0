//! `vorpal user`: accounts.

use std::io::{IsTerminal, Read};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::control::Order;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Creates an account. The password is asked for, or read from standard input.
    Add {
        /// Its address: name@host.
        jid: String,
        /// The password; visible to others on this machine while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Creates accounts from a file: in each line an address, then what is stored of its password, as RFC 5803 writes it
    /// (`SCRAM-SHA-1$iterations:salt$stored-key:server-key`), once or for several mechanisms.
    Import {
        /// The file.
        file: std::path::PathBuf,
    },
    /// Sets another password.
    Passwd {
        /// Whose.
        jid: String,
        /// The password; visible to others on this machine while the command runs.
        #[arg(long)]
        password: Option<String>,
    },
    /// Lists accounts.
    List {
        /// Of this host only.
        host: Option<String>,
    },
    /// Deletes an account and everything it has.
    Rm {
        /// Which.
        jid: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Lets nobody log in to an account, and ends its sessions.
    Disable {
        /// Which.
        jid: String,
    },
    /// Lets a disabled account log in again.
    Enable {
        /// Which.
        jid: String,
    },
}

impl Command {
    pub(super) fn order(self) -> Result<Order> {
        Ok(match self {
            Command::Add { jid, password } => Order::UserAdd { jid, password: secret(password)? },
            Command::Import { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
                let users = text.lines().filter_map(|line| {
                    let mut words = line.split_whitespace().map(str::to_owned);
                    Some((words.next()?, words.collect()))
                });
                Order::UserImport { users: users.collect() }
            }
            Command::Passwd { jid, password } => Order::UserPasswd { jid, password: secret(password)? },
            Command::List { host } => Order::UserList { host },
            Command::Rm { jid, yes } => {
                if !yes && !sure(&jid)? {
                    bail!("nothing was deleted");
                }
                Order::UserRm { jid }
            }
            Command::Disable { jid } => Order::UserDisable { jid, disabled: true },
            Command::Enable { jid } => Order::UserDisable { jid, disabled: false },
        })
    }
}

fn secret(given: Option<String>) -> Result<String> {
    if let Some(password) = given {
        return Ok(password);
    }
    if !std::io::stdin().is_terminal() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the password")?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let password = rpassword::prompt_password("Password: ")?;
    if password != rpassword::prompt_password("Again: ")? {
        bail!("the two are not the same");
    }
    Ok(password)
}

fn sure(jid: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("deleting {jid} needs --yes");
    }
    eprint!("Delete {jid} and everything it has? [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "yes"))
}
