//! How a command ends: the exit code of its error.

use std::io;

use crate::config::Problems;

/// Some of the work failed; each failure was named on stderr.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {total} failed")]
pub struct Partly {
    /// How many failed.
    pub failed: usize,
    /// How many there were.
    pub total: usize,
}

/// What could be done now is done, and the rest waits for another run.
#[derive(Debug, thiserror::Error)]
#[error("{days} camera-days are due and wait for the next run")]
pub struct Waiting {
    /// The number of camera-days.
    pub days: u64,
}

/// The command failed, and has said why.
#[derive(Debug, thiserror::Error)]
#[error("failed, as was said")]
pub struct Told;

/// Another process did the command's work, has said all, and ended with this exit code.
#[derive(Debug, thiserror::Error)]
#[error("ended with {0}")]
pub struct ExitWith(pub u8);

/// The words of the command line do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}; --help says what the command takes")]
pub struct WrongUsage(pub String);

/// Returns the exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(ExitWith(code)) = error.downcast_ref() {
        *code
    } else if error.is::<Problems>() || error.is::<WrongUsage>() {
        2
    } else if error.downcast_ref::<Partly>().is_some_and(|partly| partly.failed < partly.total) || error.is::<Waiting>()
    {
        3
    } else {
        u8::from(!is_silent(error))
    }
}

/// Returns whether an error only says that the reader of the output has gone (`hk-aws list | head`).
pub fn is_silent(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_interface() {
        let partly = |failed, total| anyhow::Error::new(Partly { failed, total });
        assert_eq!(exit_code(&partly(1, 2)), 3);
        assert_eq!(exit_code(&partly(2, 2)), 1);
        assert_eq!(exit_code(&anyhow::Error::new(Waiting { days: 1 })), 3);
        assert_eq!(exit_code(&anyhow::Error::new(WrongUsage("no".to_owned()))), 2);
        assert_eq!(exit_code(&anyhow::Error::new(Told)), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("no")), 1);
        assert_eq!(exit_code(&anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe))), 0);
    }
}
