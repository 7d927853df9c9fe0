//! `vorpal flow`: hook, phase and modules, in the order in which they run.

use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::json;
use vorpal_core::core::core_names;
use vorpal_core::module::registry::Registry;

use super::out;
use crate::Program;
use crate::assemble::registries;

pub(super) fn run(host: Option<&str>, path: Option<&Path>, program: Program, json: bool) -> Result<()> {
    let registry = match host {
        None => program.registry()?,
        Some(host) => of_host(host, path, program)?,
    };
    let flow = registry.flow();
    if json {
        let rows: Vec<_> = flow.iter().map(|(hook, modules)| json!({ "hook": hook, "modules": modules })).collect();
        return out::line(serde_json::to_string_pretty(&rows)?);
    }
    let width = flow.iter().map(|(hook, _)| hook.chars().count()).max().unwrap_or(0);
    for (hook, modules) in flow {
        out::line(format_args!("{hook:width$}  {}", modules.join(", ")))?;
    }
    Ok(())
}

fn of_host(host: &str, path: Option<&Path>, program: Program) -> Result<Registry> {
    let config = program.read(path).map_err(|errors| anyhow!("{errors}"))?;
    let all = registries(&config, program.modules, &core_names());
    let all = all.map_err(|errors| errors.into_iter().next().unwrap_or_else(|| anyhow!("no host")))?;
    let domains: Vec<String> = all.iter().map(|(domain, _)| domain.to_string()).collect();
    let found = all.into_iter().find(|(domain, _)| domain.as_str() == host);
    found
        .map(|(_, registry)| registry)
        .ok_or_else(|| anyhow!("{host} is not a host of this configuration; it has {}", domains.join(", ")))
}
