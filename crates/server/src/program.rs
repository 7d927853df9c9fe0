//! A program: its modules and their configuration sections.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use vorpal_config::{Config, ConfigError, Errors, Place, Problem};
use vorpal_core::core::core_names;
use vorpal_core::module::Module;
use vorpal_core::module::registry::Registry;

use crate::files;

/// The configuration file of an installed server: the default.
pub(crate) const INSTALLED: &str = "/etc/vorpal/vorpal.toml";

/// The modules of a program. A site with modules of its own builds one with more, and passes it to
/// [`cli::run`](crate::cli::run).
#[derive(Clone, Copy)]
pub struct Program {
    /// the modules, in the order in which their handlers run within a phase
    pub modules: &'static [&'static Module],
    /// the sections that they read; a module that is not listed here has no keys of its own
    pub sections: &'static [vorpal_config::Module],
}

impl Program {
    /// The program of this repository.
    pub const VORPAL: Program = Program { modules: vorpal_modules::ALL, sections: vorpal_modules::SECTIONS };

    /// The modules, for the configuration.
    pub fn known(&self) -> Vec<vorpal_config::Module> {
        let section = |name| self.sections.iter().find(|section| section.name() == name).copied();
        let module = |m: &&Module| section(m.name).unwrap_or_else(|| vorpal_config::Module::plain(m.name));
        self.modules.iter().map(module).collect()
    }

    /// The configuration file: the given one, else the one that VORPAL_CONFIG names, else `/etc/vorpal/vorpal.toml` if it
    /// exists. An empty variable means no file.
    pub fn file(given: Option<PathBuf>) -> Option<PathBuf> {
        file(given, std::env::var_os("VORPAL_CONFIG"), Path::new(INSTALLED))
    }

    /// Reads the configuration: a file, else the one that VORPAL_CONFIG names, else none; then the environment.
    ///
    /// # Errors
    /// All errors at once; or the file cannot be read, with its owner if that is the reason.
    pub fn read(&self, path: Option<&Path>) -> Result<Config, Errors> {
        if let Some(path) = path
            && let Err(error) = File::open(path)
        {
            let place = Place::Whole { file: path.display().to_string() };
            return Err(ConfigError { place, problem: Problem::Read(files::told(&error, path)) }.into());
        }
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Config::load(path, std::env::vars_os().filter_map(text), &self.known())
    }

    /// All modules, set up with their defaults: for commands that describe them without a server.
    ///
    /// # Errors
    /// Two modules conflict.
    pub fn registry(&self) -> vorpal_core::module::Result<Registry> {
        Registry::build(self.modules.iter().copied(), core_names(), |_| None)
    }
}

fn file(given: Option<PathBuf>, named: Option<OsString>, installed: &Path) -> Option<PathBuf> {
    match (given, named) {
        (Some(given), _) => Some(given),
        (None, Some(named)) => (!named.is_empty()).then(|| named.into()),
        // If this user may not check, the file might exist: it is not skipped silently.
        (None, None) => (!matches!(installed.try_exists(), Ok(false))).then(|| installed.to_path_buf()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_given_or_named_or_installed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (installed, absent) = (folder.path().join("vorpal.toml"), folder.path().join("absent.toml"));
        std::fs::write(&installed, "").expect("written");
        let of = |given: Option<&str>, named: Option<&str>, installed: &Path| {
            file(given.map(Into::into), named.map(Into::into), installed)
        };
        assert_eq!(of(Some("a"), Some("b"), &installed), Some("a".into()));
        assert_eq!(of(None, Some("b"), &installed), Some("b".into()));
        assert_eq!(of(None, Some(""), &installed), None, "an empty variable wants no file");
        assert_eq!(of(None, None, &installed), Some(installed.clone()));
        assert_eq!(of(None, None, &absent), None);
    }
}
