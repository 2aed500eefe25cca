//! The client that does the least: it puts bytes over HTTP, signs nothing, checks nothing and removes nothing.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};

/// How many connections put together.
const CONNECTIONS: usize = 16;

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub(crate) fn open(endpoint: &str) -> anyhow::Result<Self> {
        let host = endpoint.strip_prefix("http://").context("an endpoint begins with http://")?.to_owned();
        let stream = TcpStream::connect(&host).with_context(|| format!("failed to connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { answers: BufReader::new(stream.try_clone()?), stream, host })
    }

    /// Puts the bytes under a path such as `/bucket/key`.
    ///
    /// # Errors
    /// The server does not answer 200.
    pub(crate) fn put(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.begin(path, bytes.len() as u64)?;
        self.stream.write_all(bytes)?;
        self.end()
    }

    fn put_file(&mut self, path: &str, file: &File) -> anyhow::Result<()> {
        let bytes = file.metadata()?.len();
        self.begin(path, bytes)?;
        let mut left = usize::try_from(bytes)?;
        while left > 0 {
            let sent = rustix::fs::sendfile(&self.stream, file, None, left)?;
            ensure!(sent > 0, "the file has become shorter");
            left -= sent;
        }
        self.end()
    }

    fn begin(&mut self, path: &str, bytes: u64) -> anyhow::Result<()> {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n", self.host);
        Ok(self.stream.write_all(head.as_bytes())?)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let (mut line, mut status, mut body) = (String::new(), String::new(), 0);
        while line != "\r\n" {
            line.clear();
            ensure!(self.answers.read_line(&mut line)? > 0, "the server has closed the connection");
            if status.is_empty() {
                status.clone_from(&line);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body = value.trim().parse()?;
            }
        }
        let mut text = vec![0; body];
        self.answers.read_exact(&mut text)?;
        ensure!(status.starts_with("HTTP/1.1 200"), "{status}{}", String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Puts every file of a folder under its name.
///
/// # Errors
/// A file cannot be read, or the server does not answer 200.
pub(crate) fn put_all(endpoint: &str, bucket: &str, folder: &Path) -> anyhow::Result<()> {
    let names: Result<Vec<PathBuf>, _> = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let names = names.map_err(|error: std::io::Error| error).context("failed to read the folder")?;
    let next = AtomicUsize::new(0);
    let put = || -> anyhow::Result<()> {
        let mut connection = Connection::open(endpoint)?;
        while let Some(file) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = file.file_name().and_then(|name| name.to_str()).context("a name in ASCII")?;
            connection.put_file(&format!("/{bucket}/limit/{name}"), &File::open(file)?)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(put)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

/// Puts what comes by the standard input, which is as many bytes.
///
/// # Errors
/// There are fewer bytes, or the server does not answer 200.
pub(crate) fn put_stream(endpoint: &str, path: &str, bytes: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(endpoint)?;
    connection.begin(path, bytes)?;
    let sent = std::io::copy(&mut std::io::stdin().lock(), &mut connection.stream)?;
    ensure!(sent == bytes, "{sent} bytes instead of {bytes}");
    connection.end()
}
