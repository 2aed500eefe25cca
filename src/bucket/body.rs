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
        let promise = promised.map(|sha256| Promise { sha256, so_far: Sha256::new() });
        let (content, turn, phase) = (content.clone(), pace.enter(precedence), phase.clone());
        SdkBody::from_body_1_x(Slice { content, reader: None, promise, rest: range.clone(), turn, phase, chunk: None })
    }))
}

/// A request body: a range of a content.
struct Slice {
    content: Content,
    reader: Option<Reader>,
    promise: Option<Promise>,
    /// The bytes that are not sent yet.
    rest: Range<u64>,
    turn: BodyTurn,
    phase: watch::Sender<Phase>,
    chunk: Option<ChunkRead>,
}

/// The SHA-256 that the bytes of a body must have, and the hash of those that were read.
struct Promise {
    sha256: [u8; 32],
    so_far: Sha256,
}

/// A chunk that a blocking thread reads, together with what is needed for the next one.
type ChunkRead = JoinHandle<io::Result<(Bytes, Reader, Option<Promise>)>>;

impl Slice {
    /// Returns a chunk as the next frame.
    fn sends(&mut self, chunk: Bytes) -> Frame<Bytes> {
        self.rest.start += chunk.len() as u64;
        if self.rest.is_empty() {
            self.phase.send_replace(Phase::Sent);
        }
        Frame::data(chunk)
    }
}

fn read_chunk(
    mut reader: Reader,
    length: u64,
    mut promise: Option<Promise>,
    is_last: bool,
) -> io::Result<(Bytes, Reader, Option<Promise>)> {
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    // A file that has become shorter fails the request, because the promised number of bytes cannot be sent.
    reader.read_exact(&mut chunk)?;
    if let Some(promise) = &mut promise {
        promise.so_far.update(&chunk);
        if is_last && promise.so_far.clone().finalize()[..] != promise.sha256 {
            return Err(io::Error::other("the file changed while it was sent"));
        }
    }
    Ok((chunk.into(), reader, promise))
}

impl Body for Slice {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let chunk = if let Some(chunk) = &mut this.chunk {
            chunk
        } else {
            let Poll::Ready(length) = this.turn.poll(context, (this.rest.end - this.rest.start).min(CHUNK_BYTES))
            else {
                this.phase.send_replace(Phase::Paused);
                return Poll::Pending;
            };
            this.phase.send_replace(Phase::Sending);
            if let Content::Bytes(bytes) = &this.content {
                let chunk = in_memory(bytes, this.rest.start..this.rest.start + length);
                let chunk = chunk.map(|chunk| bytes.slice_ref(chunk)).ok_or(io::ErrorKind::UnexpectedEof)?;
                return Poll::Ready(Some(Ok(this.sends(chunk))));
            }
            let (bytes, begun, at) = (this.content.clone(), this.reader.take(), this.rest.start);
            let (promise, is_last) = (this.promise.take(), at + length == this.rest.end);
            let task = tokio::task::spawn_blocking(move || {
                let reader = begun.map_or_else(|| bytes.open(at), Ok)?;
                read_chunk(reader, length, promise, is_last)
            });
            this.chunk.insert(task)
        };
        let read = ready!(Pin::new(chunk).poll(context));
        let (bytes, reader, promise) = read.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        (this.reader, this.promise, this.chunk) = (Some(reader), promise, None);
        Poll::Ready(Some(Ok(this.sends(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}
