//! The bytes of a bundle, written as a stream that is the same each time it is read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use bytes::Bytes;
use chrono::NaiveTime;
use flate2::write::GzEncoder;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::NOTE;
use super::index::{Bundle, Index, Member, Note, VERSION};
use crate::bucket::Reader;
use crate::key::{ArchiveFormat, BundleId};

/// How many bytes are compressed at a time.
const PIECE: usize = 64 * 1024;

/// How many bytes are hashed at a time.
const HASHED_TOGETHER: usize = 256 << 10;

/// The size of a block of a tar, in bytes.
const BLOCK: u64 = 512;

/// The end of a tar: two blocks of zeros, in bytes.
const END: usize = 2 * 512;

/// The longest name that a header holds without an extension, in bytes.
const SHORT_NAME: usize = 100;

/// Pictures and clips are compressed already: the fastest level loses nothing.
const GZIP: flate2::Compression = flate2::Compression::fast();

/// A capture that goes into a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the tar.
    pub name: String,
    /// What the index says of it.
    pub note: Note,
    /// The file with its bytes.
    pub path: PathBuf,
}

impl Input {
    /// Returns whether the file still has the bytes that the note describes; a file that cannot be read has not.
    pub fn is_unchanged(&self) -> bool {
        let file = Exactly::open(&self.path, self.note.size, Some(self.note.sha256.clone()));
        file.and_then(|mut file| io::copy(&mut file, &mut io::sink())).is_ok()
    }
}

/// A piece of the tar; in the compressed formats it is a frame of its own.
enum Segment {
    Bytes(Vec<u8>),
    Content { path: PathBuf, size: u64, sha256: Option<String> },
}

/// The bytes of a bundle as a stream. Headers are made as their turn comes, so memory does not grow with the day.
struct Stream {
    part: BundleId,
    inputs: Arc<[Input]>,
    format: ArchiveFormat,
    /// Whether each content is held against the SHA-256 in its note.
    checks: bool,
    /// The number of the next segment.
    next: usize,
    current: Option<(Reader, bool)>,
    at: u64,
    begin: u64,
    /// Where the contents of the members lie, as far as the stream was read.
    contents: Vec<Range<u64>>,
}

impl Stream {
    fn new(part: &BundleId, inputs: &Arc<[Input]>, format: ArchiveFormat, checks: bool) -> Self {
        let (part, inputs) = (part.clone(), Arc::clone(inputs));
        Self { part, inputs, format, checks, next: 0, current: None, at: 0, begin: 0, contents: Vec::new() }
    }

    /// Returns the next piece: a header (after the padding of the content before it), a content, or the end of the tar.
    fn next_segment(&mut self) -> io::Result<Option<Segment>> {
        let (member, is_content) = (self.next / 2, self.next % 2 == 1);
        self.next += 1;
        let padding = || {
            let size = member.checked_sub(1).map_or(0, |before| self.inputs[before].note.size);
            vec![0; usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0)]
        };
        Ok(match self.inputs.get(member) {
            Some(Input { path, note, .. }) if is_content => {
                let sha256 = self.checks.then(|| note.sha256.clone());
                Some(Segment::Content { path: path.clone(), size: note.size, sha256 })
            }
            Some(input) => Some(Segment::Bytes([padding(), header(&self.part, input)?].concat())),
            None if is_content || member > self.inputs.len() => None,
            None => Some(Segment::Bytes([padding(), vec![0; END]].concat())),
        })
    }

    fn open(&self, segment: Segment) -> io::Result<(Reader, bool)> {
        let (plain, is_content): (Reader, bool) = match segment {
            Segment::Bytes(bytes) => (Box::new(io::Cursor::new(bytes)), false),
            Segment::Content { path, size, sha256 } => (Box::new(Exactly::open(&path, size, sha256)?), true),
        };
        let reader: Reader = match self.format {
            ArchiveFormat::Tar => plain,
            ArchiveFormat::TarGz => Compressed::boxed(plain, Encoder::Gzip(GzEncoder::new(Vec::new(), GZIP))),
            ArchiveFormat::TarZst => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
                Compressed::boxed(plain, Encoder::Zstandard(encoder))
            }
        };
        Ok((reader, is_content))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.current.is_none() {
                let Some(segment) = self.next_segment()? else { return Ok(0) };
                self.begin = self.at;
                self.current = Some(self.open(segment)?);
            }
            let Some((reader, is_content)) = &mut self.current else { return Ok(0) };
            let read = reader.read(into)?;
            if read > 0 || into.is_empty() {
                self.at += read as u64;
                return Ok(read);
            }
            if *is_content {
                self.contents.push(self.begin..self.at);
            }
            self.current = None;
        }
    }
}

/// A frame of compressed bytes. The output of an encoder depends on the pieces that it gets, so these are always the same.
struct Compressed {
    plain: Reader,
    encoder: Option<Encoder>,
    given: io::Cursor<Vec<u8>>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstandard(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressed {
    fn boxed(plain: Reader, encoder: Encoder) -> Reader {
        Box::new(Self { plain, encoder: Some(encoder), given: io::Cursor::default() })
    }
}

impl Encoder {
    /// Compresses a piece; returns the bytes that are ready.
    fn take(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstandard(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstandard(encoder) => encoder.finish(),
        }
    }
}

impl Read for Compressed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.given.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let Some(mut encoder) = self.encoder.take() else { return Ok(0) };
            let mut piece = Vec::with_capacity(PIECE);
            (&mut self.plain).take(PIECE as u64).read_to_end(&mut piece)?;
            let ready = if piece.is_empty() {
                encoder.finish()?
            } else {
                let ready = encoder.take(&piece)?;
                self.encoder = Some(encoder);
                ready
            };
            self.given = io::Cursor::new(ready);
        }
    }
}

/// The first bytes of a file; reading fails if the file has fewer, and at their end if they do not have the SHA-256 that
/// is expected.
struct Exactly {
    file: File,
    left: u64,
    expected: Option<(Sha256, String)>,
}

impl Exactly {
    fn open(path: &Path, size: u64, sha256: Option<String>) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, left: size, expected: sha256.map(|sha256| (Sha256::new(), sha256)) })
    }
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read(&mut into[..most])?;
        self.left -= read as u64;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was bundled"));
        }
        if let Some((hash, sha256)) = &mut self.expected {
            hash.update(&into[..read]);
            if read == 0 && !into.is_empty() && hex::encode(hash.clone().finalize()) != *sha256 {
                return Err(io::Error::other("a file changed while it was bundled"));
            }
        }
        Ok(read)
    }
}

/// A stream that fails before its last byte if its bytes do not have the expected SHA-256.
struct Checked {
    stream: Stream,
    hash: Sha256,
    left: u64,
    sha256: [u8; 32],
}

impl Read for Checked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(into)?;
        self.hash.update(&into[..read]);
        self.left = self.left.saturating_sub(read as u64);
        if read > 0 && self.left == 0 && self.hash.clone().finalize()[..] != self.sha256 {
            return Err(io::Error::other("a file changed while it was bundled"));
        }
        Ok(read)
    }
}

/// Reads all inputs through, and returns the index of the bundle that they give under `key`.
///
/// # Errors
/// `io::Error` if an input cannot be read, or does not have the bytes that its note describes.
pub fn lay_out(part: &BundleId, key: &str, inputs: &Arc<[Input]>, format: ArchiveFormat) -> io::Result<Index> {
    let mut stream = Stream::new(part, inputs, format, true);
    let mut size = 0;
    // Hashing takes longer than reading: each hash has a processor to itself where there are several.
    let (sha256, md5) = thread::scope(|scope| {
        let (to_sha256, sha256) = hash_beside::<Sha256>(scope);
        let (to_md5, md5) = hash_beside::<Md5>(scope);
        loop {
            let mut piece = Vec::with_capacity(HASHED_TOGETHER);
            (&mut stream).take(HASHED_TOGETHER as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            size += piece.len() as u64;
            let piece = Bytes::from(piece);
            // Nobody takes it if the thread panicked, which its end tells.
            let _taken = (to_sha256.send(piece.clone()), to_md5.send(piece));
        }
        drop((to_sha256, to_md5));
        Ok::<_, io::Error>((hashed(sha256)?, hashed(md5)?))
    })?;
    let members = inputs.iter().zip(stream.contents).map(|(input, place)| Member {
        name: input.name.clone(),
        offset: place.start,
        length: place.end - place.start,
        note: input.note.clone(),
    });
    let bundle = Bundle { key: key.to_owned(), format, size, sha256, md5 };
    Ok(Index { version: VERSION, part: part.clone(), bundle, members: members.collect() })
}

/// Starts a thread that hashes the pieces it is sent, until there are no more.
fn hash_beside<'scope, D: Digest>(
    scope: &'scope Scope<'scope, '_>,
) -> (SyncSender<Bytes>, ScopedJoinHandle<'scope, String>) {
    let (send, pieces) = sync_channel::<Bytes>(1);
    let hash = move || {
        let mut hash = D::new();
        for piece in pieces {
            hash.update(&piece);
        }
        hex::encode(hash.finalize())
    };
    (send, scope.spawn(hash))
}

/// Waits for the end of a hash; returns it in hexadecimal.
fn hashed(hash: ScopedJoinHandle<'_, String>) -> io::Result<String> {
    hash.join().map_err(|_panicked| io::Error::other("a hash was not finished"))
}

/// Returns the bytes of the bundle of a part that [`lay_out`] described. Reading fails, before their end, if an input has
/// changed since.
///
/// # Errors
/// `io::Error` if the SHA-256 of the bundle cannot be parsed.
pub fn open(part: &BundleId, bundle: &Bundle, inputs: &Arc<[Input]>) -> io::Result<Reader> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&bundle.sha256, &mut sha256).map_err(io::Error::other)?;
    let stream = Stream::new(part, inputs, bundle.format, false);
    Ok(Box::new(Checked { stream, hash: Sha256::new(), left: bundle.size, sha256 }))
}

/// Returns all blocks before the content of a member.
fn header(part: &BundleId, input: &Input) -> io::Result<Vec<u8>> {
    let Input { name, note, .. } = input;
    let mut archive = tar::Builder::new(Vec::new());
    let text = serde_json::to_vec(note)?;
    let long = name.len() > SHORT_NAME;
    let path = long.then_some(("path", name.as_bytes()));
    archive.append_pax_extensions(path.into_iter().chain([(NOTE, text.as_slice())]))?;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(note.size);
    let midnight = part.date.and_time(NaiveTime::MIN).and_utc().timestamp();
    let taken = note.taken_at.map_or(midnight, |taken| taken.timestamp());
    header.set_mtime(u64::try_from(taken).unwrap_or(0));
    // The library would split a name at its folders, and refuse some names.
    let stored = &name.as_bytes()[..name.floor_char_boundary(SHORT_NAME)];
    header.as_old_mut().name[..stored.len()].copy_from_slice(stored);
    header.set_cksum();
    archive.append(&header, io::empty())?;
    Ok(archive.get_ref().clone())
}
