use std::process::ExitCode;

fn main() -> ExitCode {
    ssh_rescue::cli::main(std::env::args_os())
}
