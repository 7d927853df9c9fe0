//! Standard output of the commands.
//!
//! `println!` panics where its reader has gone, as in `vorpal flow | head`, and where a file cannot be written.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Writes a line. A reader that has closed its end wants no more: that is no error.
///
/// # Errors
/// Standard output cannot be written, as a file on a full disk.
pub(super) fn line(text: impl Display) -> Result<()> {
    write(format_args!("{text}\n")).map(drop)
}

/// Writes text as it is, and says whether its reader is still there.
///
/// # Errors
/// As [`line()`].
pub(super) fn write(text: impl Display) -> Result<bool> {
    taken(to(&mut io::stdout().lock(), text))
}

fn to(out: &mut impl Write, text: impl Display) -> io::Result<()> {
    write!(out, "{text}")?;
    out.flush()
}

fn taken(written: io::Result<()>) -> Result<bool> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("standard output cannot be written"),
    }
}
