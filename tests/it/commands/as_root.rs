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
    // This one is empty, and is set aside.
    give(&site.drop_file("CAM/192.168.1.64_01_20220224050609000_TIMING.jpg", b""));
    // This one lies unsorted.
    site.s3.insert("CAM/192.168.1.64_01_20220226050609000_TIMING.jpg", "b");
    let to = site.path("got").into_os_string().into_string().unwrap();
    for line in [
        &["upload"][..],
        &["upload", "--set-aside"],
        &["arrange"],
        &["rotate"],
        &["verify", "--rebuild"],
        &["verify", "--deep"],
        &["verify", "--resend"],
        &["archive", "CAM", "--older-than", "1d"],
        &["doctor", "--as-caller"],
        &["cameras"],
        &["days", "CAM"],
        &["list", "CAM"],
        &["get", "CAM", "2022-02-24", "--to", &to],
        &["restore", "CAM", "2022-02-24", "--to", &to],
        &["recover", "--dry-run"],
        &["check"],
        &["status"],
    ] {
        let said = site.run(line).await;
        let is_clean = !said.err.contains("ermission denied") && !said.err.contains("panicked");
        assert!(is_clean && said.code != 2, "{line:?}: {said:?}");
        assert!(
            said.code == 0 || ["upload", "doctor", "verify", "recover", "status"].contains(&line[0]),
            "{line:?}: {said:?}"
        );
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
    let said = site.run(&["rotate"]).await;
    assert!(said.code == 1 && said.err.contains("remove what is in its place"), "{said:?}");
    assert_eq!(secret.metadata().unwrap().uid(), 0);
    // Nor does one let root write where the service could not.
    let temporary = site.path("state/schedule.json.new");
    std::os::unix::fs::symlink(&secret, &temporary).unwrap();
    let done = hk_aws::persist::write(&site.path("state/schedule.json"), &1, hk_aws::persist::Purpose::NextStart);
    assert!(done.is_err() && std::fs::read_to_string(&secret).unwrap() == "root's own");
}

#[tokio::test]
async fn a_doctor_that_root_calls_runs_as_the_service_does() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::start().await;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path(""), open).unwrap();
    for folder in ["state", "run"] {
        std::fs::create_dir(site.path(folder)).unwrap();
        give(&site.path(folder));
    }
    // Root can write here, and the service cannot.
    let mut command = site.command(&["doctor"]);
    let said = super::run(command.env("PATH", "/nowhere")).await;
    assert!(said.out.contains(&format!("ok   user: runs as user {}\n", SERVICE.0)), "{said:?}");
    assert!(said.code == 1 && said.out.contains("fail drop folder: captures cannot be removed from"), "{said:?}");
    assert!(said.err.contains("its rights and its sandbox are not tried"), "{said:?}");
    let said =
        super::run(super::hk_aws(&["--config", "config.yaml", "doctor", "--as-caller"]).current_dir(site.path("")))
            .await;
    assert!(said.out.contains("runs as user 0, but"), "{said:?}");
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
