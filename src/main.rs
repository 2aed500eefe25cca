//! The program: parses its arguments, runs the command, and turns its result into an exit code.

use std::process::ExitCode;

use hk_aws::cli;

fn main() -> ExitCode {
    // If the command line is wrong, the process ends here with code 2.
    let cli = cli::read(std::env::args_os());
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = cli::exit_code(&error);
            if !cli::is_silent(&error) {
                cli::tell_failure(&error);
            }
            ExitCode::from(code)
        }
    }
}
