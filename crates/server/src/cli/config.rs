//! `vorpal config`: the configuration in words, and whether it is right.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::json;
use vorpal_core::server::core_names;

use crate::{Program, certificates, files, reload, warnings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Tells the mistakes of the configuration, its certificates included, and what is allowed but hardly meant.
    Check,
    /// Explains a key, a section, or which modules there are (`modules`).
    Explain {
        /// Its path: limits.login_time, limits, modules.
        key: String,
    },
    /// Prints a file of all keys with their defaults and descriptions.
    Default,
    /// Tells the running server to read its configuration again: all of it takes effect, or nothing.
    Apply,
}

pub(super) fn run(command: Command, path: Option<&Path>, program: Program, json: bool) -> Result<()> {
    match command {
        Command::Check => check(path, program, json),
        Command::Explain { key } => {
            let text = vorpal_config::explain(&key, &program.known())?;
            say(&text, "explanation", json);
            Ok(())
        }
        Command::Default => {
            say(&vorpal_config::default_file(&program.known()), "file", json);
            Ok(())
        }
        Command::Apply => bail!("only a server that runs can be told to reload"),
    }
}

fn say(text: &str, name: &str, json: bool) {
    if json { println!("{}", json!({ name: text })) } else { print!("{text}") }
}

fn check(path: Option<&Path>, program: Program, json: bool) -> Result<()> {
    let (errors, warnings) = match program.read(path) {
        Err(errors) => (errors.iter().map(ToString::to_string).collect(), Vec::new()),
        Ok(config) => {
            let mut errors = reload::check(&config, program, &core_names());
            errors.extend(certificates::refused_by_clients(&config));
            errors.extend(files::check(&config.data).err());
            let errors: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
            (errors, warnings::of(&config, program))
        }
    };
    if json {
        println!("{}", json!({ "right": errors.is_empty(), "errors": errors, "warnings": warnings }));
    } else {
        errors.iter().for_each(|error| println!("{error}"));
        warnings.iter().for_each(|warning| println!("warning: {warning}"));
    }
    let what = path.map_or_else(|| "no file: the defaults".to_owned(), |path| path.display().to_string());
    match (errors.len(), warnings.len()) {
        (0, _) if json => Ok(()),
        (0, 0) => {
            println!("{what}: in order");
            Ok(())
        }
        (0, number) => {
            println!("{what}: in order, with warnings: {number}");
            Ok(())
        }
        (1, _) => bail!("{what}: there is one mistake"),
        (more, _) => bail!("{what}: there are {more} mistakes"),
    }
}
