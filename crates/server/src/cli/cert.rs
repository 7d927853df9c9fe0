//! `vorpal cert`: the certificates of the hosts.

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::orders::Target;
use super::out;
use crate::certificates;
use crate::control::{self, Unreached};
use crate::orders::{Answer, Order};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists the certificates that the running server uses, one line for each host; without a server, those in the files.
    List,
}

/// Shows, for every host, the names in its certificate, the issuer, the expiry date, and warnings.
pub(super) async fn list(target: &Target, json: bool) -> Result<()> {
    let rows = match control::order(&target.socket(), &Order::CertList).await {
        Ok(Answer::Rows(rows)) => rows,
        Ok(Answer::Error(error)) => anyhow::bail!("{error}"),
        Ok(_) => Vec::new(),
        // No server is running: shows what a server would load.
        Err(error) => match error.downcast_ref::<Unreached>() {
            Some(Unreached(cause)) if cause.kind() != std::io::ErrorKind::PermissionDenied => {
                certificates::rows_of_files(&target.config)
            }
            _ => return Err(target.unanswered(error)),
        },
    };
    if json {
        out::line(serde_json::to_string_pretty(&rows)?)
    } else {
        rows.iter().try_for_each(|row| out::line(line(row)))
    }
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    if row.get("error").is_some() {
        return format!("{}  {}", text("host"), text("error"));
    }
    let list =
        |name: &str| -> Vec<&str> { row[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let issuer =
        if row["self_signed"] == true { "self-signed".to_owned() } else { format!("issued by {}", text("issuer")) };
    let mut line = format!(
        "{}  until {} ({} days)  {issuer}  for {}  {}",
        text("host"),
        text("until"),
        row["days"],
        list("names").join(", "),
        text("file"),
    );
    for warning in list("warnings") {
        line += &format!("\n    {warning}");
    }
    line
}
