//! `vorpal config`: checks, explains and applies the configuration.
//!
//! The texts about modules come from `docs/modules.md`, which is generated from the sources and built into the program.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::json;
use vorpal_core::core::core_names;

use super::out;
use crate::{Program, assemble, certificates, files, warnings};

/// The page of all modules, kept up to date by a test.
const PAGE: &str = include_str!("../../../../docs/modules.md");

#[derive(Subcommand)]
pub(super) enum Command {
    /// Checks the configuration and its certificates. Prints errors, and warnings about valid but probably unintended settings.
    Check,
    /// Explains a key, a section or a module. Without an argument, lists all keys with one line each.
    Explain {
        /// A path, for example limits.login_time, limits or modules.mam; `modules` lists the modules.
        key: Option<String>,
    },
    /// Prints a configuration file with all keys, their defaults and descriptions.
    Default,
    /// Makes the running server read its configuration again. Either all changes take effect, or none.
    Apply,
}

pub(super) fn run(command: Command, path: Option<&Path>, program: Program, json: bool) -> Result<()> {
    match command {
        Command::Check => check(path, program, json),
        Command::Explain { key } => {
            let text = match key {
                Some(key) => explain(&key, program)?,
                None => vorpal_config::overview(&program.known()),
            };
            say(&text, "explanation", json)
        }
        Command::Default => say(&vorpal_config::default_file(&program.known()), "file", json),
        Command::Apply => bail!("only a running server can be told to reload"),
    }
}

/// The description of a key, a section or a module.
fn explain(key: &str, program: Program) -> Result<String> {
    let text = vorpal_config::explain(key, &program.known())?;
    let about = key.strip_prefix("modules.").and_then(about);
    Ok(match (about, text.split_once('\n')) {
        (Some(about), Some((title, keys))) => format!("{title}\n{about}\n{keys}"),
        _ => text,
    })
}

/// The description of a module: its part of the page, indented.
fn about(module: &str) -> Option<String> {
    let title = format!("\n## {module}\n\n");
    let (_, part) = PAGE.split_once(&title)?;
    let part = part.split("\n## ").next()?.trim_end();
    Some(part.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("  {line}\n") }).collect())
}

fn say(text: &str, name: &str, json: bool) -> Result<()> {
    if json { out::line(json!({ name: text })) } else { out::write(text).map(drop) }
}

fn check(path: Option<&Path>, program: Program, json: bool) -> Result<()> {
    let (errors, warnings) = match program.read(path) {
        Err(errors) => (errors.iter().map(ToString::to_string).collect(), Vec::new()),
        Ok(config) => {
            let mut errors = assemble::check(&config, program, &core_names());
            errors.extend(certificates::refused_by_clients(&config));
            errors.extend(files::check(&config.data).err());
            let errors: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
            (errors, warnings::of(&config, program))
        }
    };
    if json {
        out::line(json!({ "right": errors.is_empty(), "errors": errors, "warnings": warnings }))?;
    } else {
        errors.iter().try_for_each(out::line)?;
        warnings.iter().try_for_each(|warning| out::line(format_args!("warning: {warning}")))?;
    }
    let what = path.map_or_else(|| "no file: the defaults".to_owned(), |path| path.display().to_string());
    match (errors.len(), warnings.len()) {
        (0, _) if json => Ok(()),
        (0, 0) => out::line(format_args!("{what}: in order")),
        (0, number) => out::line(format_args!("{what}: in order, with warnings: {number}")),
        (1, _) => bail!("{what}: 1 error"),
        (more, _) => bail!("{what}: {more} errors"),
    }
}
