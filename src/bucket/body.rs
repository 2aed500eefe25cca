//! What an upload reads and sends: the bytes are read as they are sent, at the shared pace, so that memory does not
//! grow with the size of a clip.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use md5::{Digest, Md5};
use sha2::Sha256;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Refusal;
use super::pace::{BodyTurn, Pace, Precedence};
use super::stall::{CHUNK_BYTES, Phase};
use crate::capture::media::Readable;

/// The bytes of an upload, with their checksum.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where the bytes come from.
    pub content: Content,
    /// The number of bytes.
    pub size: u64,
    /// Which uploads go first while the bandwidth is limited.
    pub precedence: Precedence,
    /// The SHA-256 of the bytes.
    pub sha256: [u8; 32],
}

/// Where the bytes of an upload come from; each attempt reads them anew.
#[derive(Clone)]
pub enum Content {
    /// What was read of a file of ordinary size.
    Bytes(Bytes),
    /// A file that is open for reading.
    File(Arc<File>),
    /// A function that opens the bytes at their beginning, the same bytes at each call: reading them fails before their
    /// end if they would be others. They go up in one request.
    Stream(Arc<dyn Fn() -> io::Result<Reader> + Send + Sync>),
}

/// A reader of an upload's bytes; it is read on threads that may block.
pub type Reader = Box<dyn Read + Send + Sync>;

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "Bytes",
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Source {
    /// Returns the MD5 of the bytes in `range`, in hexadecimal. They are read once more: only what the store does not
    /// confirm otherwise costs that. A stream is always read as a whole.
    ///
    /// # Errors
    /// A [`Refusal`] to try later if the bytes cannot be read.
    pub(super) async fn md5(&self, range: Range<u64>) -> Result<String, Refusal> {
        let content = self.content.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let (mut bytes, mut hash) = (content.open(range.start)?.take(range.end - range.start), Md5::new());
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match bytes.read(&mut buffer)? {
                    0 => return Ok(hex::encode(hash.finalize())),
                    read => hash.update(&buffer[..read]),
                }
            }
        });
        let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error: io::Error| Refusal::later(format!("failed to read file: {error}")))
    }
}

impl Content {
    /// Returns a reader that begins at byte `at`, which is 0 for a stream.
    fn open(&self, at: u64) -> io::Result<Reader> {
        match self {
            Self::Bytes(bytes) => {
                let mut reader = Cursor::new(bytes.clone());
                reader.set_position(at);
                Ok(Box::new(reader))
            }
            Self::File(file) => Ok(Box::new(FileFrom { file: Arc::clone(file), at })),
            Self::Stream(open) => open(),
        }
    }

    /// Returns what reads the content of a file from its beginning, and from anywhere else.
    ///
    /// # Errors
    /// `Unsupported` for a stream; otherwise the error of the system if it allows no more descriptors.
    pub fn readable(&self) -> io::Result<Box<dyn Readable>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            // Opened by descriptor, it is the same file, and has a position of its own.
            Self::File(file) => Ok(Box::new(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?)),
            Self::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads the bytes `at..at + length`, and calls `each` with one piece after the other.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are fewer; `Unsupported` for a stream; otherwise the error that reading them gave.
    pub fn read_through(&self, at: u64, length: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                each(in_memory(bytes, at..at + length).ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => read_through(file, at, length, each),
            Self::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Returns the SHA-256 of the first `size` bytes.
    ///
    /// # Errors
    /// As of [`Self::read_through`].
    pub fn sha256(&self, size: u64) -> io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        self.read_through(0, size, |piece| hash.update(piece))?;
        Ok(hash.finalize().into())
    }
}

/// Returns some of the bytes; `None` if there are fewer.
fn in_memory(bytes: &Bytes, range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Reads a file from a position of its own, which other readers of the same file do not move.
struct FileFrom {
    file: Arc<File>,
    at: u64,
}

impl Read for FileFrom {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads the bytes `at..at + length` of a file, and calls `each` with one piece after the other.
///
/// # Errors
/// `UnexpectedEof` if the file is shorter; otherwise the error that reading it gave.
pub fn read_through(file: &File, at: u64, length: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut at, end) = (at, at + length);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..want], at)?;
        each(&buffer[..want]);
        at += want as u64;
    }
    Ok(())
}

/// Returns the bytes `range` of a source as a body that can be sent again; `phase` is told how far it has come.
///
/// If a SHA-256 is `promised`, a body with other bytes is never sent to its end: a file can change between its hash and
/// its upload, and a store that checks nothing would keep the bytes of one moment with the hash of another.
pub(super) fn slice(
    source: &Source,
    range: Range<u64>,
    promised: Option<[u8; 32]>,
    pace: &Pace,
    phase: &watch::Sender<Phase>,
) -> ByteStream {
    let (content, precedence, pace, phase) = (source.content.clone(), source.precedence, pace.clone(), phase.clone());
    // What is in memory does not change, and a stream makes sure of itself.
    let promised = promised.filter(|_| matches!(content, Content::File(_)));
    ByteStream::new(SdkBody::retryable(move || {
        let (turn, phase, rest) = (pace.enter(precedence), phase.clone(), range.clone());
        let (read, reading) = if let Content::Bytes(bytes) = &content {
            let read = in_memory(bytes, range.clone()).map(|part| bytes.slice_ref(part));
            (read.unwrap_or_default(), Reading::Ended)
        } else {
            let promise = promised.map(|sha256| Promise { sha256, so_far: Sha256::new() });
            let ahead = ReadAhead { content: content.clone(), reader: None, promise, rest: range.clone() };
            (Bytes::new(), Reading::Waits(Box::new(ahead)))
        };
        SdkBody::from_body_1_x(Slice { rest, turn, phase, read, reading })
    }))
}

/// A request body: a range of a content. The next chunk is read while the one before it is sent.
struct Slice {
    /// The bytes that are not sent yet.
    rest: Range<u64>,
    turn: BodyTurn,
    phase: watch::Sender<Phase>,
    /// What was read and is not sent yet.
    read: Bytes,
    reading: Reading,
}

/// Whether more of a content is being read.
enum Reading {
    /// There is nothing more to read.
    Ended,
    /// Nobody has asked for it yet.
    Waits(Box<ReadAhead>),
    /// A thread that may block reads the next chunk.
    Runs(JoinHandle<io::Result<(Bytes, Box<ReadAhead>)>>),
}

/// What is needed to read the next chunk.
struct ReadAhead {
    content: Content,
    reader: Option<Reader>,
    promise: Option<Promise>,
    /// The bytes that are not read yet.
    rest: Range<u64>,
}

/// The SHA-256 that the bytes of a body must have, and the hash of those that were read.
struct Promise {
    sha256: [u8; 32],
    so_far: Sha256,
}

impl ReadAhead {
    fn read(mut self: Box<Self>) -> io::Result<(Bytes, Box<Self>)> {
        let length = (self.rest.end - self.rest.start).min(CHUNK_BYTES);
        let mut reader = self.reader.take().map_or_else(|| self.content.open(self.rest.start), Ok)?;
        let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        // A file that has become shorter fails the request, because the promised number of bytes cannot be sent.
        reader.read_exact(&mut chunk)?;
        (self.reader, self.rest.start) = (Some(reader), self.rest.start + length);
        if let Some(promise) = &mut self.promise {
            promise.so_far.update(&chunk);
            if self.rest.is_empty() && promise.so_far.clone().finalize()[..] != promise.sha256 {
                return Err(io::Error::other("the file changed while it was sent"));
            }
        }
        Ok((chunk.into(), self))
    }
}

impl Reading {
    /// Begins to read the next chunk, unless that has begun.
    fn begin(&mut self) {
        *self = match std::mem::replace(self, Self::Ended) {
            Self::Waits(ahead) if ahead.rest.is_empty() => Self::Ended,
            Self::Waits(ahead) => Self::Runs(tokio::task::spawn_blocking(|| ahead.read())),
            begun => begun,
        }
    }

    /// Returns the next chunk, and begins to read the one behind it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.begin();
        let Self::Runs(running) = self else { return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())) };
        let done = ready!(Pin::new(running).poll(context));
        *self = Self::Ended;
        let (chunk, ahead) = done.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        *self = Self::Waits(ahead);
        self.begin();
        Poll::Ready(Ok(chunk))
    }
}

impl Body for Slice {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        if this.read.is_empty() {
            this.phase.send_replace(Phase::Sending);
            this.read = ready!(this.reading.poll(context))?;
        }
        let Poll::Ready(length) = this.turn.poll(context, (this.read.len() as u64).min(CHUNK_BYTES)) else {
            this.phase.send_replace(Phase::Paused);
            return Poll::Pending;
        };
        let chunk = this.read.split_to(usize::try_from(length).map_err(io::Error::other)?);
        this.rest.start += length;
        this.phase.send_replace(if this.rest.is_empty() { Phase::Sent } else { Phase::Sending });
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}
