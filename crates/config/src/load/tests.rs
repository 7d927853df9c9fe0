//! Each kind of mistake with its message, and what is made of a file that has none.

use super::*;
use crate::units::{Bounded, Period, SECOND};
use crate::{choice, section};

choice! {
    /// How it answers.
    pub enum Tone {
        /// With little.
        Short = "short",
        /// With more.
        Long = "long",
    }
}

section! {
    /// A module of the tests.
    pub struct Parrot in "modules.parrot" {
        /// How many words it knows.
        words: Bounded<u32, 1, 100> = Bounded::clamp(10), example 20;
        /// How long it waits.
        delay: Bounded<Period, 0, {60 * SECOND}> = Bounded::clamp(Period::from_secs(1)), example "2s";
        /// How it answers.
        tone: Tone = Tone::Short, example "long";
    }
}

/// A module that reads its section with plain serde, one key of which has to be there.
#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Relay {
    target: String,
    #[serde(default)]
    ports: Vec<u16>,
    #[serde(default)]
    deep: std::collections::BTreeMap<String, bool>,
}

const MODULES: &[Module] = &[
    Module::plain("ping"),
    Module::of::<Parrot>("parrot"),
    Module::with("relay", |section| section.read::<Relay>().map(drop)).off(),
];

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, Errors> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(Path::new("v.toml"), text.into(), env, MODULES)
}

fn load(text: &str) -> Config {
    load_with(text, &[]).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn wrong(text: &str) -> String {
    load_with(text, &[]).expect_err(text).to_string()
}

fn wrong_env(name: &str, value: &str) -> String {
    load_with("", &[(name, value)]).expect_err(name).to_string()
}

/// A path that counts from the working directory.
fn here(path: &str) -> PathBuf {
    std::env::current_dir().expect("a working directory").join(path)
}

fn names(config: &Config) -> Vec<&str> {
    config.hosts.iter().map(|host| host.name.as_str()).collect()
}

fn addresses(listeners: &[crate::Address]) -> Vec<String> {
    listeners.iter().map(|address| address.to_string()).collect()
}

// Files without mistakes.

#[test]
fn without_any_configuration_localhost_is_served_on_loopback() {
    let config = Config::load(None, [], MODULES).expect("the default");
    assert_eq!(names(&config), ["localhost"]);
    assert_eq!(addresses(&config.listen.c2s), ["127.0.0.1:5222", "[::1]:5222"]);
    assert_eq!(addresses(&config.listen.c2s_tls), ["127.0.0.1:5223", "[::1]:5223"]);
    assert_eq!((&*config.data, &*config.admin), (&*here("data"), &*here("data/admin.sock")));
    assert_eq!(config.hosts.first().and_then(|host| host.certificate.clone()), None);
    assert_eq!(config.durability, Durability::Power);
}

#[test]
fn once_hosts_are_configured_all_addresses_are_listened_on() {
    for text in ["hosts = [\"localhost\"]", "[host.localhost]", "[host.\"example.org\".modules.ping]"] {
        let config = load(text);
        assert_eq!(addresses(&config.listen.c2s), ["0.0.0.0:5222", "[::]:5222"], "{text}");
        assert_eq!(addresses(&config.listen.c2s_tls), ["0.0.0.0:5223", "[::]:5223"], "{text}");
    }
    let config = load("hosts = [\"a.example\"]\n[listen]\nc2s = [\"10.0.0.1:5222\"]\nc2s_tls = []");
    assert_eq!(addresses(&config.listen.c2s), ["10.0.0.1:5222"]);
    assert!(config.listen.c2s_tls.is_empty());
    assert_eq!(addresses(&load("[limits]\nlogin_tries = 3").listen.c2s), ["127.0.0.1:5222", "[::1]:5222"]);
}

#[test]
fn hosts_are_those_of_the_list_or_else_those_with_sections() {
    assert_eq!(
        names(&load("hosts = [\"B.Example\", \"a.example.\"]\n[host.\"b.example\"]")),
        ["b.example", "a.example"]
    );
    assert_eq!(names(&load("[host.\"z.example\"]\n[host.\"a.example\"]")), ["z.example", "a.example"]);
    assert_eq!(names(&load("hosts = [\"xn--bcher-kva.example\"]")), ["bücher.example"]);
}

#[test]
fn a_host_has_its_own_certificate_or_that_of_all() {
    let config = load(
        "hosts = [\"a.example\", \"b.example\"]\n[tls]\ncertificate = \"all.pem\"\nkey = \"/etc/all.key\"\n\
         [host.\"b.example\"]\ncertificate = \"b.pem\"\nkey = \"b.key\"",
    );
    let files: Vec<_> = config.hosts.iter().filter_map(|host| host.certificate.as_ref()).collect();
    let files: Vec<(&Path, &Path)> = files.into_iter().map(|files| (&*files.chain, &*files.key)).collect();
    let (all, own, key) = (here("all.pem"), here("b.pem"), here("b.key"));
    assert_eq!(files, [(&*all, Path::new("/etc/all.key")), (&*own, &*key)]);
}

#[test]
fn relative_paths_count_from_the_directory_of_the_file() {
    let text = "data = \"d\"\n[tls]\ncertificate = \"c\"\nkey = \"/k\"\n";
    let config = Config::read(Path::new("/etc/vorpal/v.toml"), text.into(), [], &[]).expect("a configuration");
    assert_eq!(&*config.data, Path::new("/etc/vorpal/d"));
    assert_eq!(&*config.admin, Path::new("/etc/vorpal/d/admin.sock"));
    let certificate = config.hosts.first().and_then(|host| host.certificate.clone()).expect("a certificate");
    assert_eq!((&*certificate.chain, &*certificate.key), (Path::new("/etc/vorpal/c"), Path::new("/k")));
    let text = "data = \"d\"\n[listen]\nadmin = \"s\"";
    let config = Config::read(Path::new("/etc/v.toml"), text.into(), [], &[]).expect("a configuration");
    assert_eq!(&*config.admin, Path::new("/etc/s"));
}

#[test]
fn every_path_is_absolute_and_is_joined_once() {
    let text = "hosts = [\"a\", \"b\"]\ndata = \"d\"\n[listen]\nadmin = \"s\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n\
                [host.b]\ncertificate = \"own/c\"\nkey = \"own/k\"";
    for (file, base) in [("etc/v.toml", "etc/"), ("./etc/v.toml", "etc/"), ("v.toml", ""), ("", "")] {
        let config = Config::read(Path::new(file), text.into(), [], &[]).expect("a configuration");
        let certificates = config.hosts.iter().flat_map(|host| &host.certificate);
        let paths = certificates.flat_map(|files| [&files.chain, &files.key]).chain([&config.data, &config.admin]);
        let paths: Vec<&Path> = paths.map(|path| &**path).collect();
        let expected = ["c", "k", "own/c", "own/k", "d", "s"].map(|path| here(&format!("{base}{path}")));
        assert_eq!(paths, expected, "{file}");
        // A reload finds the same ones, and the server's keys by path are those.
        assert_eq!(config.diff(&config.clone()), []);
        let other = Config::read(Path::new(file), "data = \"e\"".into(), [], &[]).expect("a configuration");
        let to = quote(&here(&format!("{base}e")).to_string_lossy());
        assert!(config.diff(&other).iter().any(|change| change.key == "data" && change.to.as_ref() == Some(&to)));
    }
}

#[test]
fn the_file_is_the_given_one_or_that_of_the_variable() {
    let directory = std::env::temp_dir().join(format!("vorpal-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = |name: &str, text: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let (one, two) = (file("one.toml", b"hosts = [\"one\"]"), file("two.toml", b"hosts = [\"two\"]"));
    let binary = file("binary.toml", b"data = \"a\"\n\xff = 1");
    let large = file("large.toml", &vec![b'\n'; 1 + (1 << 20)]);
    let load = |path: Option<&Path>, variable: Option<&Path>| {
        let variable = variable.map(|path| ("VORPAL_CONFIG".to_owned(), path.display().to_string()));
        let config = Config::load(path, variable, &[]);
        config.map(|config| names(&config).concat()).map_err(|errors| errors.to_string())
    };
    assert_eq!(load(None, Some(&two)), Ok("two".into()));
    assert_eq!(load(Some(&one), Some(&two)), Ok("one".into()));
    assert_eq!(load(None, None), Ok("localhost".into()));

    let missing = directory.join("none.toml");
    let reads = [
        (&missing, "No such file or directory (os error 2)"),
        (&binary, "line 2 is not UTF-8"),
        (&large, "it is larger than 1 MiB"),
    ];
    for (path, reason) in reads {
        assert_eq!(load(Some(path), None), Err(format!("{}: cannot read it: {reason}", path.display())));
    }
    std::fs::remove_dir_all(&directory).expect("the directory");
}

// Mistakes.

#[test]
fn an_unknown_key_is_told_with_the_nearest_one() {
    assert_eq!(
        wrong("data = \"d\"\n\ndurabilty = \"power\""),
        "v.toml:3:1: unknown key `durabilty`; did you mean `durability`?"
    );
    assert_eq!(
        wrong("[limits]\n  login-time = \"30s\""),
        "v.toml:2:3: unknown key `limits.login-time`; did you mean `login_time`?"
    );
    assert_eq!(wrong("colour = 3"), "v.toml:1:1: unknown key `colour`");
    assert_eq!(
        wrong("[host.localhost]\nkeys = \"k\""),
        "v.toml:2:1: unknown key `host.\"localhost\".keys`; did you mean `key`?"
    );
}

#[test]
fn an_unknown_section_is_told_with_the_nearest_one() {
    assert_eq!(wrong("[limit]\nlogin_tries = 3"), "v.toml:1:2: unknown section `limit`; did you mean `limits`?");
    assert_eq!(wrong("[telepathy]"), "v.toml:1:2: unknown section `telepathy`");
}

#[test]
fn a_key_in_the_wrong_section_is_told_where_it_belongs() {
    assert_eq!(wrong("c2s = []"), "v.toml:1:1: unknown key `c2s`; did you mean `listen.c2s`?");
    assert_eq!(wrong("[log]\ndata = \"d\""), "v.toml:2:1: unknown key `log.data`; did you mean `data`?");
}

#[test]
fn a_value_of_the_wrong_type_is_told_what_is_expected() {
    for (text, message) in [
        ("data = 5", "1:8: `data` has to be the path of a file or directory, not the number 5"),
        ("data = [\"d\"]", "1:8: `data` has to be the path of a file or directory, not a list"),
        ("data = true", "1:8: `data` has to be the path of a file or directory, not true"),
        ("hosts = \"a\"", "1:9: `hosts` has to be a list in brackets, not \"a\""),
        ("hosts = [\"a\", 2]", "1:15: `hosts` has to be the name of a host, such as \"example.org\", not the number 2"),
        ("listen = 5222", "1:10: `listen` has to be a section: [listen]"),
        ("[[listen]]", "1:1: `listen` has to be a section: [listen]"),
        ("[xml]\npassthrough = \"yes\"", "2:15: `xml.passthrough` has to be true or false, not \"yes\""),
        (
            "[limits]\nlogin_tries = \"3\"",
            "2:15: `limits.login_tries` has to be a whole number without quotes, not \"3\"",
        ),
        (
            "[limits]\nlogin_tries = 2.5",
            "2:15: `limits.login_tries` has to be a whole number between 1 and 100, not 2.5",
        ),
        (
            "[limits]\nlogin_time = 1979-05-27",
            "2:14: `limits.login_time` has to be a period between \"1s\" and \"1h\", not a date",
        ),
        (
            "[limits]\nlogin_tries = 99999999999999999999",
            "2:15: `limits.login_tries` has to be a whole number between 1 and 100, not a number beyond 64 bits",
        ),
        ("[limits.login_tries]", "1:1: `limits.login_tries` has to be a whole number between 1 and 100, not a table"),
    ] {
        assert_eq!(wrong(text), format!("v.toml:{message}"), "{text}");
    }
}

#[test]
fn a_quantity_without_its_unit_is_told_an_example() {
    assert_eq!(
        wrong("[limits]\nlogin_time = 30"),
        "v.toml:2:14: `limits.login_time` needs a unit, for example \"30s\""
    );
    assert_eq!(
        wrong("[limits]\nlogin_bytes = \"10\""),
        "v.toml:2:15: `limits.login_bytes` needs a unit, for example \"10 B\""
    );
}

#[test]
fn a_quantity_with_a_wrong_unit_is_told_the_units() {
    assert_eq!(
        wrong("[limits]\nlogin_time = \"30 sec\""),
        "v.toml:2:14: `limits.login_time` has the unknown unit \"sec\"; the units are d, h, m, s, ms"
    );
    assert_eq!(
        wrong("[limits]\nconnection_rate = \"5/minute\""),
        "v.toml:2:19: `limits.connection_rate` has to be for each s, min, h or d, not \"minute\""
    );
}

#[test]
fn a_value_out_of_bounds_is_told_the_bounds() {
    for (text, message) in [
        ("login_tries = 0", "2:15: `limits.login_tries` has to be between 1 and 100, not 0"),
        ("login_tries = -1", "2:15: `limits.login_tries` has to be between 1 and 100, not -1"),
        ("login_time = \"2h\"", "2:14: `limits.login_time` has to be between 1s and 1h, not 2h"),
        ("stanza_size = \"1 KB\"", "2:15: `limits.stanza_size` has to be between 10 KB and 16 MiB, not 1 KB"),
    ] {
        assert_eq!(wrong(&format!("[limits]\n{text}")), format!("v.toml:{message}"), "{text}");
    }
}

#[test]
fn a_word_that_is_no_choice_is_told_the_choices() {
    assert_eq!(
        wrong("durability = \"powr\""),
        "v.toml:1:14: `durability` has to be \"power\" or \"crash\", not \"powr\"; did you mean \"power\"?"
    );
    assert_eq!(wrong("durability = 1"), "v.toml:1:14: `durability` has to be \"power\" or \"crash\", not 1");
    assert_eq!(wrong("[tls]\nmin_version = \"1.1\"").lines().count(), 1);
    assert_eq!(
        wrong("[log]\nlevel = \"loud\""),
        "v.toml:2:9: `log.level` has to be \"error\", \"warn\", \"info\", \"debug\" or \"trace\", not \"loud\""
    );
}

#[test]
fn a_listener_without_a_port_is_told_what_an_address_is() {
    assert_eq!(
        wrong("[listen]\nc2s = [\"127.0.0.1\",\n  \"localhost:5222\"]"),
        "v.toml:2:8: `listen.c2s` has to be an IP address with a port, such as \"127.0.0.1:5222\" or \"[::]:5222\", \
         not \"127.0.0.1\"\n\
         v.toml:3:3: `listen.c2s` has to be an IP address with a port, such as \"127.0.0.1:5222\" or \"[::]:5222\", \
         not \"localhost:5222\""
    );
}

#[test]
fn a_name_that_is_no_domain_is_told_why() {
    assert_eq!(
        wrong("hosts = [\"a..b\"]"),
        "v.toml:1:10: `hosts` has to be the name of a host, such as \"example.org\", not \"a..b\": a label is empty"
    );
    assert_eq!(
        wrong("[host.\"\"]"),
        "v.toml:1:7: `host.\"\"` has to be the name of a host, such as \"example.org\", not \"\": the domainpart is empty"
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    assert_eq!(
        wrong("[tls]\ncertificate = \"c.pem\"\nkey = \"\"\"-----BEGIN PRIVATE KEY-----\nMIIE\"\"\""),
        "v.toml:3:7: `tls.key` has to be the path of a file; its contents do not belong here"
    );
    assert_eq!(wrong("data = \"\""), "v.toml:1:8: `data` has to be the path of a file or directory, not \"\"");
}

#[test]
fn a_certificate_without_its_key_is_told() {
    assert_eq!(wrong("[tls]\ncertificate = \"c\""), "v.toml:2:15: `tls.certificate` needs `key` as well");
    assert_eq!(
        wrong("[host.localhost]\nkey = \"c\""),
        "v.toml:2:7: `host.\"localhost\".key` needs `certificate` as well"
    );
}

#[test]
fn a_key_or_section_given_twice_is_told() {
    assert_eq!(
        wrong("data = \"a\"\nxml.passthrough = true\ndata = \"b\""),
        "v.toml:3:1: `data` is given a second time"
    );
    assert_eq!(wrong("[xml]\n[log]\n[xml]\npassthrough = false"), "v.toml:3:2: `xml` is given a second time");
    assert_eq!(wrong("[host.\"a.b\"]\n[host.\"A.b\"]"), "v.toml:1:7: `host.\"a.b\"` is given a second time");
}

#[test]
fn a_host_listed_twice_or_not_at_all_is_told() {
    assert_eq!(wrong("hosts = [\"a.b\", \"A.b.\"]"), "v.toml:1:17: `hosts` names \"a.b\" twice");
    assert_eq!(wrong("hosts = []"), "v.toml:1:9: `hosts` has to name at least one host");
    assert_eq!(
        wrong("hosts = [\"example.org\"]\n[host.\"exmaple.org\"]"),
        "v.toml:2:7: unknown host `exmaple.org`; did you mean `example.org`?"
    );
    assert_eq!(
        wrong("hosts = [\"example.org\"]\n[host.other]"),
        "v.toml:2:7: `host.\"other\"` is not listed in `hosts`"
    );
    assert_eq!(
        wrong("[[host]]\nname = \"a\""),
        "v.toml:1:1: `host` has to be a section for each host: [host.\"example.org\"]"
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_its_line() {
    assert_eq!(wrong("data = data"), "v.toml:1:8: in `data = data`: text has to be in quotes");
    assert_eq!(wrong("[limits]\nlogin_time = 30s"), "v.toml:2:14: in `login_time = 30s`: text has to be in quotes");
    assert_eq!(wrong("\n[listen\n"), "v.toml:2:8: in `[listen`: unclosed table, expected `]`");
    assert_eq!(wrong("data \"x\""), "v.toml:1:6: in `data \"x\"`: key with no value, expected `=`");
    assert_eq!(
        wrong("hosts = [\"é\", \"ü]"),
        "v.toml:1:18: in `hosts = [\"é\", \"ü]`: invalid basic string, expected `\"`\n\
         v.toml:1:18: in `hosts = [\"é\", \"ü]`: unclosed array, expected `]`"
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "data = 5\ncolour = 1\nhosts = [\"a\", \"b c\"]\n[limits]\nlogin_tries = 0\nlogin_time = 5\nsesions = 3\n\
                [modules.pong]\n[modules.parrot]\nwords = 0\nword = 5\n[host.a]\nkey = \"k\"\n";
    assert_eq!(
        wrong(text),
        "v.toml:1:8: `data` has to be the path of a file or directory, not the number 5\n\
         v.toml:2:1: unknown key `colour`\n\
         v.toml:3:15: `hosts` has to be the name of a host, such as \"example.org\", not \"b c\": it is not a domain name\n\
         v.toml:5:15: `limits.login_tries` has to be between 1 and 100, not 0\n\
         v.toml:6:14: `limits.login_time` needs a unit, for example \"5s\"\n\
         v.toml:7:1: unknown key `limits.sesions`; did you mean `sessions`?\n\
         v.toml:8:10: unknown module `pong`; did you mean `ping`?\n\
         v.toml:10:9: `modules.parrot.words` has to be between 1 and 100, not 0\n\
         v.toml:11:1: unknown key `modules.parrot.word`; did you mean `words`?\n\
         v.toml:13:7: `host.\"a\".key` needs `certificate` as well"
    );
}

#[test]
fn behind_a_broken_head_nothing_is_guessed() {
    assert_eq!(
        wrong("colour = 1\n[limits\nlogin_tries = 0\n"),
        "v.toml:1:1: unknown key `colour`\nv.toml:2:8: in `[limits`: unclosed table, expected `]`"
    );
    assert_eq!(
        wrong("data = d\n[limits]\nlogin_tries = 0\n"),
        "v.toml:1:8: in `data = d`: text has to be in quotes\n\
         v.toml:3:15: `limits.login_tries` has to be between 1 and 100, not 0"
    );
}

#[test]
fn no_more_than_a_hundred_mistakes_are_told() {
    let unknown: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    assert_eq!(wrong(&unknown).lines().count(), 100);
    let broken = "= 1\n".repeat(20_000);
    assert_eq!(wrong(&broken).lines().count(), 100);
    let list = format!("[listen]\nc2s = [{}]", "\"x\",".repeat(5_000));
    assert_eq!(wrong(&list).lines().count(), 100);
}

#[test]
fn no_more_than_a_thousand_hosts_are_served() {
    let list = |count| format!("hosts = [{}]", (0..count).map(|n| format!("\"h{n}\",")).collect::<String>());
    assert_eq!(load(&list(MAX_HOSTS)).hosts.len(), MAX_HOSTS);
    assert_eq!(wrong(&list(MAX_HOSTS + 1)), "v.toml:1:9: `hosts` has to name at most 1000 hosts");
    let sections: String = (0..=MAX_HOSTS).map(|n| format!("[host.h{n}]\n")).collect();
    assert_eq!(wrong(&sections), "v.toml:1:2: `host` has to have at most 1000 sections");
}

// The environment.

#[test]
fn a_variable_goes_over_its_key() {
    let env = [
        ("VORPAL_DATA", "/d"),
        ("VORPAL_HOSTS", "a.example, b.example"),
        ("VORPAL_LISTEN_C2S", "127.0.0.1:1"),
        ("VORPAL_LISTEN_C2S_TLS", ""),
        ("VORPAL_LIMITS_LOGIN_TRIES", "7"),
        ("VORPAL_LIMITS_LOGIN_TIME", "1m"),
        ("VORPAL_XML_PASSTHROUGH", "false"),
        ("VORPAL_MODULES_PARROT_WORDS", "99"),
        ("VORPAL_MODULES_PING_ENABLED", "false"),
        ("PATH", "/bin"),
    ];
    let config =
        load_with("data = \"x\"\n[limits]\nlogin_tries = 3\nlogin_time = \"5m\"", &env).expect("a configuration");
    assert_eq!(&*config.data, Path::new("/d"));
    assert_eq!(names(&config), ["a.example", "b.example"]);
    assert_eq!(addresses(&config.listen.c2s), ["127.0.0.1:1"]);
    assert!(config.listen.c2s_tls.is_empty());
    assert_eq!((config.limits.login_tries.get(), *config.limits.login_time), (7, Period::from_secs(60)));
    assert!(!config.xml.passthrough);
    let modules: Vec<_> = config.modules_of("a.example").collect();
    assert!(
        matches!(&modules[..], [("parrot", section)] if section.read::<Parrot>().is_ok_and(|p| p.words.get() == 99))
    );
}

#[test]
fn a_mistake_in_a_variable_is_told_with_its_name() {
    assert_eq!(
        wrong_env("VORPAL_LIMITS_LOGIN_TIME", "5"),
        "VORPAL_LIMITS_LOGIN_TIME: `limits.login_time` needs a unit, for example \"5s\""
    );
    assert_eq!(
        wrong_env("VORPAL_LIMITS_LOGIN_TRIES", "three"),
        "VORPAL_LIMITS_LOGIN_TRIES: `limits.login_tries` has to be a whole number, not \"three\""
    );
    assert_eq!(
        wrong_env("VORPAL_XML_PASSTHROUGH", "yes"),
        "VORPAL_XML_PASSTHROUGH: `xml.passthrough` has to be true or false, not \"yes\""
    );
    assert_eq!(
        wrong_env("VORPAL_LISTEN_C2S", "a:1"),
        "VORPAL_LISTEN_C2S: `listen.c2s` has to be an IP address with a port, such as \"127.0.0.1:5222\" or \
         \"[::]:5222\", not \"a:1\""
    );
    assert_eq!(wrong_env("VORPAL_HOSTS", ""), "VORPAL_HOSTS: `hosts` has to name at least one host");
}

#[test]
fn a_variable_of_no_key_has_no_effect_and_is_told_with_the_one_that_was_meant() {
    // What a container platform sets for a service that is called "vorpal", and for one called "vorpal-c2s".
    let platform = [
        ("VORPAL_C2S_SERVICE_HOST", "10.0.0.1"),
        ("VORPAL_PORT", "tcp://10.0.0.1:5222"),
        ("VORPAL_PORT_5222_TCP", "tcp://10.0.0.1:5222"),
        ("VORPAL_PORT_5222_TCP_ADDR", "10.0.0.1"),
        ("VORPAL_PORT_5222_TCP_PORT", "5222"),
        ("VORPAL_PORT_5222_TCP_PROTO", "tcp"),
        ("VORPAL_SERVICE_HOST", "10.0.0.1"),
        ("VORPAL_SERVICE_PORT", "5222"),
        ("VORPAL_SERVICE_PORT_C2S", "5222"),
    ];
    let config = load_with("data = \"/d\"", &platform).expect("a configuration");
    let plain = load("data = \"/d\"");
    let unknown = platform.map(|(name, _)| UnknownVariable { name: name.into(), meant: None });
    assert_eq!(config.unknown_variables, unknown);
    assert_eq!((&config.listen, &config.hosts.len()), (&plain.listen, &plain.hosts.len()));
    for (name, meant) in [
        ("VORPAL_DURABILTY", "VORPAL_DURABILITY"),
        ("VORPAL_LISTEN_C2STLS", "VORPAL_LISTEN_C2S_TLS"),
        ("VORPAL_MODULES_PAROT_WORDS", "VORPAL_MODULES_PARROT_WORDS"),
        ("VORPAL_HOST", "VORPAL_HOSTS"),
    ] {
        let config = load_with("", &[(name, "power")]).expect("a configuration");
        assert_eq!(config.unknown_variables, [UnknownVariable { name: name.into(), meant: Some(meant.into()) }]);
    }
    // A known one is not confused by them.
    assert!(load_with("", &[("VORPAL_SERVICE_HOST", "x"), ("VORPAL_DURABILITY", "powr")]).is_err());
}

// Modules.

fn module_names(config: &Config, host: &str) -> Vec<&'static str> {
    config.modules_of(host).map(|(name, _)| name).collect()
}

#[test]
fn a_module_is_there_unless_it_is_off_or_switched_off() {
    let config = load("");
    assert_eq!(module_names(&config, "localhost"), ["ping", "parrot"]);
    assert_eq!(module_names(&config, "elsewhere.example"), [""; 0]);
    let config = load(
        "hosts = [\"a\", \"b\"]\n[modules.ping]\nenabled = false\n[modules.relay]\nenabled = true\ntarget = \"x\"\n\
         [host.b.modules.ping]\nenabled = true\n[host.b.modules.relay]\nenabled = false",
    );
    assert_eq!(module_names(&config, "a"), ["parrot", "relay"]);
    assert_eq!(module_names(&config, "b"), ["ping", "parrot"]);
}

#[test]
fn a_host_goes_over_all_hosts_key_by_key() {
    let config = load(
        "hosts = [\"a\", \"b\"]\n[modules.parrot]\nwords = 5\ntone = \"long\"\n[host.b.modules.parrot]\nwords = 7\n\
         [modules.relay]\nenabled = true\ntarget = \"t\"\ndeep = { x = true, y = true }\n\
         [host.b.modules.relay.deep]\nx = false",
    );
    let section = |host, name| config.modules_of(host).find(|(found, _)| *found == name).expect("a module").1;
    let parrot = |host| section(host, "parrot").read::<Parrot>().expect("a section");
    assert_eq!((parrot("a").words.get(), parrot("a").tone), (5, Tone::Long));
    assert_eq!((parrot("b").words.get(), parrot("b").tone), (7, Tone::Long));
    let deep = [("x".to_owned(), false), ("y".to_owned(), true)].into();
    let expected = Relay { target: "t".into(), ports: Vec::new(), deep };
    assert_eq!(section("b", "relay").read::<Relay>(), Ok(expected));
    let table = "target = \"t\"\ndeep = { x = true, y = true }".parse::<toml::Table>();
    assert_eq!(section("a", "relay").table(), table.expect("a table"));
}

#[test]
fn a_mistake_in_a_module_is_told_with_its_line() {
    for (text, message) in [
        ("[modules.pnig]", "1:10: unknown module `pnig`; did you mean `ping`?"),
        ("[host.localhost.modules.pnig]", "1:25: unknown module `pnig`; did you mean `ping`?"),
        ("[modules.ping]\nloud = 1", "2:1: unknown key `modules.ping.loud`"),
        ("modules = 1", "1:11: `modules` has to be a table, such as [modules.ping]"),
        ("[modules]\nping = true", "2:8: `modules.ping` has to be a table, with its keys below"),
        ("[modules.ping]\nenabled = 1", "2:11: `modules.ping.enabled` has to be true or false"),
        (
            "[modules.parrot]\ntone = \"shrt\"",
            "2:8: `modules.parrot.tone` has to be \"short\" or \"long\", not \"shrt\"; did you mean \"short\"?",
        ),
        ("[modules.relay]", "1:1: `modules.relay.target` has to be given"),
        (
            "[modules.relay]\ntarget = 5\nports = [1, 70000]",
            "2:10: `modules.relay.target` has to be text in quotes, not 5\n\
             v.toml:3:13: `modules.relay.ports` has to be a whole number, not 70000",
        ),
        (
            "[modules.relay]\ntarget = \"\"\ndeep.x.y = 1",
            "3:6: `modules.relay.deep.x` has to be true or false, not a table",
        ),
    ] {
        assert_eq!(wrong(text), format!("v.toml:{message}"), "{text}");
    }
    assert!(load_with("", &[]).is_ok(), "a module that is off may miss its keys");
}

#[test]
fn a_mistake_for_all_hosts_is_told_once() {
    assert_eq!(
        wrong("hosts = [\"a\", \"b\", \"c\"]\n[modules.parrot]\nwords = 0"),
        "v.toml:3:9: `modules.parrot.words` has to be between 1 and 100, not 0"
    );
}

#[test]
fn a_module_may_complain_in_the_place_of_its_key() {
    let config = load("[modules.parrot]\nwords = 5\n");
    let (_, section) = config.modules_of("localhost").find(|(name, _)| *name == "parrot").expect("a module");
    assert_eq!(section.error("words", "is too little").to_string(), "v.toml:2:9: `modules.parrot.words` is too little");
    assert_eq!(section.error("tone", "is missing").to_string(), "v.toml:1:1: `modules.parrot.tone` is missing");
}

#[test]
fn only_loopback_addresses_are_listened_on_without_tls() {
    assert_eq!(load("").listen.c2s_plain, []);
    let config = load("[listen]\nc2s_plain = [\"127.0.0.1:5280\", \"127.9.9.9:1\", \"[::1]:5280\"]");
    let addresses: Vec<String> = config.listen.c2s_plain.iter().map(|address| address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:5280", "127.9.9.9:1", "[::1]:5280"]);
    for outside in
        ["0.0.0.0:5280", "[::]:5280", "192.168.1.1:5280", "[::ffff:127.0.0.1]:5280", "[fe80::1]:5280", "127.0.0.1"]
    {
        let text = wrong(&format!("[listen]\nc2s_plain = [\"{outside}\"]"));
        assert!(text.contains("2:14: `listen.c2s_plain"), "{text}");
        assert!(text.contains("has to be a loopback address with a port"), "{text}");
    }
}

#[test]
fn mechanisms_are_those_of_the_host_or_of_all_hosts() {
    use crate::Mechanism::{Plain, ScramSha1, ScramSha256, ScramSha512};
    let config = load(
        "hosts = [\"a.example\", \"b.example\"]\n[login]\nmechanisms = [\"SCRAM-SHA-256\"]\n\
         [host.\"b.example\"]\nmechanisms = [\"SCRAM-SHA-1\", \"PLAIN\"]",
    );
    let mechanisms: Vec<_> = config.hosts.iter().map(|host| host.mechanisms.as_slice()).collect();
    assert_eq!(mechanisms, [&[ScramSha256][..], &[ScramSha1, Plain]]);
    assert_eq!(load("").hosts[0].mechanisms, [ScramSha512, ScramSha256, ScramSha1, Plain]);
    assert_eq!(wrong("[login]\nmechanisms = []"), "v.toml:2:14: `login.mechanisms` has to name at least one");
    assert_eq!(
        wrong("hosts = [\"a.example\"]\n[host.\"a.example\"]\nmechanisms = []"),
        "v.toml:3:14: `host.\"a.example\".mechanisms` has to name at least one"
    );
    assert!(wrong("[login]\nmechanisms = [\"scram-sha-1\"]").contains("SCRAM-SHA-1"));
}
