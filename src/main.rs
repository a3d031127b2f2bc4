//! The `vwatch` binary: parse, start, exit code. Everything else is in the library.

fn main() -> std::process::ExitCode {
    vwatch::cli::main()
}
