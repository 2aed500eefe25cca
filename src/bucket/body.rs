//! A request body that is read from a file as it is sent, at the pace of all, so that memory does not grow with the clip.

use std::fs::File;
use std::future::Future;
use std::io;
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
use super::stall::Phase;

/// Bytes read at a time: most pictures in one piece.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;

/// A part of a file.
struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
    turn: Turn,
    phase: watch::Sender<Phase>,
    reading: Option<Reading>,
}

/// A chunk on its way from the disk.
struct Reading {
    length: u64,
    task: JoinHandle<io::Result<Bytes>>,
}

/// The bytes `at..at + length` of a source as a body that can be sent again; `phase` hears how far it has come.
pub(super) fn slice(source: &Source, at: u64, length: u64, pace: &Pace, phase: &watch::Sender<Phase>) -> ByteStream {
    let (file, age, pace, phase) = (Arc::clone(&source.file), source.modified, pace.clone(), phase.clone());
    ByteStream::new(SdkBody::retryable(move || {
        let (file, turn) = (Arc::clone(&file), pace.enter(age));
        SdkBody::from_body_1_x(Slice { file, at, end: at + length, turn, phase: phase.clone(), reading: None })
    }))
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    // A file that has become shorter ends the request: what was promised cannot be sent.
    file.read_exact_at(&mut chunk, at)?;
    Ok(chunk.into())
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
            let (file, at) = (Arc::clone(&this.file), this.at);
            this.reading.insert(Reading { length, task: tokio::task::spawn_blocking(move || read(&file, at, length)) })
        };
        let chunk = ready!(Pin::new(&mut reading.task).poll(context));
        let chunk = chunk.unwrap_or_else(|error| Err(io::Error::other(error)))?;
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
