//! The `vwatch` binary: parse, start, exit code. Everything else is in the library.

fn main() -> std::process::ExitCode {
    // here and not in the library, so that another commit alone builds only this file again; what releases sets it
    vwatch::cli::main(option_env!("VWATCH_COMMIT"))
}
