//! The plain tar: ustar with PAX records, as in POSIX.1-2008 pax and the GNU and SCHILY conventions.

use std::io::{Read, Write};

use super::{EntrySink, EntrySource, FormatError, ReadLimits, ReadReport};

/// Reads a whole tar into a sink.
/// # Errors
/// See [`FormatError`]; the sink may have taken a part and must be thrown away.
pub fn read(input: &mut dyn Read, limits: &ReadLimits, sink: &mut dyn EntrySink) -> Result<ReadReport, FormatError> {
    let _ = (input, limits, sink);
    todo!()
}

/// Writes all of a source as a tar, ended by two zero blocks.
/// # Errors
/// The source or the output fails.
pub fn write(output: &mut dyn Write, source: &mut dyn EntrySource) -> Result<(), FormatError> {
    let _ = (output, source);
    todo!()
}
