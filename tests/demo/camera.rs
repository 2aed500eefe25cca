//! Cameras that are not there: they draw a night scene and write it as an FTP server would.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use jpeg_encoder::{ColorType, Encoder};
use sha2::{Digest, Sha256};

const WIDTH: u16 = 640;
const HEIGHT: u16 = 360;
/// Digits of the clock in the picture: 3 x 5 pixels, a row in three bits, the top one first.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 1, 1, 1],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// A simulated camera.
#[derive(Debug)]
pub(crate) struct Camera {
    /// Its folder below the drop folder.
    pub(crate) name: &'static str,
    /// What Hikvision puts first into a file's name.
    pub(crate) address: &'static str,
    /// How it behaves.
    pub(crate) habit: Habit,
}

/// How a camera's pictures come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Three in a row, every few seconds.
    Bursts,
    /// One at a time, each over two seconds: the file is there long before it is whole.
    ThinLink,
    /// One now and then.
    Now,
    /// As [`Habit::Now`], but of every five one ends half-way.
    BreaksOff,
}

/// A capture of ours that was stored.
pub(crate) struct Arrived {
    /// From the close of the file to the answer of S3.
    pub(crate) latency: Duration,
    /// What was special about it; empty for most.
    pub(crate) note: &'static str,
}

struct Written {
    path: PathBuf,
    note: &'static str,
    closed: Instant,
    stored: bool,
}

/// Everything the cameras wrote, by the SHA-256 of its bytes.
#[derive(Default)]
pub(crate) struct Captures(Mutex<HashMap<String, Written>>);

impl Captures {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes with this digest were stored; `None` if no camera wrote them, or they are here already.
    pub(crate) fn arrived(&self, sha256: &str, answered: Instant) -> Option<Arrived> {
        let mut captures = self.lock();
        let written = captures.get_mut(sha256).filter(|written| !written.stored)?;
        written.stored = true;
        Some(Arrived { latency: answered.saturating_duration_since(written.closed), note: written.note })
    }

    /// Returns what was written and not stored.
    pub(crate) fn missing(&self) -> Vec<PathBuf> {
        self.lock().values().filter(|written| !written.stored).map(|written| written.path.clone()).collect()
    }
}

impl Camera {
    /// Writes pictures into `folder` until the sender of `stopped` is gone.
    pub(crate) fn film(&self, folder: &Path, captures: &Captures, stopped: &Receiver<()>) {
        let mut pause = |milliseconds| {
            let waited = stopped.recv_timeout(Duration::from_millis(milliseconds));
            matches!(waited, Err(RecvTimeoutError::Timeout))
        };
        for number in 1_u32.. {
            let (before, pictures) = match self.habit {
                Habit::Bursts => (if number == 1 { 100 } else { 2500 }, 3),
                Habit::ThinLink => (1500, 1),
                Habit::Now => (1700, 1),
                Habit::BreaksOff => (2300, 1),
            };
            if !pause(before) {
                return;
            }
            for _ in 0..pictures {
                let cut_off = matches!(self.habit, Habit::BreaksOff) && number % 5 == 2;
                if let Err(error) = self.take(folder, captures, cut_off, &mut pause) {
                    // The capture stays missing, and the demo says so when it ends.
                    eprintln!("{}: {error}", self.name);
                }
                if pictures > 1 && !pause(150) {
                    return;
                }
            }
        }
    }

    /// Takes one picture and writes it under its final name, as vsftpd does.
    fn take(
        &self,
        folder: &Path,
        captures: &Captures,
        cut_off: bool,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<()> {
        let taken = Local::now();
        let name = format!("{}_01_{}_MOTION_DETECTION.jpg", self.address, taken.format("%Y%m%d%H%M%S%3f"));
        let path = folder.join(name);
        let mut bytes = draw(taken)?;
        let (chunks, note) = match (self.habit, cut_off) {
            (_, true) => (1, "cut off half-way, and safe as far as it got"),
            (Habit::ThinLink, _) => (10, "came in over 2 s, was sent once whole"),
            _ => (1, ""),
        };
        if cut_off {
            bytes.truncate(bytes.len() / 2);
        }
        let mut file = File::create(&path)?;
        for (number, chunk) in bytes.chunks(bytes.len().div_ceil(chunks)).enumerate() {
            if number > 0 {
                // When the demo ends, the rest comes at once.
                pause(220);
            }
            file.write_all(chunk)?;
        }
        let digest = hex::encode(Sha256::digest(&bytes));
        // Before the close, not after: the file may be stored before its writer runs again.
        captures.lock().insert(digest, Written { path, note, closed: Instant::now(), stored: false });
        drop(file);
        Ok(())
    }
}

/// Draws a house at night, somebody who walks past it, sensor noise and the time.
fn draw(taken: DateTime<Local>) -> io::Result<Vec<u8>> {
    let millisecond = taken.timestamp_millis().unsigned_abs();
    // 12 seconds from left to right.
    let walker = i64::try_from(millisecond % 12_000).unwrap_or_default() * i64::from(WIDTH) / 12_000;
    let mut noise = millisecond | 1;
    let places = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let mut picture: Vec<[u8; 3]> = places
        .map(|(x, y)| {
            // Xorshift: grain that differs in every picture and compresses as badly as a sensor's.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let grain = noise.to_le_bytes()[4] % 14;
            let (dx, dy) = (i64::from(x) - walker, i64::from(y));
            let head = dx * dx + (dy - 200) * (dy - 200) < 130;
            let body = dx.abs() < 13 && (212..290).contains(&dy) || dx.abs() < 4 && (205..215).contains(&dy);
            let scene = match (x, y) {
                _ if head || body => [150, 145, 140],
                (430..=470, 150..=190) => [190, 170, 90],
                (380..=560, 110..=280) => [48, 46, 52],
                (_, 0..=80) => [14, 18, 30],
                (_, 81..=170) => [14, 18, 38],
                (_, 171..=250) => [16, 20, 46],
                _ => [34, 42, 34],
            };
            scene.map(|level: u8| level + grain)
        })
        .collect();
    let clock = taken.format("%Y%m%d %H%M%S").to_string();
    for (left, character) in (16_usize..).step_by(16).zip(clock.chars()) {
        let Some(digit) = character.to_digit(10) else { continue };
        for (top, bits) in (16_usize..).step_by(4).zip(DIGITS[digit as usize]) {
            for bit in (0..3).filter(|bit| bits >> (2 - bit) & 1 == 1) {
                for (x, y) in (0..16).map(|dot| (left + bit * 4 + dot % 4, top + dot / 4)) {
                    picture[y * usize::from(WIDTH) + x] = [230, 230, 230];
                }
            }
        }
    }
    let mut jpeg = Vec::new();
    let encoder = Encoder::new(&mut jpeg, 85);
    encoder.encode(picture.as_flattened(), WIDTH, HEIGHT, ColorType::Rgb).map_err(io::Error::other)?;
    Ok(jpeg)
}
