//! Bundles that are written and read back.

use std::io::{self, Read};
use std::sync::Arc;

use chrono::DateTime;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::*;
use crate::key::{ArchiveFormat, BundleId, CameraName};

fn part() -> BundleId {
    BundleId { camera: CameraName::spell("CAM"), date: "2022-02-24".parse().unwrap(), part: 1 }
}

fn inputs(folder: &std::path::Path) -> Arc<[Input]> {
    let long = format!("{}/{}.jpg", "é".repeat(60), "y".repeat(120));
    let contents = [("a.jpg", vec![1; 700]), ("empty.jpg", vec![]), (&*long, vec![3; 512]), ("z.mp4", vec![4; 70_000])];
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
    open(&index.part, &index.bundle, inputs).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_index_with_a_member_beyond_the_end_is_damaged_whatever_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let index = lay_out(&part(), "k", &inputs(folder.path()), ArchiveFormat::Tar).unwrap();
    assert_eq!(Index::parse(&index.to_json().unwrap(), &part()).as_ref(), Ok(&index));
    let end = index.bundle.size;
    for (offset, length) in [(end, 1), (0, end + 1), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        let mut altered = index.clone();
        (altered.members[0].offset, altered.members[0].length) = (offset, length);
        let error = Index::parse(&altered.to_json().unwrap(), &part()).unwrap_err();
        assert!(error.contains("beyond the end"), "{error}");
    }
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
    (note.size, note.sha256) = (bytes.len() as u64, hex::encode(Sha256::digest(&bytes)));
    let inputs: Arc<[Input]> = [Input { name: "picture.jpg".into(), note, path }].into();
    for format in ArchiveFormat::ALL {
        let index = lay_out(&part(), "k", &inputs, format).unwrap();
        for step in [1000, 70_001, 1 << 20] {
            let (mut reader, mut hash, mut buffer) =
                (open(&index.part, &index.bundle, &inputs).unwrap(), Sha256::new(), vec![0; step]);
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
        let error = open(&index.part, &index.bundle, &inputs).unwrap().read_to_end(&mut given).unwrap_err();
        assert!(error.to_string().contains("while it was bundled"), "{error}");
        assert!((given.len() as u64) < index.bundle.size);
    }
}

#[test]
fn a_file_that_is_not_what_its_note_describes_is_not_laid_out() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs(folder.path());
    for format in ArchiveFormat::ALL {
        for (at, changed) in [(0, vec![9; 700]), (0, vec![1; 699]), (3, vec![5; 70_000])] {
            let before = std::fs::read(&inputs[at].path).unwrap();
            std::fs::write(&inputs[at].path, changed).unwrap();
            let error = lay_out(&part(), "k", &inputs, format).unwrap_err();
            assert!(error.to_string().contains("while it was bundled"), "{error}");
            let unchanged = inputs.iter().enumerate().filter(|(_, input)| input.is_unchanged());
            assert_eq!(unchanged.count(), inputs.len() - 1);
            std::fs::write(&inputs[at].path, before).unwrap();
        }
        lay_out(&part(), "k", &inputs, format).unwrap();
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
