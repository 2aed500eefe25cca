//! The bytes of a bundle: written as a stream that is the same each time, and read back where an index is gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveTime;
use flate2::write::GzEncoder;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::index::{Bundle, Index, Member, Note, VERSION};
use crate::bucket::Reader;
use crate::key::ArchiveFormat;
use crate::key::BundleId;

/// The name of the header that carries a member's [`Note`]: an extended attribute, as GNU and BSD tar know them, which
/// they leave alone unless they are asked for it.
const NOTE: &str = "SCHILY.xattr.user.hk-aws";

/// Bytes that are compressed at a time.
const PIECE: usize = 64 * 1024;

/// A block of a tar, in bytes.
const BLOCK: u64 = 512;

/// Two blocks of zeros are the end of a tar.
const END: usize = 2 * 512;

/// The longest name that the header itself holds, in bytes.
const SHORT_NAME: usize = 100;

/// Pictures and clips are compressed already: the fastest way loses nothing.
const GZIP: flate2::Compression = flate2::Compression::fast();

/// A capture that goes into a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the tar.
    pub name: String,
    /// What is known of it.
    pub note: Note,
    /// The file with its bytes.
    pub path: PathBuf,
}

/// A piece of the tar that is a frame of its own where it is compressed.
enum Segment {
    Bytes(Vec<u8>),
    Content { path: PathBuf, size: u64 },
}

/// The stream of a bundle. What stands between two contents is made as it comes, so that memory does not grow with them.
struct Stream {
    part: BundleId,
    inputs: Arc<[Input]>,
    format: ArchiveFormat,
    /// The number of the next segment.
    next: usize,
    current: Option<(Reader, bool)>,
    at: u64,
    begin: u64,
    /// Where the contents were.
    contents: Vec<Range<u64>>,
}

impl Stream {
    fn new(part: &BundleId, inputs: &Arc<[Input]>, format: ArchiveFormat) -> Self {
        let (part, inputs) = (part.clone(), Arc::clone(inputs));
        Self { part, inputs, format, next: 0, current: None, at: 0, begin: 0, contents: Vec::new() }
    }

    /// A header before each content, with the padding of the one before, and the end.
    fn next_segment(&mut self) -> io::Result<Option<Segment>> {
        let (member, is_content) = (self.next / 2, self.next % 2 == 1);
        self.next += 1;
        let padding = || {
            let size = member.checked_sub(1).map_or(0, |before| self.inputs[before].note.size);
            vec![0; usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0)]
        };
        Ok(match self.inputs.get(member) {
            Some(Input { path, note, .. }) if is_content => {
                Some(Segment::Content { path: path.clone(), size: note.size })
            }
            Some(input) => Some(Segment::Bytes([padding(), header(&self.part, input)?].concat())),
            None if is_content || member > self.inputs.len() => None,
            None => Some(Segment::Bytes([padding(), vec![0; END]].concat())),
        })
    }

    fn open(&self, segment: Segment) -> io::Result<(Reader, bool)> {
        let (plain, is_content): (Reader, bool) = match segment {
            Segment::Bytes(bytes) => (Box::new(io::Cursor::new(bytes)), false),
            Segment::Content { path, size } => (Box::new(Exactly { file: File::open(path)?, left: size }), true),
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

/// A frame of compressed bytes. What an encoder gives depends on the pieces that it is given, so they are always the same.
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
    /// Takes a piece on; answers what is ready.
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

/// A file of which so many bytes are wanted: neither fewer nor more may be there.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read(&mut into[..most])?;
        self.left -= read as u64;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was bundled"));
        }
        Ok(read)
    }
}

/// Ends with an error where the bytes are not the expected ones, before the last of them is given out.
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

/// Reads all inputs through, and says what the bundle will be under `key`.
///
/// # Errors
/// Where an input cannot be read, or is not as long as it should be.
pub fn lay_out(part: &BundleId, key: &str, inputs: &Arc<[Input]>, format: ArchiveFormat) -> io::Result<Index> {
    let mut stream = Stream::new(part, inputs, format);
    let (mut sha256, mut md5, mut size) = (Sha256::new(), Md5::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sha256.update(&buffer[..read]);
        md5.update(&buffer[..read]);
        size += read as u64;
    }
    let members = inputs.iter().zip(stream.contents).map(|(input, place)| Member {
        name: input.name.clone(),
        offset: place.start,
        length: place.end - place.start,
        note: input.note.clone(),
    });
    let (sha256, md5) = (hex::encode(sha256.finalize()), hex::encode(md5.finalize()));
    let bundle = Bundle { key: key.to_owned(), format, size, sha256, md5 };
    Ok(Index { version: VERSION, part: part.clone(), bundle, members: members.collect() })
}

/// Begins to read the bundle that [`lay_out`] described; an input that changed since ends it with an error.
///
/// # Errors
/// Where the index tells no SHA-256.
pub fn open(index: &Index, inputs: &Arc<[Input]>) -> io::Result<Reader> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&index.bundle.sha256, &mut sha256).map_err(io::Error::other)?;
    let stream = Stream::new(&index.part, inputs, index.bundle.format);
    Ok(Box::new(Checked { stream, hash: Sha256::new(), left: index.bundle.size, sha256 }))
}

/// All blocks before a member's content.
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
    // Not through the library, which splits a name at its folders and refuses some.
    let stored = &name.as_bytes()[..name.floor_char_boundary(SHORT_NAME)];
    header.as_old_mut().name[..stored.len()].copy_from_slice(stored);
    header.set_cksum();
    archive.append(&header, io::empty())?;
    Ok(archive.get_ref().clone())
}

/// Whether a name can be a member: one path below the folder it is unpacked in.
pub fn is_member_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\0') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A reader of the tar in a bundle.
///
/// # Errors
/// Where the format's reader cannot be made.
pub fn unpack(format: ArchiveFormat, bytes: impl Read + Send + Sync + 'static) -> io::Result<Reader> {
    Ok(match format {
        ArchiveFormat::Tar => Box::new(bytes),
        ArchiveFormat::TarGz => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        ArchiveFormat::TarZst => Box::new(zstd::stream::read::Decoder::new(bytes)?),
    })
}

/// A member as a bundle itself tells of it.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What was written beside it; the scripts that came before wrote nothing.
    pub note: Option<Note>,
    /// Bytes.
    pub size: u64,
    /// Its time, in seconds since 1970.
    pub mtime: u64,
}

/// Shows every regular file of a tar with its content, in order.
///
/// # Errors
/// Where it is no tar, is cut off, or `see` fails.
pub fn walk(tar: impl Read, mut see: impl FnMut(Found, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut note = None;
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            if extension.key_bytes() == NOTE.as_bytes() {
                note = serde_json::from_slice(extension.value_bytes()).ok();
            }
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (size, mtime) = (entry.size(), entry.header().mtime()?);
        see(Found { name, note, size, mtime }, &mut entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn part() -> BundleId {
        BundleId { camera: "CAM".into(), date: "2022-02-24".parse().unwrap(), part: 1 }
    }

    fn inputs(folder: &std::path::Path) -> Arc<[Input]> {
        let long = format!("{}/{}.jpg", "é".repeat(60), "y".repeat(120));
        let contents =
            [("a.jpg", vec![1; 700]), ("empty.jpg", vec![]), (&*long, vec![3; 512]), ("z.mp4", vec![4; 70_000])];
        let input = |(at, (name, bytes)): (usize, (&str, Vec<u8>))| {
            let path = folder.join(at.to_string());
            std::fs::write(&path, &bytes).unwrap();
            let taken = DateTime::parse_from_rfc3339("2022-02-24T05:06:07+02:00").unwrap();
            let note = Note {
                key: format!("CAM/2022-02-24/{name}"),
                size: bytes.len() as u64,
                sha256: hex::encode(Sha256::digest(&bytes)),
                taken_at: (at != 1).then_some(taken),
                event: (at == 0).then(|| "MOTION".to_owned()),
                stored_at: taken.to_utc(),
                etag: "e".into(),
            };
            Input { name: name.to_owned(), note, path }
        };
        contents.into_iter().enumerate().map(input).collect()
    }

    fn bytes(index: &Index, inputs: &Arc<[Input]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        open(index, inputs).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_bundle_is_what_was_laid_out_and_each_member_lies_where_the_index_says() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        for format in ArchiveFormat::ALL {
            let index = lay_out(&part(), "k", &inputs, format).unwrap();
            let bytes = bytes(&index, &inputs);
            assert_eq!(bytes.len() as u64, index.bundle.size);
            assert_eq!(hex::encode(Sha256::digest(&bytes)), index.bundle.sha256);
            assert_eq!(hex::encode(Md5::digest(&bytes)), index.bundle.md5);
            for (member, input) in index.members.iter().zip(inputs.iter()) {
                let (from, length) = (member.offset.try_into().unwrap(), usize::try_from(member.length).unwrap());
                let piece: &[u8] = &bytes[from..][..length];
                let mut content = Vec::new();
                unpack(format, io::Cursor::new(piece.to_vec())).unwrap().read_to_end(&mut content).unwrap();
                assert!(content == std::fs::read(&input.path).unwrap(), "{format:?} {}", member.name);
            }
            let mut found = Vec::new();
            walk(unpack(format, io::Cursor::new(bytes)).unwrap(), |member, content| {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                found.push((member.name, member.note.unwrap(), bytes.len() as u64 == member.size));
                Ok(())
            })
            .unwrap();
            let expected = inputs.iter().map(|input| (input.name.clone(), input.note.clone(), true));
            assert_eq!(found, expected.collect::<Vec<_>>());
            let again = Index::parse(&index.to_json().unwrap(), &part()).unwrap();
            assert_eq!(again, index);
        }
    }

    #[test]
    fn the_same_members_give_the_same_bundle_however_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture");
        let mut noise = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 57).to_le_bytes()[0]
        })
        .take(1_300_000)
        .collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut note = inputs(folder.path())[0].note.clone();
        note.size = bytes.len() as u64;
        let inputs: Arc<[Input]> = [Input { name: "picture.jpg".into(), note, path }].into();
        for format in ArchiveFormat::ALL {
            let index = lay_out(&part(), "k", &inputs, format).unwrap();
            for step in [1000, 70_001, 1 << 20] {
                let (mut reader, mut hash, mut buffer) = (open(&index, &inputs).unwrap(), Sha256::new(), vec![0; step]);
                loop {
                    let read = reader.read(&mut buffer).unwrap();
                    if read == 0 {
                        break;
                    }
                    hash.update(&buffer[..read]);
                }
                assert_eq!(hex::encode(hash.finalize()), index.bundle.sha256, "{format:?} by {step}");
            }
        }
    }

    #[test]
    fn a_file_that_changes_after_it_was_laid_out_ends_the_stream_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        let index = lay_out(&part(), "k", &inputs, ArchiveFormat::Tar).unwrap();
        for changed in [vec![9; 700], vec![1; 699], vec![]] {
            std::fs::write(&inputs[0].path, changed).unwrap();
            let mut given = Vec::new();
            let error = open(&index, &inputs).unwrap().read_to_end(&mut given).unwrap_err();
            assert!(error.to_string().contains("while it was bundled"), "{error}");
            assert!((given.len() as u64) < index.bundle.size);
        }
    }

    #[test]
    fn the_tar_of_the_system_reads_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = inputs(folder.path());
        for (format, flag) in [(ArchiveFormat::Tar, "-x"), (ArchiveFormat::TarGz, "-xz")] {
            let index = lay_out(&part(), "k", &inputs, format).unwrap();
            let file = folder.path().join("bundle");
            std::fs::write(&file, bytes(&index, &inputs)).unwrap();
            let to = tempfile::tempdir().unwrap();
            let mut command = std::process::Command::new("tar");
            let output = command.args([flag, "-f"]).arg(&file).arg("-C").arg(to.path()).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            for input in inputs.iter() {
                assert!(std::fs::read(to.path().join(&input.name)).unwrap() == std::fs::read(&input.path).unwrap());
            }
            let taken = std::fs::metadata(to.path().join("a.jpg")).unwrap().modified().unwrap();
            let taken = taken.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(i64::try_from(taken).unwrap(), inputs[0].note.taken_at.unwrap().timestamp());
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_are_no_members() {
        for name in ["", "..", "a/../b", "a//b", "/a", "./a", "a\0b", "a/"] {
            assert!(!is_member_name(name), "{name:?}");
        }
        assert!(["a.jpg", "MOTION/2022-02-24/a.jpg", "-rf", "a..b"].into_iter().all(is_member_name));
    }
}
