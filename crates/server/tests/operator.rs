//! What an operator sees who gives a wrong configuration, or none: nothing is changed that is not the server's, and the command says
//! what is wrong, where it looked and what to do.

mod place;

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use place::{Place, Serving, mode};

const ASKING: &[&[&str]] = &[
    &["user", "list"],
    &["user", "show", "a@localhost"],
    &["user", "rm", "--yes", "a@localhost"],
    &["user", "passwd", "a@localhost", "--password", "secret"],
    &["user", "disable", "a@localhost"],
    &["user", "enable", "a@localhost"],
    &["status"],
    &["top", "--once"],
    &["trace", "a@localhost"],
    &["session", "list"],
    &["session", "list", "a@localhost"],
    &["session", "kick", "a@localhost"],
    &["config", "apply"],
];

#[test]
fn a_command_that_creates_no_account_creates_no_data_and_says_where_it_looked() {
    let place = Place::new();
    place.write("vorpal.toml", "data = \"elsewhere\"\n");
    let data = place.path("data");
    let data = data.to_str().expect("UTF-8");
    for arguments in ASKING {
        let told = place.refused(arguments);
        assert!(told.contains("no configuration was given (-c)") && told.contains(data), "{told}");
        let told = place.refused(&[&["-c", "vorpal.toml"], *arguments].concat());
        assert!(told.contains("vorpal.toml") && told.contains("elsewhere"), "{told}");
    }
    let told = place.refused(&["user", "list"]);
    let begin = format!("vorpal: no configuration was given (-c), and no data at {data}; ");
    assert!(told.starts_with(&begin), "{told}");
    assert_eq!(std::fs::read_dir(place.0.path()).expect("read").count(), 1, "nothing was made");
}

#[test]
fn without_a_configuration_no_command_makes_data_in_the_directory_it_runs_in() {
    let place = Place::new();
    place.write(
        "users",
        "b@localhost SCRAM-SHA-1$4097:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=\n",
    );
    let add = ["user", "add", "a@localhost", "--password", "secret"];
    for arguments in [&add[..], &["user", "import", "users"]] {
        let told = place.refused(arguments);
        let data = place.path("data");
        let begin = format!("vorpal: no configuration was given (-c), and no data at {}; ", data.display());
        assert!(told.starts_with(&begin), "{told}");
        assert!(told.contains("VORPAL_CONFIG") && told.contains("/etc/vorpal/vorpal.toml"), "{told}");
        assert!(told.contains("`vorpal -c FILE …`") && told.contains("`vorpal serve`"), "{told}");
        assert!(!data.exists());
    }
    // Where they are named they are made; and what a server has made is used.
    assert!(place.command(&add).env("VORPAL_DATA", "named").status().expect("runs").success());
    assert!(place.path("named/vorpal.db").exists() && !place.path("data").exists());
    drop(Serving::start(
        place.command(&["serve"]).env("VORPAL_LISTEN_C2S", "127.0.0.1:0").env("VORPAL_LISTEN_C2S_TLS", ""),
    ));
    assert!(place.done(&add).starts_with("created the account a@localhost (in the data at "));
}

#[test]
fn a_command_that_changes_something_says_what_and_in_which_data() {
    let place = Place::new();
    place.write("vorpal.toml", "");
    let named = |arguments: &[&'static str]| [&["-c", "vorpal.toml"], arguments].concat();
    let data = format!("(in the data at {}; no server runs on them)", place.path("data").display());
    let new = format!("(in new data, created at {})", place.path("data").display());
    let first = place.done(&named(&["user", "add", "z@localhost", "--password", "secret"]));
    assert_eq!(first, format!("created the account z@localhost {new}\n"));
    for (arguments, did) in [
        (&["user", "add", "a@localhost", "--password", "secret"][..], "created the account a@localhost"),
        (&["user", "passwd", "a@localhost", "--password", "other"], "set the new password of a@localhost"),
        (&["user", "disable", "a@localhost"], "disabled a@localhost: nobody can log in, its sessions have ended"),
        (&["user", "enable", "a@localhost"], "enabled a@localhost: its user can log in again"),
        (&["user", "rm", "--yes", "a@localhost"], "deleted the account a@localhost with everything it had"),
    ] {
        assert_eq!(place.done(&named(arguments)), format!("{did} {data}\n"));
    }
    place.write("users", "b@localhost SCRAM-SHA-1$4097:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=\nc@x\n");
    let imported = place.run(&named(&["user", "import", "users"]));
    assert!(!imported.status.success());
    assert_eq!(String::from_utf8_lossy(&imported.stdout), format!("imported users: 1 created, 1 failed {data}\n"));
    let told = place.done(&named(&["--json", "user", "add", "d@localhost", "--password", "secret"]));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["done"], told["did"].as_str()), (&Value::Bool(true), Some("created the account d@localhost")));
    assert_eq!(told["data"].as_str(), place.path("data").to_str());
    let told = place.refused(&named(&["user", "rm", "--yes", "a@localhost"]));
    assert!(told.contains(&format!("there is no account a@localhost {data}")), "{told}");
}

#[test]
fn a_directory_of_others_is_not_taken_over() {
    let place = Place::new();
    std::fs::create_dir(place.path("home")).expect("made");
    std::fs::set_permissions(place.path("home"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    place.write("home/letter.txt", "dear");
    place.write("file", "text");
    for (data, told) in [
        ("home", "holds files that are not Vorpal's: set `data` to a separate directory"),
        ("file", "is not a directory: set `data` to a separate directory"),
    ] {
        place.write("vorpal.toml", &format!("data = \"{data}\"\n"));
        for arguments in [
            &["-c", "vorpal.toml", "serve"][..],
            &["-c", "vorpal.toml", "user", "add", "a@localhost", "--password", "x"],
        ] {
            let error = place.refused(arguments);
            assert!(error.contains(told), "{error}");
        }
        let checked = place.run(&["-c", "vorpal.toml", "config", "check"]);
        assert!(!checked.status.success() && String::from_utf8_lossy(&checked.stdout).contains(told), "{checked:?}");
    }
    assert_eq!(
        [mode(&place.path("home")), mode(&place.path("home/letter.txt")), mode(&place.path("file"))],
        [0o755, 0o644, 0o644]
    );
    assert_eq!(std::fs::read_dir(place.path("home")).expect("read").count(), 1, "nothing was made");
}

#[test]
fn what_is_no_database_is_named_and_left_alone() {
    let place = Place::new();
    place.write("vorpal.toml", "");
    place.done(&["-c", "vorpal.toml", "user", "add", "a@localhost", "--password", "secret"]);
    let text = "a letter, and much longer than the header of a database is\n".repeat(20);
    std::fs::write(place.path("data/vorpal.db"), &text).expect("written");
    let told = place.refused(&["user", "list"]);
    assert!(told.contains("data/vorpal.db is not a Vorpal database: restore a backup"), "{told}");
    assert_eq!(std::fs::read_to_string(place.path("data/vorpal.db")).expect("read"), text);
}

#[test]
fn a_store_that_is_locked_is_told_once_with_what_to_do() {
    let place = Place::new();
    place.write("vorpal.toml", "");
    place.done(&["-c", "vorpal.toml", "user", "add", "a@localhost", "--password", "secret"]);
    let file = std::fs::File::options().write(true).open(place.path("data/vorpal.lock")).expect("the lock");
    file.lock().expect("locked");
    let told = place.refused(&["user", "list"]);
    assert!(told.contains("is locked by pid ") && told.contains("Stop that one"), "{told}");
    assert_eq!(told.matches("the store ").count(), 1, "{told}");
}

#[test]
fn a_configuration_is_in_order_or_wrong_or_hardly_meant() {
    let place = Place::new();
    assert_eq!(place.done(&["config", "check"]), "no file: the defaults: in order\n");
    place.write("vorpal.toml", "[listen]\nmetrics = [\"0.0.0.0:5281\"]\n");
    let told = place.done(&["-c", "vorpal.toml", "config", "check"]);
    assert!(told.starts_with("warning: listen.metrics has 0.0.0.0:5281"), "{told}");
    assert!(told.ends_with("\nvorpal.toml: in order, with warnings: 1\n"), "{told}");
    let told: Value =
        serde_json::from_str(&place.done(&["--json", "-c", "vorpal.toml", "config", "check"])).expect("JSON");
    assert_eq!((&told["right"], told["warnings"].as_array().map(Vec::len)), (&Value::Bool(true), Some(1)));
    place.write("vorpal.toml", "[modules.mam]\nkeep = \"1y\"\n[limits]\nstanza_size = 131072\n");
    let output = place.run(&["-c", "vorpal.toml", "config", "check"]);
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!output.status.success());
    assert!(
        told.contains(
            "`modules.mam.keep` has to be \"forever\", or a period such as \"30d\" of at least an hour, not \"1y\"\n"
        ),
        "{told}"
    );
    assert!(told.contains("`limits.stanza_size` needs a unit, for example \"128 KiB\"\n"), "{told}");
}

#[test]
fn a_variable_of_no_key_is_warned_of_and_keeps_no_server_from_starting() {
    let place = Place::new();
    place.write("vorpal.toml", "[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n");
    let variables = [
        ("VORPAL_SERVICE_HOST", "10.0.0.1"),
        ("VORPAL_PORT_5222_TCP", "tcp://10.0.0.1:5222"),
        ("VORPAL_DURABILTY", "crash"),
    ];
    let told = [
        "the variable VORPAL_DURABILTY belongs to no key and has no effect; did you mean VORPAL_DURABILITY?",
        "variables that belong to no key and have no effect: VORPAL_PORT_5222_TCP, VORPAL_SERVICE_HOST",
    ];
    let checked = place.command(&["-c", "vorpal.toml", "config", "check"]).envs(variables).output().expect("runs");
    let stdout = String::from_utf8(checked.stdout).expect("UTF-8");
    assert!(checked.status.success(), "{stdout}");
    told.iter().for_each(|told| assert!(stdout.contains(&format!("warning: {told}\n")), "{stdout}"));
    let serving = Serving::start(place.command(&["-c", "vorpal.toml", "serve"]).envs(variables));
    told.iter().for_each(|told| assert!(serving.said.contains(&format!("WARN {told}\n")), "{}", serving.said));
}

#[test]
fn a_file_in_the_place_of_the_control_socket_is_not_removed() {
    let place = Place::new();
    place.write("letter.txt", "dear");
    place.write("vorpal.toml", "[listen]\nadmin = \"letter.txt\"\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n");
    let told = place.refused(&["-c", "vorpal.toml", "serve"]);
    assert!(told.contains("letter.txt cannot be created"), "{told}");
    assert_eq!(std::fs::read_to_string(place.path("letter.txt")).expect("read"), "dear");
}

#[test]
fn a_port_in_use_names_the_process_that_has_it() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").and_then(|taken| Ok((taken.local_addr()?, taken)));
    let (address, _taken) = taken.expect("a port");
    place.write("vorpal.toml", &format!("[listen]\nc2s = [\"{address}\"]\nc2s_tls = []\n"));
    let told = place.refused(&["-c", "vorpal.toml", "serve"]);
    let part = format!("process {} (", std::process::id());
    assert!(told.contains(&address.to_string()) && told.contains(&part) && told.contains(" has it"), "{told}");
}

#[test]
fn a_certificate_is_the_operators_or_the_servers_and_what_is_wrong_with_it_is_told() {
    const LISTEN: &str = "[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n";
    let place = Place::new();
    place.write("made.toml", &format!("data = \"made\"\n{LISTEN}"));
    let log = log_of_a_start(&place, "made.toml");
    assert!(
        log.contains("using a self-signed certificate made by the server: clients must be told to trust it"),
        "{log}"
    );
    for (from, to) in [("made/tls/localhost.crt", "chain.pem"), ("made/tls/localhost.key", "key.pem")] {
        place.write(to, &std::fs::read_to_string(place.path(from)).expect("read"));
    }
    let given = "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";
    place.write("vorpal.toml", &format!("hosts = [\"b.example\"]\n{LISTEN}{given}"));
    let told = place.run(&["-c", "vorpal.toml", "config", "check"]);
    let (status, told) = (told.status, String::from_utf8(told.stdout).expect("UTF-8"));
    for part in [
        "chain.pem: the certificate of b.example is for localhost, ",
        "warning: the key in ",
        "can be read by every user",
        "warning: the certificate of b.example is self-signed",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!status.success(), "a certificate for another host is an error");
    // At a start there is no better one to keep.
    let log = log_of_a_start(&place, "vorpal.toml");
    assert!(log.contains("the certificate is self-signed: ") && !log.contains("of our own"), "{log}");
    let (data, file) = (place.path("data"), place.path("vorpal.toml"));
    assert!(log.contains(&format!("data={} configuration={}", data.display(), file.display())), "{log}");
}

/// What a server logs until it is ready. Then it is ended.
fn log_of_a_start(place: &Place, config: &str) -> String {
    Serving::start(&mut place.command(&["-c", config, "serve"])).said.clone()
}
