//! What somebody does who has the box's keys.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, StorageClass};
use hk_aws::bundle::{self, Index, Input, Note};
use hk_aws::key::{ArchiveFormat, BundleId, CameraName};

use super::operation::{FOREIGN, Junk, Lie};
use super::world::World;
use crate::support::s3::{MemoryS3, Older};
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
            Junk::Empty => put(self.s3(), &key, Vec::new(), HashMap::new()).await,
            Junk::Json => put(self.s3(), &key, b"{}".to_vec(), HashMap::new()).await,
            Junk::Text => put(self.s3(), &key, b"junk".to_vec(), HashMap::new()).await,
            Junk::SameSize => put(self.s3(), &key, same_size, metadata).await,
            Junk::SameSizeInParts => put_in_parts(self.s3(), &key, same_size, metadata).await,
        }
    }

    /// Forges a bundle of a day on which something lies loose.
    pub(super) async fn forge(&mut self, day: usize, lie: Lie) {
        let days: BTreeSet<String> = self.s3().look(|state| {
            let days = state.objects().keys().filter_map(|key| key.rsplit_once('/').map(|(day, _)| day.to_owned()));
            days.filter(|day| day.starts_with("CAM-") && !day.ends_with("archive") && !day.ends_with("thumbnails"))
                .collect()
        });
        let Some(day) = day.checked_rem(days.len()).and_then(|day| days.into_iter().nth(day)) else { return };
        let (camera, date) = day.split_once('/').unwrap();
        forge(self.s3(), camera, date, lie).await;
    }
}

/// Puts a bundle and an index that claim to hold what lies loose on a day, with the box's keys.
pub(crate) async fn forge(s3: &MemoryS3, camera: &str, date: &str, lie: Lie) {
    let objects = s3.look(|state| state.objects().clone());
    let stem = |part| {
        let part = if part == 1 { String::new() } else { format!(".part{part}") };
        format!("{camera}/archive/{date}{part}")
    };
    let part = (1..100).find(|part| !objects.contains_key(&format!("{}.index.json", stem(*part)))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut inputs, mut claimed) = (Vec::new(), Vec::new());
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&format!("{camera}/{date}/"))) {
        let junk = vec![b'x'; usize::try_from(object.len).unwrap()];
        let name = inputs.len().to_string();
        let path = folder.path().join(&name);
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
        inputs.push(Input { name, note, path });
        claimed.push(object.sha256.clone());
    }
    let inputs = inputs.into();
    let id = BundleId { camera: CameraName::spell(camera), date: date.parse().unwrap(), part };
    let key = format!("{}.tar", stem(part));
    let mut index: Index = bundle::lay_out(&id, &key, &inputs, ArchiveFormat::Tar).unwrap();
    let mut tar = Vec::new();
    bundle::open(&index.part, &index.bundle, &inputs).unwrap().read_to_end(&mut tar).unwrap();
    if lie != Lie::InventedCaptures {
        for (member, sha256) in index.members.iter_mut().zip(claimed) {
            member.note.sha256 = sha256;
        }
    }
    let metadata = HashMap::from([("sha256".to_owned(), index.bundle.sha256.clone())]);
    if lie == Lie::AnotherBundle {
        tar.fill(0);
        put_in_parts(s3, &key, tar, metadata).await;
    } else {
        put(s3, &key, tar, metadata).await;
    }
    put(s3, &format!("{}.index.json", stem(part)), index.to_json().unwrap(), HashMap::new()).await;
}

async fn put(s3: &MemoryS3, key: &str, body: Vec<u8>, metadata: HashMap<String, String>) {
    let put = s3.client().put_object().bucket(BUCKET).key(key).if_none_match("*");
    let put = put.storage_class(StorageClass::GlacierIr);
    // Under a key that is taken nothing can be put.
    let _put = put.set_metadata(Some(metadata)).body(body.into()).send().await;
}

async fn put_in_parts(s3: &MemoryS3, key: &str, body: Vec<u8>, metadata: HashMap<String, String>) {
    let client = s3.client();
    let begun = client.create_multipart_upload().bucket(BUCKET).key(key).set_metadata(Some(metadata));
    let begun = begun.storage_class(StorageClass::GlacierIr).send().await;
    let Some(id) = begun.ok().and_then(|begun| begun.upload_id) else { return };
    let part = client.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(1);
    let Ok(part) = part.body(ByteStream::from(body)).send().await else { return };
    let part =
        CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).set_checksum_crc32(part.checksum_crc32).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).if_none_match("*");
    let _completed = complete.multipart_upload(parts).send().await;
}
