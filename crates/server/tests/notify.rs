//! What the service manager hears (sd_notify): from the start over reloads to the stop, and that a refused reload fails.

mod place;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use place::{Place, Serving};

const CONFIG: &str = "hosts = [\"a.example\"]\n[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n";

/// The manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Place) -> Manager {
        let socket = UnixDatagram::bind(place.path("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        Manager(socket)
    }

    /// The next message, but for those of the watchdog.
    fn hears(&self) -> String {
        loop {
            let text = self.next();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
    }
}

#[test]
fn the_service_manager_hears_of_every_state_and_a_refused_reload_fails() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    let manager = Manager::new(&place);
    let mut serve = place.command(&["-c", "vorpal.toml", "serve"]);
    let mut serving = Serving::start(serve.env("NOTIFY_SOCKET", place.path("notify")));
    assert_eq!(manager.hears(), "READY=1\nSTATUS=serving a.example");

    let apply = ["-c", "vorpal.toml", "config", "apply"];
    let reloading = |told: String| {
        let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload");
        let (micros, rest) = micros.split_once('\n').expect("a status");
        assert!(micros.parse::<u64>().expect("a number") > 0);
        assert_eq!(rest, "STATUS=reading the configuration again");
    };
    place.write("vorpal.toml", &CONFIG.replace("a.example", "b.example"));
    place.done(&apply);
    reloading(manager.hears());
    assert_eq!(manager.hears(), "READY=1\nSTATUS=serving b.example");

    // What ExecReload runs fails, and the server goes on as before.
    place.write("vorpal.toml", "hosts = 5\n");
    let told = place.refused(&apply);
    assert!(told.contains("vorpal.toml:1:9: `hosts`"), "{told}");
    place.write("vorpal.toml", &format!("{CONFIG}[tls]\ncertificate = \"absent\"\nkey = \"absent\"\n"));
    let told = place.refused(&apply);
    assert!(told.contains("nothing was reloaded"), "{told}");
    reloading(manager.hears());
    let after = manager.hears();
    let refused = "READY=1\nSTATUS=serving b.example; the last reload was refused: ";
    assert!(after.starts_with(refused) && after.contains("absent"), "{after}");

    place.write("vorpal.toml", CONFIG);
    let server = Pid::from_child(&serving.child);
    kill_process(server, Signal::HUP).expect("told");
    reloading(manager.hears());
    assert_eq!(manager.hears(), "READY=1\nSTATUS=serving a.example");

    kill_process(server, Signal::TERM).expect("told");
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=writing what was promised");
    assert!(serving.child.wait().expect("it ends").success());
}

#[test]
fn a_manager_that_watches_hears_that_the_server_is_alive() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    let manager = Manager::new(&place);
    let mut serve = place.command(&["-c", "vorpal.toml", "serve"]);
    serve.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "200000");
    let _serving = Serving::start(&mut serve);
    assert!(manager.next().starts_with("READY=1\n"));
    assert_eq!([manager.next(), manager.next(), manager.next()], ["WATCHDOG=1"; 3]);
}

#[test]
fn without_a_manager_nothing_is_sent_and_one_that_is_gone_stops_nobody() {
    let place = Place::new();
    place.write("vorpal.toml", CONFIG);
    let mut serve = place.command(&["-c", "vorpal.toml", "serve"]);
    let serving = Serving::start(serve.env("NOTIFY_SOCKET", place.path("nobody")));
    drop(serving);
    let serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    assert!(!serving.said.contains("service manager"), "{}", serving.said);
}
