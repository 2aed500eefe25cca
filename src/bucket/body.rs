//! A request body that is read from a file as it is sent, so that memory does not grow with the clip.

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
use tokio::task::JoinHandle;

/// Bytes read at a time: most pictures in one piece.
const CHUNK_BYTES: u64 = 256 * 1024;

/// A part of a file.
#[derive(Debug)]
struct Slice {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

/// The bytes `at..at + length` of `file` as a body that can be sent again.
pub(super) fn slice(file: &Arc<File>, at: u64, length: u64) -> ByteStream {
    let file = Arc::clone(file);
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Slice { file: Arc::clone(&file), at, end: at + length, reading: None })
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
        let (at, length) = (self.at, (self.end - self.at).min(CHUNK_BYTES));
        let file = Arc::clone(&self.file);
        let reading = self.reading.get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&file, at, length)));
        let chunk = ready!(Pin::new(reading).poll(context)).unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.reading = None;
        self.at += length;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
