//! The `vorpal` command.

fn main() -> std::process::ExitCode {
    vorpal::cli::main()
}
