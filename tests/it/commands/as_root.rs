//! Commands that root calls beside a service that has a user of its own.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::Site;

/// The user and the group of the service; nobody on the machine has these numbers.
const SERVICE: (u32, u32) = (51_234, 51_235);

/// Every file and folder below a folder, and itself.
fn all(folder: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = below.flat_map(|path| if path.is_dir() { all(&path) } else { vec![path] });
    std::iter::once(folder.to_owned()).chain(below).collect()
}

fn give(path: &Path) {
    chown(path, Some(SERVICE.0), Some(SERVICE.1)).unwrap();
}

#[tokio::test]
async fn what_root_makes_in_the_folders_of_the_service_belongs_to_the_service() {
    // Nobody else can give a file away, nor take one from the service.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::start_with("", "rotate: {cameras: all, archive: {after: 1d, class: STANDARD}}\n").await;
    for folder in ["state", "run"] {
        std::fs::create_dir(site.path(folder)).unwrap();
        give(&site.path(folder));
    }
    for name in ["050607", "050608"] {
        give(&site.drop_file(&format!("CAM/192.168.1.64_01_20220224{name}000_TIMING.jpg"), name.as_bytes()));
    }
    // This one has no local copy, and is downloaded to be bundled.
    site.s3.insert("CAM/2022-02-25/20220225T000000_a.jpg", "a");
    for line in [&["upload"][..], &["rotate"], &["verify", "--rebuild"], &["doctor"]] {
        let said = site.run(line).await;
        assert!(said.code == 0 || line == ["doctor"], "{line:?}: {said:?}");
    }
    let made: Vec<PathBuf> = ["state", "run"].iter().flat_map(|folder| all(&site.path(folder))).collect();
    for wanted in
        ["run/command.lock", "state/ledger/CAM/2022-02-24.jsonl", "state/ledger/CAM/bundles.jsonl", "state/kept/CAM"]
    {
        assert!(made.contains(&site.path(wanted)), "{wanted}: {made:?}");
    }
    for path in made {
        let owner = path.symlink_metadata().unwrap();
        assert_eq!((owner.uid(), owner.gid()), SERVICE, "{}", path.display());
    }
    // A link that the service put in the place of a lock gives nothing away.
    let (secret, lock) = (site.path("secret"), site.path("run/command.lock"));
    std::fs::write(&secret, "root's own").unwrap();
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&secret, &lock).unwrap();
    site.run(&["rotate"]).await;
    assert_eq!(secret.metadata().unwrap().uid(), 0);
}

#[test]
fn folders_that_several_uploads_make_together_all_belong_to_the_service() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for _ in 0..200 {
        let state = tempfile::tempdir().unwrap();
        give(state.path());
        let folder = state.path().join("kept/CAM/2022-02-24");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| hk_aws::owner::create_dir_all(&folder).unwrap());
            }
        });
        for path in all(state.path()) {
            let owner = path.symlink_metadata().unwrap();
            assert_eq!((owner.uid(), owner.gid()), SERVICE, "{}", path.display());
        }
    }
}
