//! Goes forward through a file, reading little of it and seeking over the rest.

use std::io::{self, BufRead, BufReader, Read, SeekFrom};

use super::Readable;

/// A position in a file whose size is known.
///
/// Its methods fail with [`io::ErrorKind::UnexpectedEof`] if they would go beyond the end, and for no other reason, so
/// that a format's reader can pass this error on to say that bytes are missing.
pub(in crate::capture) struct Walk<'a> {
    reader: BufReader<&'a mut dyn Readable>,
    left: u64,
}

impl<'a> Walk<'a> {
    /// Returns the start of a file.
    pub(in crate::capture) fn over(file: &'a mut dyn Readable) -> io::Result<Self> {
        let left = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { reader: BufReader::new(file), left })
    }

    /// Returns the number of bytes from here to the end.
    pub(in crate::capture) fn left(&self) -> u64 {
        self.left
    }

    /// Reads `N` bytes.
    pub(in crate::capture) fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    /// Reads one byte.
    pub(in crate::capture) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.read::<1>()?[0])
    }

    /// Reads `most` bytes, or fewer at the end of the file.
    pub(in crate::capture) fn read_most(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(most).read_to_end(&mut bytes)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(bytes)
    }

    /// Returns whether the next bytes are `expected`; reads up to the first one that differs.
    pub(in crate::capture) fn starts(&mut self, expected: &[u8]) -> io::Result<bool> {
        for byte in expected {
            if self.byte()? != *byte {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Skips `length` bytes.
    pub(in crate::capture) fn skip(&mut self, length: u64) -> io::Result<()> {
        let left = self.left.checked_sub(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.reader.seek_relative(i64::try_from(length).map_err(io::Error::other)?)?;
        self.left = left;
        Ok(())
    }

    /// Skips everything up to and including the next `byte`, or to the end.
    pub(in crate::capture) fn skip_until(&mut self, byte: u8) -> io::Result<()> {
        let skipped = self.reader.skip_until(byte)?;
        self.left = self.left.saturating_sub(skipped as u64);
        Ok(())
    }
}
