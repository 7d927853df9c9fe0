//! What a program is built of: its modules, and what they read of the configuration.

use std::ffi::OsString;
use std::path::Path;

use vorpal_config::{Config, Errors};
use vorpal_core::module::Module;
use vorpal_core::registry::Registry;
use vorpal_core::server::core_names;

/// The modules of a program. A site with modules of its own makes one with more, and gives it to
/// [`cli::run`](crate::cli::run).
#[derive(Clone, Copy)]
pub struct Program {
    /// the modules, in the order in which their handlers run within a phase
    pub modules: &'static [&'static Module],
    /// the sections that they read; a module without one here has no keys of its own
    pub sections: &'static [vorpal_config::Module],
}

impl Program {
    /// The one that this repository makes.
    pub const VORPAL: Program = Program { modules: vorpal_modules::ALL, sections: vorpal_modules::SECTIONS };

    /// The modules as the configuration knows them.
    pub fn known(&self) -> Vec<vorpal_config::Module> {
        let section = |name| self.sections.iter().find(|section| section.name() == name).copied();
        let module = |m: &&Module| section(m.name).unwrap_or_else(|| vorpal_config::Module::plain(m.name));
        self.modules.iter().map(module).collect()
    }

    /// Reads the configuration: a file, else the one that VORPAL_CONFIG names, else none, under the environment.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read(&self, path: Option<&Path>) -> Result<Config, Errors> {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Config::load(path, std::env::vars_os().filter_map(text), &self.known())
    }

    /// All modules set up with their defaults, for what is told of them without a server.
    ///
    /// # Errors
    /// Two modules are at odds.
    pub fn registry(&self) -> vorpal_core::module::Result<Registry> {
        Registry::build(self.modules.iter().copied(), core_names(), |_| None)
    }
}
