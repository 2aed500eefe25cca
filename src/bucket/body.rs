//! A request body that is read as it is sent, at the pace of all, so that memory does not grow with the clip.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Source;
use super::pace::{Pace, Turn};
use super::stall::{CHUNK_BYTES, Phase};

/// Where the bytes of an upload come from; each attempt reads them anew.
#[derive(Clone)]
pub enum Content {
    /// A file that is open for reading.
    File(Arc<File>),
    /// What the function reads from the beginning, the same each time it is called. It goes up in one request.
    Stream(Arc<dyn Fn() -> io::Result<Reader> + Send + Sync>),
}

/// What a body is read from, off the runtime's threads.
pub type Reader = Box<dyn Read + Send + Sync>;

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Content {
    /// Begins to read; only a file can be read from elsewhere than its beginning.
    fn open(&self, at: u64) -> io::Result<Reader> {
        match self {
            Self::File(file) => Ok(Box::new(FileFrom { file: Arc::clone(file), at })),
            Self::Stream(open) => open(),
        }
    }
}

/// A file from a place on, whose own position nobody else moves.
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

/// A part of a content.
struct Slice {
    content: Content,
    reader: Option<Reader>,
    at: u64,
    end: u64,
    turn: Turn,
    phase: watch::Sender<Phase>,
    reading: Option<Reading>,
}

/// A chunk on its way from the disk, with what it is read from.
struct Reading {
    length: u64,
    task: JoinHandle<io::Result<(Bytes, Reader)>>,
}

/// The bytes `at..at + length` of a source as a body that can be sent again; `phase` hears how far it has come.
pub(super) fn slice(source: &Source, at: u64, length: u64, pace: &Pace, phase: &watch::Sender<Phase>) -> ByteStream {
    let (content, age, pace, phase) = (source.content.clone(), source.modified, pace.clone(), phase.clone());
    ByteStream::new(SdkBody::retryable(move || {
        let (content, turn) = (content.clone(), pace.enter(age));
        let (end, phase) = (at + length, phase.clone());
        SdkBody::from_body_1_x(Slice { content, reader: None, at, end, turn, phase, reading: None })
    }))
}

fn read(mut reader: Reader, length: u64) -> io::Result<(Bytes, Reader)> {
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    // A file that has become shorter ends the request: what was promised cannot be sent.
    reader.read_exact(&mut chunk)?;
    Ok((chunk.into(), reader))
}

impl Body for Slice {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let reading = if let Some(reading) = &mut this.reading {
            reading
        } else {
            let Poll::Ready(length) = this.turn.poll(context, (this.end - this.at).min(CHUNK_BYTES)) else {
                this.phase.send_replace(Phase::Paused);
                return Poll::Pending;
            };
            this.phase.send_replace(Phase::Sending);
            let (whole, begun, at) = (this.content.clone(), this.reader.take(), this.at);
            let task = tokio::task::spawn_blocking(move || match begun {
                Some(reader) => read(reader, length),
                None => read(whole.open(at)?, length),
            });
            this.reading.insert(Reading { length, task })
        };
        let chunk = ready!(Pin::new(&mut reading.task).poll(context));
        let (chunk, reader) = chunk.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        this.reader = Some(reader);
        this.at += reading.length;
        this.reading = None;
        if this.at == this.end {
            this.phase.send_replace(Phase::Sent);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
