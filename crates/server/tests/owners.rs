//! Files of one user, commands of another: what is refused is named with its owner, and nothing is made that the server could not
//! open.

mod place;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use place::{Place, Serving, mode};

/// The user to whom a test as root changes: `nobody`.
const OTHER: u32 = 65_534;

const CONFIG: &str = "data = \"data\"\n[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n";

fn is_root(place: &Place) -> bool {
    std::fs::metadata(place.0.path()).expect("there").uid() == 0
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

/// A place that every user may enter, with the program in it: where it was built others may not look.
fn open_place() -> Place {
    let place = Place::new();
    allow(place.0.path(), 0o755);
    let (built, program) = (env!("CARGO_BIN_EXE_vorpal"), place.path("vorpal"));
    std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).expect("the program");
    place.write("vorpal.toml", CONFIG);
    place
}

/// The command as a user whom the modes of files bind: this one, or another one if this is root.
fn as_other(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(place.path("vorpal"));
    command.env_clear().current_dir(place.0.path()).args(["-c", "vorpal.toml"]).args(arguments);
    if is_root(place) {
        command.uid(OTHER).gid(OTHER);
    }
    command
}

fn refused(mut command: Command) -> String {
    let Output { status, stderr, stdout } = command.output().expect("the command runs");
    assert!(!status.success());
    // `config check` tells errors as its answer.
    String::from_utf8([stdout, stderr].concat()).expect("UTF-8")
}

#[test]
fn a_file_that_is_refused_is_named_with_its_owner_and_who_this_is() {
    let place = open_place();
    let owner = if is_root(&place) { "root" } else { "" };
    let named = |told: &str, file: &str, mode: &str| {
        let part = format!("{} belongs to {owner}", place.path(file).display());
        assert!(
            told.contains(&part) && told.contains(&format!(", with mode {mode}, and this command runs as ")),
            "{told}"
        );
    };
    // The configuration.
    allow(&place.path("vorpal.toml"), 0o000);
    let told = refused(as_other(&place, &["config", "check"]));
    assert!(
        told.contains("vorpal.toml belongs to ") && told.contains(", with mode 0000, and this command runs as "),
        "{told}"
    );
    // A key.
    allow(&place.path("vorpal.toml"), 0o644);
    place.write("vorpal.toml", &format!("{CONFIG}[tls]\ncertificate = \"c\"\nkey = \"k\"\n"));
    place.write("c", "");
    allow(&place.path("c"), 0o000);
    named(&refused(as_other(&place, &["config", "check"])), "c", "0000");
    // The directory in which the data would be made.
    place.write("vorpal.toml", CONFIG);
    let check = || {
        let checked = as_other(&place, &["config", "check"]).output().expect("the command runs");
        assert!(checked.status.success(), "{checked:?}");
        String::from_utf8(checked.stdout).expect("UTF-8")
    };
    allow(place.0.path(), 0o777);
    assert!(!check().contains("cannot be made"), "{}", check());
    allow(place.0.path(), 0o555);
    let part = format!(
        "warning: the data directory {} does not exist and cannot be made by this user: ",
        place.path("data").display()
    );
    assert!(check().contains(&part), "{}", check());
    let told = refused(as_other(&place, &["user", "add", "a@localhost", "--password", "secret"]));
    allow(place.0.path(), 0o755);
    assert!(
        told.contains("cannot be created: ") && told.contains(" belongs to ") && told.contains("Make it as root: "),
        "{told}"
    );
    assert!(!place.path("data").exists());
}

#[test]
fn what_a_command_makes_belongs_to_the_owner_of_the_directory_or_is_not_made() {
    let place = open_place();
    if !is_root(&place) {
        return; // Files cannot be given to others.
    }
    let add = ["user", "add", "a@localhost", "--password", "secret"];
    std::fs::create_dir(place.path("data")).expect("made");
    chown(place.path("data"), Some(OTHER), Some(OTHER)).expect("given away");
    allow(&place.path("data"), 0o755);
    // As root: stopped, with what to do, and the directory is as it was.
    let told = place.refused(&[&["-c", "vorpal.toml"], &add[..]].concat());
    assert!(told.contains("Run the command as nobody") && told.contains("`runuser -u nobody -- vorpal …`"), "{told}");
    assert_eq!(std::fs::read_dir(place.path("data")).expect("read").count(), 0);
    let checked = place.done(&["-c", "vorpal.toml", "config", "check"]);
    assert!(checked.contains("warning: the data directory ") && checked.contains("(mode 0755)"), "{checked}");
    // As its owner: made, closed to others, and the server of that user goes on with it.
    assert!(as_other(&place, &add).status().expect("runs").success());
    assert_eq!(mode(&place.path("data")), 0o700);
    for entry in std::fs::read_dir(place.path("data")).expect("read") {
        assert_eq!(entry.expect("read").metadata().expect("there").uid(), OTHER);
    }
    let serving = Serving::start(&mut as_other(&place, &["serve"]));
    // Root may do all, so it may talk to it, and the files stay those of the server.
    assert!(
        place.done(&["-c", "vorpal.toml", "user", "add", "b@localhost", "--password", "secret"]).contains("created")
    );
    drop(serving);
    for entry in std::fs::read_dir(place.path("data")).expect("read") {
        assert_eq!(entry.expect("read").metadata().expect("there").uid(), OTHER);
    }
}

#[test]
fn a_server_of_another_user_is_there_and_may_not_be_talked_to() {
    let place = open_place();
    place.write("vorpal.toml", &format!("{CONFIG}admin = \"sock\"\n"));
    let _serving = Serving::start(&mut place.command(&["-c", "vorpal.toml", "serve"]));
    if !is_root(&place) {
        allow(&place.path("sock"), 0o000);
    }
    for arguments in [&["status"][..], &["user", "list"]] {
        let told = refused(as_other(&place, arguments));
        let there = format!("a server is there, at {}, but ", place.path("sock").display());
        assert!(told.contains(&there) && told.contains(" may not talk to it: "), "{told}");
        assert!(told.contains(&format!("{} belongs to ", place.path("sock").display())), "{told}");
    }
    allow(place.0.path(), 0o700);
    if is_root(&place) {
        allow(place.0.path(), 0o711);
        place.write("vorpal.toml", &format!("{CONFIG}admin = \"data/sock\"\n"));
        let told = refused(as_other(&place, &["status"]));
        assert!(told.contains("a server may be there, at ") && told.contains("data belongs to root"), "{told}");
    }
}
