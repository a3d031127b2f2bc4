//! A question before a command changes something.

use std::io::Write;

use super::failure::Failure;
use crate::wire::text::Escaped;

/// Asks on the terminal. `nothing` says what was not done without a yes.
///
/// # Errors
/// Unless the answer is yes.
pub(super) fn confirm(question: &str, nothing: &str) -> Result<(), Failure> {
    let mut answer = String::new();
    {
        let mut out = std::io::stderr().lock();
        // standard error may be closed: then the user sees no question
        let _ = write!(out, "{}", Escaped(question)).and_then(|()| out.flush());
    }
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::Failed(format!("cannot read the answer: {error}: {nothing}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Failed(format!("not confirmed: {nothing}: answer y, or use -f"))),
    }
}
