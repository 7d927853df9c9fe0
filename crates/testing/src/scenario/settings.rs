//! The lines of a scene about its configuration: `host`, `without`, `setting`. They come first, as they apply from the start.

use std::fmt::Write as _;

use crate::world::HOST;

/// The words that such lines begin with.
const WORDS: [&str; 3] = ["host ", "without ", "setting "];

/// Whether a line is about the configuration.
pub fn is_one(line: &str) -> bool {
    WORDS.iter().any(|word| line.starts_with(word))
}

/// The text of a configuration file that the lines of a scene stand for.
///
/// # Errors
/// A line about the configuration comes after another line.
pub fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let (mut hosts, mut settings, mut over) = (vec![HOST], String::new(), false);
    for line in lines {
        if !is_one(line) {
            over = true;
            continue;
        }
        if over {
            return Err(format!("the server runs already: {line} has to be one of the first lines of its scene"));
        }
        match line.split_once(' ') {
            Some(("host", name)) => hosts.push(name.trim()),
            Some(("without", module)) => {
                let _ = writeln!(settings, "modules.{}.enabled = false", module.trim());
            }
            Some((_, text)) => {
                let _ = writeln!(settings, "{}", text.trim());
            }
            None => {}
        }
    }
    Ok(format!("hosts = {hosts:?}\n{settings}"))
}

#[cfg(test)]
mod tests {
    use vorpal::Program;

    use super::*;
    use crate::world::configuration;

    #[test]
    fn what_a_scene_does_not_mention_is_as_without_a_file() {
        let read = |text: &str| configuration(Program::VORPAL, text).expect("a configuration");
        let own = read(&of(["romeo/orchard: online"].into_iter()).expect("no settings"));
        let default = read("");
        assert_eq!((&own.hosts, &own.limits, &own.storage), (&default.hosts, &default.limits, &default.storage));
        assert!(own.modules_of(HOST).any(|(name, _)| name == "mam"));
    }

    #[test]
    fn a_scene_adds_hosts_switches_modules_off_and_sets_keys() {
        let lines = ["host verona.example", "without mam", "setting limits.sessions = 3", "romeo/orchard: online"];
        let text = of(lines.into_iter()).expect("settings");
        let config = configuration(Program::VORPAL, &text).expect("a configuration");
        let hosts: Vec<&str> = config.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(hosts, [HOST, "verona.example"]);
        assert!(hosts.iter().all(|host| config.modules_of(host).all(|(name, _)| name != "mam")));
        assert_eq!(config.limits.sessions.get(), 3);
    }

    #[test]
    fn what_does_not_exist_or_comes_too_late_is_an_error() {
        let text = of(["without nothing"].into_iter()).expect("a line");
        let error = configuration(Program::VORPAL, &text).expect_err("no such module");
        assert!(error.contains("nothing"), "{error}");
        assert!(of(["romeo/orchard: online", "without mam"].into_iter()).is_err());
    }
}
