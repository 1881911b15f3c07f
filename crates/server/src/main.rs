//! The binary `tandem`: reads the command line and hands over to the library. Nothing is decided here.

fn main() -> std::process::ExitCode {
    tandem_server::cli::run()
}
