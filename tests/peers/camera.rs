//! Cameras: pictures as they take them, and the FTP sessions that push them.

use std::io::Write;
use std::iter;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use suppaftp::types::{FileType, FtpError};
use suppaftp::{FtpStream, Status};
use tokio::net::TcpSocket;

use crate::ftp_server::{FtpServer, Kind, PASSWORD, USER};

/// The cameras' clocks: not the machine's zone, so that reading a name in the wrong one shows.
pub(crate) const ZONE: Tz = chrono_tz::Europe::Kyiv;

/// The sizes that cameras' pictures have.
const SIZES_BYTES: Range<u64> = 30_000..1_300_000;
const SMALL_SIZES_BYTES: Range<u64> = 3000..9000;

/// One picture, whole, with the name that a Hikvision camera gives it by default.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) camera: String,
    pub(crate) name: String,
    pub(crate) taken: DateTime<Tz>,
    pub(crate) bytes: Vec<u8>,
}

impl Picture {
    /// The `number`-th picture of a test: no two numbers have the same bytes, nor the same time.
    pub(crate) fn take(camera: &str, number: u64) -> Self {
        // One base for all: times counted back from a clock that runs on could meet.
        static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(Utc::now);
        let age = TimeDelta::milliseconds(i64::try_from(number).unwrap() * 37);
        let taken = (*NOW - age).with_timezone(&ZONE);
        Self {
            camera: camera.to_owned(),
            name: format!("192.168.1.64_01_{}_MOTION_DETECTION.jpg", taken.format("%Y%m%d%H%M%S%3f")),
            taken,
            bytes: jpeg(number, SIZES_BYTES),
        }
    }

    /// The same with few bytes, for what is sent very often.
    pub(crate) fn take_small(camera: &str, number: u64) -> Self {
        Self { bytes: jpeg(number, SMALL_SIZES_BYTES), ..Self::take(camera, number) }
    }

    /// The same picture under another camera and name; both are formats of the time.
    pub(crate) fn called(self, camera: &str, name: &str) -> Self {
        let [camera, name] = [camera, name].map(|format| self.taken.format(format).to_string());
        Self { camera, name, ..self }
    }

    /// The same name and time with other bytes.
    pub(crate) fn taken_again(&self, number: u64) -> Self {
        Self { bytes: jpeg(number, SIZES_BYTES), ..self.clone() }
    }

    /// Where it lies below the drop folder.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.camera, self.name)
    }

    /// Where it belongs in the bucket.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}/{}", self.camera, self.taken.format("%Y-%m-%d"), self.name)
    }

    /// The key beside [`Self::key`] for other bytes under the same name; `mark` stands before the hash.
    pub(crate) fn key_beside(&self, mark: &str, bytes: &[u8]) -> String {
        let stem = self.key().strip_suffix(".jpg").unwrap().to_owned();
        format!("{stem}~{mark}{}.jpg", &sha256(bytes)[..8])
    }
}

/// In hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A picture file with the framing of a JPEG (JFIF header, one scan, end marker) around bytes that only `number` has.
fn jpeg(number: u64, sizes: Range<u64>) -> Vec<u8> {
    const HEAD: &[u8] =
        b"\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00";
    let mut state = number;
    // SplitMix64 (Steele, Lea, Flood 2014): every seed a sequence of its own.
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    };
    let size = sizes.start + next() % (sizes.end - sizes.start);
    let size = usize::try_from(size).unwrap();
    // FF would begin a marker inside the scan.
    let scan: Vec<u8> =
        iter::repeat_with(|| next().to_le_bytes()).take(2048).flatten().map(|byte| byte.min(0xFE)).collect();
    let mut bytes = HEAD.to_vec();
    bytes.extend(scan.repeat(size / scan.len() + 1));
    bytes.truncate(size - 2);
    bytes.extend_from_slice(b"\xFF\xD9");
    bytes
}

/// An FTP session of a camera: logged in, binary, passive.
pub(crate) struct Session {
    ftp: FtpStream,
}

impl Session {
    pub(crate) fn open(server: &FtpServer) -> Self {
        let mut ftp = FtpStream::connect(server.address()).unwrap();
        ftp.login(USER, PASSWORD).unwrap();
        ftp.transfer_type(FileType::Binary).unwrap();
        Self { ftp }
    }

    /// Makes the camera's folder, as cameras do before every upload, whether it is there or not.
    pub(crate) fn make_folder(&mut self, camera: &str) {
        match self.ftp.mkdir(camera) {
            Ok(()) | Err(FtpError::UnexpectedResponse(_)) => {}
            Err(error) => panic!("MKD {camera}: {error}"),
        }
    }

    /// Makes every folder on a picture's way.
    pub(crate) fn make_folders(&mut self, picture: &Picture) {
        let path = picture.path();
        for (slash, _) in path.match_indices('/') {
            self.make_folder(&path[..slash]);
        }
    }

    /// Pushes the picture; answers when the server's 226 was read.
    pub(crate) fn push(&mut self, picture: &Picture) -> Instant {
        self.ftp.put_file(picture.path(), &mut picture.bytes.as_slice()).unwrap();
        Instant::now()
    }

    /// Pushes the picture; fails where the server refuses it in the end.
    pub(crate) fn try_push(&mut self, picture: &Picture) -> Result<(), FtpError> {
        self.ftp.put_file(picture.path(), &mut picture.bytes.as_slice()).map(|_| ())
    }

    /// Pushes the picture unless the server refuses it, as one does whose file another session has begun.
    pub(crate) fn push_unless_refused(&mut self, picture: &Picture) {
        match self.try_push(picture) {
            Ok(()) | Err(FtpError::UnexpectedResponse(_)) => {}
            Err(error) => panic!("STOR {}: {error}", picture.path()),
        }
    }

    /// Pushes the picture in parts, calling `between` before each part but the first.
    pub(crate) fn push_slowly(&mut self, picture: &Picture, parts: usize, mut between: impl FnMut()) {
        let mut upload = self.ftp.put_with_stream(picture.path()).unwrap();
        for (number, part) in picture.bytes.chunks(picture.bytes.len().div_ceil(parts)).enumerate() {
            if number > 0 {
                between();
            }
            upload.write_all(part).unwrap();
            upload.flush().unwrap();
        }
        between();
        upload.finish().unwrap();
    }

    /// Pushes under another name, then renames to the picture's own, as cameras do that want to be sure.
    pub(crate) fn push_and_rename(&mut self, picture: &Picture, first_name: &str) {
        let first_path = format!("{}/{first_name}", picture.camera);
        self.ftp.put_file(&first_path, &mut picture.bytes.as_slice()).unwrap();
        self.ftp.rename(first_path, picture.path()).unwrap();
    }

    /// Gives the picture another name.
    pub(crate) fn rename(&mut self, picture: &Picture, path: &str) {
        self.ftp.rename(picture.path(), path.to_owned()).unwrap();
    }

    /// Gives the picture a date of long ago, by the command that the server knows.
    pub(crate) fn date_anew(&mut self, picture: &Picture, kind: Kind) {
        let command = if kind == Kind::Vsftpd { "MDTM" } else { "MFMT" };
        let dated = format!("{command} 20240224050607 {}", picture.path());
        self.ftp.custom_command(dated, &[Status::File]).unwrap();
    }

    /// Pushes what follows the first `length` bytes to the end of what is there.
    pub(crate) fn append_from(&mut self, picture: &Picture, length: usize) {
        self.ftp.append_file(&picture.path(), &mut &picture.bytes[length..]).unwrap();
    }

    /// Pushes what follows the first `length` bytes from there on, whatever the file's length.
    pub(crate) fn restart_from(&mut self, picture: &Picture, length: usize) {
        self.ftp.resume_transfer(length).unwrap();
        self.ftp.put_file(picture.path(), &mut &picture.bytes[length..]).unwrap();
    }

    /// Pushes under a name that the server makes up (STOU).
    pub(crate) fn push_unique(&mut self, picture: &Picture) {
        self.ftp.cwd(&picture.camera).unwrap();
        let opened = [Status::AlreadyOpen, Status::AboutToSend];
        let (_, mut upload) = self.ftp.custom_data_command("STOU", &opened).unwrap();
        upload.write_all(&picture.bytes).unwrap();
        upload.finish().unwrap();
        self.ftp.cwd("/").unwrap();
    }

    /// Pushes the first `length` bytes and goes away.
    pub(crate) fn push_cut_off(mut self, picture: &Picture, length: usize, end: End) {
        let mut upload = self.ftp.put_with_stream(picture.path()).unwrap();
        upload.write_all(&picture.bytes[..length]).unwrap();
        upload.flush().unwrap();
        // What the server has not read yet could be lost with the connection: time for some of it.
        thread::sleep(Duration::from_millis(50));
        match end {
            End::PowerLost => {
                self.ftp.get_ref().shutdown(Shutdown::Both).unwrap();
                upload.get_ref().get_ref().shutdown(Shutdown::Both).unwrap();
            }
            End::Killed => {
                reset_at_close(upload.get_ref().get_ref());
                reset_at_close(&self.ftp.get_ref());
            }
        }
    }
}

/// How a camera breaks off.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Both connections just end, as if by FIN.
    PowerLost,
    /// Both are reset: RST.
    Killed,
}

/// Has the other side told of a reset when the connection's last descriptor is closed.
fn reset_at_close(stream: &TcpStream) {
    // The option belongs to the connection, of which this is another descriptor.
    TcpSocket::from_std_stream(stream.try_clone().unwrap()).set_zero_linger().unwrap();
}
