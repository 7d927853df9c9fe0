//! Certificates of a running server: what would be refused by every client does not replace one that is good, and what changed is told.

mod place;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use place::{Place, Serving};
use serde_json::Value;
use vorpal_net::tls::Certificate;
use vorpal_proto::datetime::Timestamp;
use vorpal_runtime::now;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a certificate is valid that the server makes.
const VALID: Duration = Duration::from_secs(824 * 86_400);

const CONFIG: &str = r#"
hosts = ["a.example", "b.example"]
[listen]
c2s = ["127.0.0.1:0"]
c2s_tls = []
[host."a.example"]
certificate = "a.crt"
key = "a.key"
"#;

/// Puts a certificate for `host` that ends at this moment in the place of a.example's.
fn put(place: &Place, host: &str, end: Timestamp) {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Certificate::self_signed(host, folder.path(), end.minus(VALID)).expect("made"));
    for end in ["crt", "key"] {
        std::fs::copy(folder.path().join(format!("{host}.{end}")), place.path(&format!("a.{end}"))).expect("put");
    }
}

fn day(at: Timestamp) -> String {
    at.to_string()[..10].to_owned()
}

fn listed(place: &Place) -> Vec<Value> {
    serde_json::from_str(&place.done(&["-c", "vorpal.toml", "--json", "cert", "list"])).expect("JSON")
}

#[test]
fn a_certificate_that_clients_refuse_never_replaces_a_good_one() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    let (good, end) = (now().plus(DAY * 400), now().plus(DAY * 20));
    put(&place, "a.example", good);
    let mut serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    let until = |host: usize| listed(&place)[host]["until"].as_str().map(str::to_owned);
    assert_eq!(until(0), Some(day(good)));

    // Expired, or for another host: the check and the reload refuse it, and the good one stays.
    for (host, end, part) in [
        ("a.example", now().minus(DAY), "the certificate of a.example has expired on "),
        ("elsewhere.example", now().plus(DAY * 300), "the certificate of a.example is for elsewhere.example: "),
    ] {
        put(&place, host, end);
        let checked = place.run(&["-c", "vorpal.toml", "config", "check"]);
        assert!(!checked.status.success() && String::from_utf8_lossy(&checked.stdout).contains(part), "{checked:?}");
        let told = place.refused(&["-c", "vorpal.toml", "config", "apply"]);
        assert!(told.contains("nothing was reloaded") && told.contains(part) && told.contains("a.crt: "), "{told}");
        assert_eq!(until(0), Some(day(good)));
    }

    // One that ends soon is warned of and taken, and what changed is told.
    put(&place, "a.example", end);
    let checked = place.done(&["-c", "vorpal.toml", "config", "check"]);
    assert!(checked.contains("warning: the certificate of a.example expires on "), "{checked}");
    let applied = place.done(&["-c", "vorpal.toml", "config", "apply"]);
    assert!(applied.starts_with(&format!("certificate of a.example until {}\n", day(end))), "{applied}");
    assert!(!applied.contains("b.example"), "{applied}");
    serving.until(&format!("INFO new: certificate of a.example until {}", day(end)));
    assert!(serving.said.contains("WARN certificate host=\"a.example\""), "{}", serving.said);
    assert_eq!(until(0), Some(day(end)));
    let again = place.done(&["-c", "vorpal.toml", "config", "apply"]);
    assert!(!again.contains("certificate of"), "{again}");
}

#[test]
fn a_reload_of_something_else_goes_through_while_the_certificate_in_use_has_expired() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    put(&place, "a.example", now().minus(DAY));
    let serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    assert!(serving.said.contains("ERROR certificate: replace the file"), "{}", serving.said);
    place.write("vorpal.toml", &format!("{CONFIG}[limits]\nlogin_tries = 3\n"));
    let applied = place.done(&["-c", "vorpal.toml", "config", "apply"]);
    assert!(applied.starts_with("limits.login_tries: 5 -> 3"), "{applied}");
}

#[test]
fn certificates_are_listed_with_and_without_a_server_and_counted_for_monitoring() {
    let place = Place::new();
    let pages = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    place.write("vorpal.toml", &CONFIG.replace("c2s_tls = []", &format!("c2s_tls = []\nmetrics = [\"{pages}\"]")));
    put(&place, "a.example", now().plus(DAY * 10));
    let rows = listed(&place);
    assert_eq!(rows[0]["names"][0].as_str(), Some("a.example"));
    assert_eq!(rows[0]["file"].as_str(), place.path("a.crt").to_str());
    assert_eq!((rows[0]["self_signed"].as_bool(), rows[0]["warnings"].as_array().map(Vec::len)), (Some(true), Some(1)));
    assert_eq!(rows[1]["error"].as_str(), Some("none yet: the server makes one when it starts"));
    assert!(!place.path("data").exists(), "looking makes nothing");

    let _serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    let rows = listed(&place);
    assert!(rows[0]["days"] == 9 || rows[0]["days"] == 10, "{rows:?}");
    assert_eq!(rows[1]["file"].as_str(), place.path("data/tls/b.example.crt").to_str());
    let text = place.done(&["-c", "vorpal.toml", "cert", "list"]);
    assert!(text.starts_with("a.example  until ") && text.contains("  self-signed  for a.example  "), "{text}");
    assert!(text.contains("\n    the certificate of a.example expires on "), "{text}");
    let metrics = page(pages);
    let left = |host: &str| -> i64 {
        let series = format!("vorpal_certificate_expires_seconds{{host=\"{host}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(series.as_str())).expect("a series");
        line.parse().expect("a number")
    };
    assert!((9 * 86_400..=10 * 86_400).contains(&left("a.example")), "{metrics}");
    assert!(left("b.example") > 800 * 86_400);
}

#[test]
fn a_file_that_holds_another_certificate_than_the_one_served_is_told_with_what_a_reload_does() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    put(&place, "a.example", now().plus(DAY * 400));
    let _serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    let told = || listed(&place)[0]["warnings"].as_array().cloned().unwrap_or_default();
    let before = told();
    assert!(!before.iter().any(|warning| warning.to_string().contains("another certificate")), "{before:?}");
    let new = now().plus(DAY * 500);
    for (host, end, part) in [
        ("a.example", new, format!("another certificate, until {}: `vorpal config apply` takes it up", day(new))),
        ("a.example", now().minus(DAY), "another certificate, which a reload refuses: ".to_owned()),
        ("elsewhere.example", new, "is for elsewhere.example".to_owned()),
    ] {
        put(&place, host, end);
        let told = told();
        assert_eq!(told.len(), before.len() + 1, "{told:?}");
        assert!(told.iter().any(|warning| warning.as_str().is_some_and(|text| text.contains(&part))), "{told:?}");
    }
    place.write("a.key", "no key");
    assert!(told().iter().any(|warning| warning.to_string().contains("a reload would be refused: ")), "{:?}", told());
}

fn page(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("read");
    page
}
