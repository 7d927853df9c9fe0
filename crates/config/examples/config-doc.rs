//! Prints `docs/config.md` of the server without its modules: `cargo run -p vorpal-config --example config-doc`.

fn main() {
    print!("{}", vorpal_config::markdown(&[]));
}
