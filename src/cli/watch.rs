//! `ssh-rescue watch`: undoes a repair whose process was ended before it was confirmed. That process starts it itself.

use std::io::{Write, stderr};
use std::time::Duration;

use super::screen::clean;
use super::{CliError, Context, Status};
use crate::host::keep_watch;
use crate::record::{StateDir, is_unfinished, recover};

/// What a killed repair had started may still be at work, and holds the lock until it ends.
const WAIT: Duration = Duration::from_secs(60);

pub fn run(context: &Context) -> Result<Status, CliError> {
    let state = StateDir::default();
    if !keep_watch().map_err(CliError::Watch)? || !is_unfinished(&context.host, &state)? {
        return Ok(Status::Ok);
    }
    let _lock = context.host.lock(state.run(), WAIT)?;
    for recovered in recover(&context.host, &state)? {
        let _ = writeln!(stderr(), "ssh-rescue: repair {}: {}", clean(&recovered.id), clean(&recovered.note));
    }
    Ok(Status::Ok)
}
