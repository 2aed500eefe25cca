//! The file of a day that captures are being written into: kept open, and read on as others write into it.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::{LONGEST_LINE, LedgerEntry, ends_torn, holds, lines, old, open, parse, write_behind};

/// The file of a day, and how far it is known.
#[derive(Debug)]
pub struct DayFile {
    path: PathBuf,
    /// The inode of the file that is known.
    inode: u64,
    /// How many bytes of it are known: whole lines.
    known: u64,
    /// Open for appending.
    file: Option<File>,
}

impl DayFile {
    /// Returns the file at `path`, which need not exist yet, and calls `each` with the captures that it has.
    pub fn new(path: PathBuf, mut each: impl FnMut(LedgerEntry)) -> Self {
        let mut day = Self { path, inode: 0, known: 0, file: None };
        // In this order: if the file is compressed in between, its lines are seen twice, and not never.
        day.read_on(&mut each);
        let old = old::read_compressed(&day.path).ok().flatten();
        old.into_iter().flat_map(lines).filter_map(|line| parse(&line)).for_each(each);
        day
    }

    /// Calls `each` with the captures that were written into the file since it was read last, by whomever; with none if it
    /// cannot be read.
    pub fn read_on(&mut self, each: impl FnMut(LedgerEntry)) {
        let found = std::fs::metadata(&self.path);
        if found.is_ok_and(|found| !self.is_known(&found)) {
            let _unreadable = self.read_from_disk(each);
        }
    }

    fn is_known(&self, found: &Metadata) -> bool {
        (found.ino(), found.len()) == (self.inode, self.known)
    }

    fn read_from_disk(&mut self, mut each: impl FnMut(LedgerEntry)) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let found = file.metadata()?;
        // What was known has been compressed, and this is a new one.
        if found.ino() != self.inode || found.len() < self.known {
            (self.inode, self.known) = (found.ino(), 0);
        }
        file.seek(SeekFrom::Start(self.known))?;
        for line in lines(file) {
            if let Some(entry) = parse(&line) {
                each(entry);
            }
            let length = line.len() as u64;
            // A line without an end is being written, or was torn: it is read again.
            if line.last() != Some(&b'\n') && length < LONGEST_LINE {
                break;
            }
            self.known += length;
        }
        Ok(())
    }

    /// Appends the line of a capture, and calls `each` with those that others have written meanwhile.
    ///
    /// # Errors
    /// The same as of [`append`](super::append).
    pub fn append(&mut self, entry: &LedgerEntry, each: impl FnMut(LedgerEntry)) -> io::Result<()> {
        self.append_unless(|_| Ok(false), entry, each)
    }

    /// Appends the line of a capture, unless the file has it already.
    ///
    /// This is for an object that was in the bucket before, so that its line may have been written before, too.
    ///
    /// # Errors
    /// The same as of [`append`](super::append).
    pub fn append_once(&mut self, entry: &LedgerEntry, each: impl FnMut(LedgerEntry)) -> io::Result<()> {
        self.append_unless(|day| holds(&day.path, entry), entry, each)
    }

    fn append_unless(
        &mut self,
        is_there: impl FnOnce(&Self) -> io::Result<bool>,
        entry: &LedgerEntry,
        each: impl FnMut(LedgerEntry),
    ) -> io::Result<()> {
        let (mut file, found) = self.locked()?;
        if !self.is_known(&found) {
            self.read_on(each);
        }
        let is_torn = !self.is_known(&found) && ends_torn(&mut file)?;
        if !is_there(self)? {
            let end = write_behind(&mut file, &self.path, (found.len(), is_torn), std::slice::from_ref(entry))?;
            if self.is_known(&found) || is_torn {
                self.known = end;
            }
        }
        rustix::fs::flock(&file, FlockOperation::Unlock)?;
        self.file = Some(file);
        Ok(())
    }

    /// Returns the file that is at the path now, locked.
    fn locked(&mut self) -> io::Result<(File, Metadata)> {
        if let Some(file) = self.file.take() {
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            // It may have been compressed and removed.
            let found = file.metadata()?;
            if found.nlink() > 0 {
                return Ok((file, found));
            }
        }
        let file = open(&self.path)?;
        let found = file.metadata()?;
        Ok((file, found))
    }

    /// Closes the file until the next line is appended.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Returns whether the file is open.
    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }
}
