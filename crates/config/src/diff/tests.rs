use std::path::Path;

use super::*;
use crate::Module;

const MODULES: &[Module] = &[Module::plain("ping"), Module::with("echo", |_| Ok(()))];

fn config(text: &str) -> Config {
    Config::read(Path::new("/etc/v.toml"), text.into(), [], MODULES).unwrap_or_else(|errors| panic!("{errors}"))
}

fn diff(old: &str, new: &str) -> Vec<String> {
    config(old).diff(&config(new)).iter().map(Change::to_string).collect()
}

#[test]
fn what_is_written_in_another_way_is_no_change() {
    assert_eq!(diff("", "[limits]\nlogin_time = \"0m 30s\""), [""; 0]);
    assert_eq!(diff("[modules.echo]\na = 1\nb = 2", "# moved\n[modules.echo]\nb = 2\na = 1"), [""; 0]);
}

#[test]
fn a_change_says_from_what_to_what_and_whether_it_has_to_wait() {
    assert_eq!(
        diff("", "data = \"d\"\ndurability = \"crash\"\n[limits]\nlogin_time = \"1m\"\n[xml]\npassthrough = false"),
        [
            "data: \"/etc/data\" -> \"/etc/d\" (needs a restart)",
            "durability: \"power\" -> \"crash\" (needs a restart)",
            "limits.login_time: \"30s\" -> \"1m\"",
            "listen.admin: \"/etc/data/admin.sock\" -> \"/etc/d/admin.sock\" (needs a restart)",
            "xml.passthrough: true -> false",
        ]
    );
}

#[test]
fn a_default_that_changes_with_another_key_is_told_as_well() {
    assert_eq!(
        diff("[listen]\nc2s_tls = []", "hosts = [\"a\"]\n[listen]\nc2s_tls = []"),
        [
            "hosts: [\"localhost\"] -> [\"a\"]",
            "listen.c2s: [\"127.0.0.1:5222\", \"[::1]:5222\"] -> [\"0.0.0.0:5222\", \"[::]:5222\"] (needs a restart)",
        ]
    );
}

#[test]
fn a_certificate_is_told_where_it_is_given() {
    let hosts = "hosts = [\"a\", \"b\"]\n";
    let shared = |file| format!("{hosts}[tls]\ncertificate = \"{file}\"\nkey = \"k\"\n");
    assert_eq!(diff(hosts, &shared("c")), ["tls.certificate: nothing -> \"/etc/c\"", "tls.key: nothing -> \"/etc/k\""]);
    let own = format!("{}[host.b]\ncertificate = \"own\"\nkey = \"k\"", shared("c"));
    assert_eq!(diff(&shared("c"), &own), ["host.\"b\".certificate: \"/etc/c\" -> \"/etc/own\""]);
    assert_eq!(diff(&own, &own.replace("key = \"k\"", "key = \"l\"")).len(), 2);
}

#[test]
fn a_module_that_changes_for_all_hosts_is_told_once() {
    let hosts = "hosts = [\"a\", \"b\"]\n";
    assert_eq!(
        diff(hosts, &format!("{hosts}[modules.ping]\nenabled = false\n[modules.echo]\na = 1")),
        ["modules.echo: {} -> { a = 1 }", "modules.ping: {} -> nothing"]
    );
    assert_eq!(
        diff(hosts, &format!("{hosts}[host.b.modules.ping]\nenabled = false")),
        ["host.\"b\".modules.ping: {} -> nothing"]
    );
    assert_eq!(
        diff(hosts, &format!("{hosts}[modules.echo]\na = 1\n[host.b.modules.echo]\na = 2")),
        ["host.\"a\".modules.echo: {} -> { a = 1 }", "host.\"b\".modules.echo: {} -> { a = 2 }"]
    );
}

#[test]
fn mechanisms_are_told_where_they_are_given() {
    let hosts = "hosts = [\"a\", \"b\"]\n";
    let all = "[\"SCRAM-SHA-512\", \"SCRAM-SHA-256\", \"SCRAM-SHA-1\", \"PLAIN\"]";
    assert_eq!(
        diff(hosts, &format!("{hosts}[login]\nmechanisms = [\"PLAIN\"]")),
        [format!("login.mechanisms: {all} -> [\"PLAIN\"]")]
    );
    assert_eq!(
        diff(hosts, &format!("{hosts}[host.b]\nmechanisms = [\"SCRAM-SHA-1\"]")),
        [format!("host.\"b\".mechanisms: {all} -> [\"SCRAM-SHA-1\"]")]
    );
}
