//! `vorpal xep`: where an extension is implemented.
//!
//! The files come from `docs/xeps.md`, which is generated from the sources and built into the program.

use anyhow::{Result, bail};
use serde_json::json;

use super::out;
use crate::Program;

/// The page, kept up to date by a test.
const PAGE: &str = include_str!("../../../../docs/xeps.md");

/// One line of its table.
struct Row<'a> {
    number: u16,
    version: &'a str,
    file: &'a str,
    module: &'a str,
    stores: &'a str,
    config: &'a str,
}

/// The number of an extension, with or without `XEP-` before it.
///
/// # Errors
/// It is not a number.
pub(super) fn number(text: &str) -> Result<u16, String> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("XEP").map_or(upper.as_str(), |rest| rest.trim_start_matches(['-', ' ']));
    digits.parse().map_err(|_| "expected the number of an extension, such as 198, 0198 or XEP-0198".to_owned())
}

pub(super) fn run(number: u16, program: Program, json: bool) -> Result<()> {
    let rows: Vec<Row<'_>> = PAGE.lines().filter_map(row).filter(|row| row.number == number).collect();
    // Modules of another program are not in this page.
    let others: Vec<_> = program
        .modules
        .iter()
        .filter(|module| !rows.iter().any(|row| row.module == module.name))
        .filter_map(|module| Some((module.name, module.xeps.iter().find(|xep| xep.0 == number)?.1)))
        .map(|(module, version)| Row { number, version, file: "", module, stores: "", config: "" })
        .collect();
    if rows.is_empty() && others.is_empty() {
        bail!("XEP-{number:04} is not implemented here");
    }
    let registry = program.registry()?;
    let facts = rows.iter().chain(&others).map(|row| {
        json!({
            "xep": number,
            "version": row.version,
            "file": row.file.replace('`', ""),
            "module": row.module,
            "hooks": registry.hooks_of(row.module),
            "stores": row.stores.replace('`', ""),
            "config": row.config.replace('`', ""),
        })
    });
    let facts: Vec<_> = facts.collect();
    if json {
        return out::line(serde_json::to_string_pretty(&facts)?);
    }
    for fact in &facts {
        out::line(format_args!("XEP-{number:04}"))?;
        for name in ["version", "file", "module", "stores", "config"] {
            let value = fact[name].as_str().unwrap_or_default();
            if !value.is_empty() {
                out::line(format_args!("{name:>9}  {value}"))?;
            }
        }
        let hooks = fact["hooks"].as_array().into_iter().flatten().filter_map(|hook| hook.as_str());
        for (at, hook) in hooks.enumerate() {
            out::line(format_args!("{:>9}  {hook}", if at == 0 { "hooks" } else { "" }))?;
        }
    }
    Ok(())
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut cells = line.strip_prefix("| XEP-")?.split('|').map(str::trim);
    let number = cells.next()?.parse().ok()?;
    let mut cell = || cells.next().map(|cell| if cell == "–" { "" } else { cell });
    Some(Row { number, version: cell()?, file: cell()?, module: cell()?, stores: cell()?, config: cell()? })
}
