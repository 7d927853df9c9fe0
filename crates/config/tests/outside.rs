//! A module declares its section from outside of the crate, as those of the server do.

use std::path::Path;

use vorpal_config::{Bounded, Bytes, Config, Keys, MIB, Module, Period, choice, explain, section};

choice! {
    /// Who may upload.
    pub enum Who {
        /// Everybody with an account.
        All = "all",
        /// Nobody but administrators.
        Admins = "admins",
    }
}

section! {
    /// Files that people send each other (XEP-0363).
    pub struct Upload in "modules.upload" {
        /// The largest file.
        max_size: Bounded<Bytes, 1, {1024 * MIB}> = Bounded::clamp(Bytes::new(100 * MIB)), example "10 MiB";
        /// How long files are kept.
        keep: Option<Period> = None, example "30d";
        /// Who may upload.
        who: Who = Who::All, example "admins";
        /// Types that are refused.
        refused: Vec<String> = Vec::new(), example ["text/html"];
    }
}

const MODULES: &[Module] = &[Module::of::<Upload>("upload")];

#[test]
fn a_section_is_declared_read_and_explained() {
    assert_eq!(MODULES[0].name(), Upload::TABLE.path.trim_start_matches("modules."));
    let text = "[modules.upload]\nkeep = \"7d\"\nwho = \"admins\"\nrefused = [\"a/b\"]\n";
    let config = Config::read(Path::new("v.toml"), text.into(), [], MODULES).expect("a configuration");
    let (_, section) = config.modules_of("localhost").next().expect("a module");
    let upload: Upload = section.read().expect("a section");
    assert_eq!(upload.max_size.get(), Bytes::new(100 * MIB));
    assert_eq!(upload.keep.map(Period::as_millis), Some(7 * 86_400_000));
    assert_eq!((upload.who, upload.refused), (Who::Admins, vec!["a/b".to_owned()]));
    assert!(explain("modules.upload.keep", MODULES).expect("a key").contains("VORPAL_MODULES_UPLOAD_KEEP"));
}

#[test]
fn a_mistake_in_it_is_told_with_its_line() {
    let text = "[modules.upload]\nkeep = 7\nwho = \"nobody\"\nmaxsize = \"1 MB\"\n";
    let errors = Config::read(Path::new("v.toml"), text.into(), [], MODULES).expect_err("mistakes").to_string();
    assert_eq!(
        errors,
        "v.toml:2:8: `modules.upload.keep` needs a unit, for example \"7s\"\n\
         v.toml:3:7: `modules.upload.who` has to be \"all\" or \"admins\", not \"nobody\"\n\
         v.toml:4:1: unknown key `modules.upload.maxsize`; did you mean `max_size`?"
    );
}
