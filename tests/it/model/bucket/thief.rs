//! What somebody does who has the box's keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use hk_aws::bundle::{self, Index, Input, Note};
use hk_aws::key::{ArchiveFormat, BundleId, CameraName};

use super::operation::{FOREIGN, Junk, Lie};
use super::world::World;
use crate::support::s3::{Object, Older};
use crate::support::site::{bytes, sha256};

const BUCKET: &str = "evidence";

impl World {
    /// A key of a camera under which something is, or was.
    fn any_key(&self, at: usize) -> Option<String> {
        let keys: BTreeSet<String> = self.s3().look(|state| {
            let all = state.objects().keys().chain(state.older().keys());
            all.filter(|key| key.starts_with("CAM-") && !FOREIGN.contains(&key.as_str())).cloned().collect()
        });
        keys.iter().nth(at.checked_rem(keys.len())?).cloned()
    }

    pub(super) async fn steal(&self, at: usize) {
        let Some(key) = self.any_key(at) else { return };
        // A fault may be in the way, here and below.
        let _deleted = self.s3().client().delete_object().bucket(BUCKET).key(key).send().await;
    }

    pub(super) async fn put_junk(&mut self, at: usize, junk: Junk) {
        let Some(key) = self.any_key(at) else { return };
        let (size, metadata) = self.s3().look(|state| {
            let older = state.older().get(&key).into_iter().flatten().rev().find_map(|older| match older {
                Older::Object(object) => Some((object.len, object.metadata.clone())),
                Older::Marker { .. } => None,
            });
            older.unwrap_or_default()
        });
        let metadata = HashMap::from_iter(metadata);
        self.next += 1;
        let same_size = bytes(self.next, usize::try_from(size).unwrap());
        match junk {
            Junk::Empty => self.put(&key, Vec::new(), HashMap::new()).await,
            Junk::Json => self.put(&key, b"{}".to_vec(), HashMap::new()).await,
            Junk::Text => self.put(&key, b"junk".to_vec(), HashMap::new()).await,
            Junk::SameSize => self.put(&key, same_size, metadata).await,
            Junk::SameSizeInParts => self.put_in_parts(&key, same_size, metadata).await,
        }
    }

    async fn put(&self, key: &str, body: Vec<u8>, metadata: HashMap<String, String>) {
        let put = self.s3().client().put_object().bucket(BUCKET).key(key).if_none_match("*");
        // Under a key that is taken nothing can be put.
        let _put = put.set_metadata(Some(metadata)).body(body.into()).send().await;
    }

    async fn put_in_parts(&self, key: &str, body: Vec<u8>, metadata: HashMap<String, String>) {
        let client = self.s3().client();
        let begun = client.create_multipart_upload().bucket(BUCKET).key(key).set_metadata(Some(metadata)).send().await;
        let Some(id) = begun.ok().and_then(|begun| begun.upload_id) else { return };
        let part = client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(1);
        let Ok(part) = part.body(ByteStream::from(body)).send().await else { return };
        let part = CompletedPart::builder()
            .part_number(1)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).if_none_match("*");
        let _completed = complete.multipart_upload(parts).send().await;
    }

    /// Puts a bundle and an index that claim to hold what lies loose on a day.
    pub(super) async fn forge(&mut self, day: usize, lie: Lie) {
        let objects = self.s3().look(|state| state.objects().clone());
        let mut days = BTreeMap::<(String, String), Vec<(&String, &Object)>>::new();
        for (key, object) in &objects {
            if let [camera, date, _] = key.split('/').collect::<Vec<_>>()[..]
                && camera.starts_with("CAM-")
                && !matches!(date, "archive" | "thumbnails")
            {
                days.entry((camera.to_owned(), date.to_owned())).or_default().push((key, object));
            }
        }
        let Some(((camera, date), loose)) = day.checked_rem(days.len()).and_then(|day| days.into_iter().nth(day))
        else {
            return;
        };
        let archive = format!("{camera}/archive/{date}");
        let part = (1..).find(|part| !objects.contains_key(&format!("{archive}{}.index.json", ending(*part)))).unwrap();
        let stem = format!("{archive}{}", ending(part));
        let folder = tempfile::tempdir().unwrap();
        let mut inputs = Vec::new();
        for (number, (key, object)) in loose.into_iter().enumerate() {
            self.next += 1;
            let junk = bytes(self.next, usize::try_from(object.len).unwrap());
            let path = folder.path().join(number.to_string());
            fs::write(&path, &junk).unwrap();
            let note = Note {
                key: key.clone(),
                size: object.len,
                sha256: sha256(&junk),
                taken_at: None,
                event: None,
                stored_at: object.last_modified.into(),
                etag: object.etag.clone(),
            };
            inputs.push((Input { name: number.to_string(), note, path }, object.sha256.clone()));
        }
        let id = BundleId { camera: CameraName::spell(&camera), date: date.parse().unwrap(), part };
        let members: Vec<String> = inputs.iter().map(|(_, sha256)| sha256.clone()).collect();
        let inputs = inputs.into_iter().map(|(input, _)| input).collect();
        let key = format!("{stem}.tar");
        let mut index: Index = bundle::lay_out(&id, &key, &inputs, ArchiveFormat::Tar).unwrap();
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut bundle::open(&index, &inputs).unwrap(), &mut tar).unwrap();
        if !matches!(lie, Lie::OtherCaptures) {
            for (member, sha256) in index.members.iter_mut().zip(members) {
                member.note.sha256 = sha256;
            }
        }
        let metadata = HashMap::from([("sha256".to_owned(), index.bundle.sha256.clone())]);
        if matches!(lie, Lie::OtherBundle) {
            tar.fill(0);
            self.put_in_parts(&key, tar, metadata).await;
        } else {
            self.put(&key, tar, metadata).await;
        }
        self.put(&format!("{stem}.index.json"), index.to_json().unwrap(), HashMap::new()).await;
    }
}

fn ending(part: u32) -> String {
    if part == 1 { String::new() } else { format!(".part{part}") }
}
