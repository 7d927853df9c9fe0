//! Relative paths count from the directory of the configuration file, wherever the command runs.

mod place;

use std::path::Path;

use place::{Place, Serving};
use vorpal_net::tls::Certificate;
use vorpal_runtime::now;

const CONFIG: &str = r#"
hosts = ["a.example", "b.example"]
data = "state"
[listen]
admin = "run/sock"
c2s = ["127.0.0.1:0"]
c2s_tls = []
[tls]
certificate = "a.example.crt"
key = "a.example.key"
[host."b.example"]
certificate = "own/b.example.crt"
key = "own/b.example.key"
"#;

#[test]
fn every_relative_path_counts_from_the_directory_of_the_file() {
    let place = Place::new();
    for (host, folder) in [("a.example", "site/etc"), ("b.example", "site/etc/own")] {
        Certificate::self_signed(host, &place.path(folder), now()).expect("made");
    }
    std::fs::create_dir_all(place.path("site/etc/run")).expect("made");
    place.write("site/etc/vorpal.toml", CONFIG);
    let file = ["-c", "site/etc/vorpal.toml"];
    let with = |words: &[&'static str]| [&file, words].concat();
    let checked = place.done(&with(&["config", "check"]));
    assert!(checked.contains("in order"), "{checked}");
    let serving = Serving::start(&mut place.command(&with(&["serve"])));
    let state = place.path("site/etc/state");
    assert!(serving.said.contains(&format!("data={} ", state.display())), "{}", serving.said);
    assert!(state.join("vorpal.db").exists() && place.path("site/etc/run/sock").exists());
    // The same server is found from another directory, and by the path of the file from there.
    let mut elsewhere = place.command(&["-c", "../vorpal.toml", "status"]);
    assert!(elsewhere.current_dir(place.path("site/etc/own")).output().expect("runs").status.success());
    let added = place.done(&with(&["user", "add", "x@a.example", "--password", "secret"]));
    assert!(added.contains(&format!("by the server at {}", place.path("site/etc/run/sock").display())), "{added}");
    assert!(place.done(&with(&["config", "apply"])).contains("applied the configuration"));
    drop(serving);
    // Also without the server, and nothing was made anywhere else.
    let listed = place.done(&with(&["user", "list"]));
    assert!(listed.contains("x@a.example"), "{listed}");
    assert_eq!(entries(place.0.path()), ["site"]);
    assert_eq!(entries(&place.path("site")), ["etc"]);
    let made = ["a.example.crt", "a.example.key", "own", "run", "state", "vorpal.toml"];
    assert_eq!(entries(&place.path("site/etc")), made);
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("read").map(|entry| entry.expect("read").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort_unstable();
    names
}
