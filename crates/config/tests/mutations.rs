//! No text makes the reading panic: random mutations of a file with every key, and a few texts made to hurt.

use std::path::Path;

use vorpal_config::{Config, Errors, Module, default_file};

const MODULES: &[Module] = &[Module::plain("ping"), Module::plain("blocking")];

fn read(text: String) -> Result<Config, Errors> {
    Config::read(Path::new("v.toml"), text, [], MODULES)
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or(0) % bound.max(1)
    }
}

/// Every key with its default, and sections of a host and of modules.
fn seed() -> Vec<String> {
    let file = default_file(MODULES);
    let keys = file.lines().filter(|line| !line.starts_with("# ") && *line != "#" && !line.is_empty());
    let mut lines: Vec<String> = keys.map(|line| line.trim_start_matches('#').to_owned()).collect();
    let more = "[host.\"localhost\"]\ncertificate = \"c\"\nkey = '''k'''\n[host.localhost.modules.ping]\nenabled = false\n\
                [modules.blocking]\nenabled = true\n[modules]\nping = { enabled = 0x1, at = 1979-05-27T07:32:00Z }";
    lines.extend(more.lines().map(Into::into));
    lines
}

const PIECES: &[&str] = &[
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    ".",
    ",",
    "\n",
    "\r\n",
    "#",
    "{",
    "}",
    " ",
    "\\",
    "\\u00e9",
    "é",
    "\u{feff}",
    "\0",
    "0",
    "-1",
    "1e99",
    "nan",
    "99999999999999999999",
    "true",
    "30",
    "\"30\"",
    "\"5 MB\"",
    "\"1h\"",
    "host",
    "modules.",
    "limits",
    "x",
];

fn mutate(lines: &[String], random: &mut Random) -> String {
    let mut lines = lines.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(lines.len());
        let other = random.below(lines.len());
        match random.below(4) {
            0 => lines.swap(at, other),
            1 => drop(lines.remove(at)),
            2 => lines.insert(at, lines[other].clone()),
            _ => {}
        }
    }
    let mut text: Vec<char> = lines.join("\n").chars().collect();
    for _ in 0..random.below(6) {
        let at = random.below(text.len());
        match random.below(3) {
            0 => drop(text.remove(at)),
            1 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
            _ => text.truncate(text.len() - random.below(4)),
        }
    }
    text.into_iter().collect()
}

#[test]
fn a_hundred_thousand_mutations_of_a_whole_file_never_panic() {
    let seed = seed();
    let mut random = Random(0x5eed);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..100_000 {
        let text = mutate(&seed, &mut random);
        match read(text) {
            Ok(_) => good += 1,
            Err(errors) => {
                assert!(errors.iter().count() >= 1 && !errors.to_string().is_empty());
                bad += 1;
            }
        }
    }
    assert!(bad > 50_000 && good + bad == 100_000, "{good} were good");
}

#[test]
fn depth_and_length_are_borne() {
    let half = 1 << 19;
    for text in [
        format!("a = {}", "[".repeat(half)),
        format!("a = {}", "{a=".repeat(half / 3)),
        format!("{}a = 1", "a.".repeat(half / 2)),
        format!("[{}a]", "a.".repeat(half / 2)),
        "[[a]]\n".repeat(half / 6),
        format!("a = \"{}", "x".repeat(half)),
        format!("hosts = [{}]", "\"x\",".repeat(half / 4)),
        "\u{e9}".repeat(half / 2),
        "x".repeat(half),
    ] {
        let errors = read(text).expect_err("none of these is a configuration");
        let length = errors.to_string().len();
        assert!(length < 100_000, "{length} bytes of errors");
    }
}
