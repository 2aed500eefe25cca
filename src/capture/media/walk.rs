//! Going forward through a file: little is read, the rest is sought over.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// A place in a file whose size is known.
///
/// Going beyond the end is the error [`io::ErrorKind::UnexpectedEof`] and nothing else is, so that a walk along a
/// format needs no other word for "bytes are missing".
#[derive(Debug)]
pub(in crate::capture) struct Walk<'a> {
    reader: BufReader<&'a mut File>,
    left: u64,
}

impl<'a> Walk<'a> {
    /// Stands at the start of `file`.
    pub(in crate::capture) fn over(file: &'a mut File) -> io::Result<Self> {
        let left = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { reader: BufReader::new(file), left })
    }

    /// How many bytes follow.
    pub(in crate::capture) fn left(&self) -> u64 {
        self.left
    }

    /// The next `N` bytes.
    pub(in crate::capture) fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    /// The next byte.
    pub(in crate::capture) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.read::<1>()?[0])
    }

    /// As many of the next bytes as there are, up to `most`.
    pub(in crate::capture) fn read_most(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(most).read_to_end(&mut bytes)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(bytes)
    }

    /// Whether the next bytes are these; stands behind the first one that is not.
    pub(in crate::capture) fn starts(&mut self, expected: &[u8]) -> io::Result<bool> {
        for byte in expected {
            if self.byte()? != *byte {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes over `length` bytes.
    pub(in crate::capture) fn skip(&mut self, length: u64) -> io::Result<()> {
        let left = self.left.checked_sub(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.reader.seek_relative(i64::try_from(length).map_err(io::Error::other)?)?;
        self.left = left;
        Ok(())
    }

    /// Goes to behind the next `byte`, or to the end.
    pub(in crate::capture) fn skip_until(&mut self, byte: u8) -> io::Result<()> {
        let skipped = self.reader.skip_until(byte)?;
        self.left = self.left.saturating_sub(skipped as u64);
        Ok(())
    }
}
