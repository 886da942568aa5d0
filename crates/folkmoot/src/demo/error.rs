//! Why the demo stopped.

/// The first thing that did not hold.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A claim of the demo is not met: this program is at fault.
    #[error("the demo failed: it should hold that {0}")]
    Unmet(&'static str),
    /// A command of the demo failed.
    #[error("the demo failed: `folkmoot {command}` of {actor} said: {message}")]
    Command {
        actor: String,
        command: String,
        message: String,
    },
    /// The server did not come up.
    #[error("the demo failed: the server said: {0}")]
    Server(String),
    /// The system failed.
    #[error("the demo failed: {0}")]
    Io(#[from] std::io::Error),
    /// Somebody pressed Ctrl-C.
    #[error("the demo was interrupted")]
    Interrupted,
}

/// Ends the demo unless what it claims is so.
pub fn check(holds: bool, claim: &'static str) -> Result<(), DemoError> {
    if holds {
        Ok(())
    } else {
        Err(DemoError::Unmet(claim))
    }
}
