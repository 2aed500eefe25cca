//! Whoever may write into the drop folder is not trusted: what he lays there, calls his files, and swaps meanwhile.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hk_aws::capture::Arrival;
use hk_aws::config::Config;
use hk_aws::drop_folder::{OpenError, Sight, Taken, sent_as};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::process::Signal;

use crate::folder::drop_folder;
use crate::process::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::support::s3::{ACCESS_KEY, Fault, MemoryS3, REGION, SECRET_KEY};
use crate::support::site::{DEADLINE, Settings, Site, files, key, ledger_text, picture, sha256};

const NONE: Settings = Settings { drop: "", s3: "", rest: "" };
const UNKEPT: Settings = Settings { rest: "keep: {days: 0}", ..NONE };

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, 0o644.into(), 0).unwrap();
}

#[tokio::test]
async fn links_fifos_and_sockets_are_left_alone_and_never_opened() {
    let site = Site::started(NONE).await;
    let secret = site.path("secret.jpg");
    fs::write(&secret, b"secret").unwrap();
    let camera = site.drop_path("CAM");
    fs::create_dir(&camera).unwrap();
    fs::create_dir(site.path("elsewhere")).unwrap();
    fs::write(site.path("elsewhere/x.jpg"), b"secret").unwrap();
    symlink(&secret, camera.join(picture(1))).unwrap();
    symlink("/etc/shadow", camera.join("shadow.jpg")).unwrap();
    symlink(site.path("elsewhere"), camera.join("folder")).unwrap();
    symlink(site.path("elsewhere"), site.drop_path("LINKED")).unwrap();
    symlink(site.path("nowhere"), camera.join("dangling.jpg")).unwrap();
    symlink(&camera, camera.join("loop")).unwrap();
    symlink("itself.jpg", camera.join("itself.jpg")).unwrap();
    fifo(&camera.join(picture(2)));
    let _socket = std::os::unix::net::UnixListener::bind(camera.join(picture(3))).unwrap();
    site.write(format!("CAM/{}", picture(4)), b"a file");
    let status = site.wait_for_status("nine that are left alone", |status| status.waiting.left_alone == 9).await;
    assert!(status.not_uploaded.iter().all(|file| file.reason.as_ref().unwrap().starts_with("not a regular file")));
    site.wait_for_keys(&[&key("CAM", 4)]).await;
    assert_eq!(files(&camera).len() + files(&site.path("elsewhere")).len(), 9);
    assert_eq!(fs::read(secret).unwrap(), b"secret");
}

#[tokio::test]
async fn the_drop_folder_itself_may_be_a_link() {
    let mut site = Site::new(Settings { drop: "rescan: 24h", ..UNKEPT }).await;
    fs::rename(site.path("drop"), site.path("disk")).unwrap();
    symlink(site.path("disk"), site.path("drop")).unwrap();
    site.write(format!("CAM/{}", picture(1)), b"found");
    site.start().await;
    site.write(format!("NEW/{}", picture(2)), b"seen");
    site.wait_for_keys(&[&key("CAM", 1), &key("NEW", 2)]).await;
    site.wait("no file", || files(&site.path("disk")).is_empty().then_some(())).await;
}

#[test]
fn a_folder_that_is_swapped_for_a_link_leads_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    fs::create_dir(place.path().join("secrets")).unwrap();
    fs::write(place.path().join("secrets/a.jpg"), b"secret").unwrap();
    fs::create_dir(folder.path().join("CAM")).unwrap();
    fs::write(folder.path().join("CAM/a.jpg"), b"capture").unwrap();
    let mut opened = folder.open(Path::new("CAM/a.jpg")).unwrap();
    fs::rename(folder.path().join("CAM"), folder.path().join("OLD")).unwrap();
    symlink(place.path().join("secrets"), folder.path().join("CAM")).unwrap();
    assert!(matches!(folder.open(Path::new("CAM/a.jpg")), Err(OpenError::NotAFile(_))));
    assert!(folder.look(Path::new("CAM/a.jpg"), SystemTime::now()).unwrap().is_none());
    assert!(folder.open(Path::new("../secrets/a.jpg")).is_err());
    // What was opened before is the file that was meant, wherever its folder is now.
    assert_eq!(opened.remove(&[0; 32]).unwrap(), Taken::Away);
    assert!(place.path().join("secrets/a.jpg").exists() && !folder.path().join("OLD/a.jpg").exists());
}

/// Lays a picture down, has `swap` play with it between the store's receipt and the daemon's learning of it, and answers
/// the site when the daemon is done with it.
async fn swap_in_work(settings: Settings, swap: impl Fn(&Site, &Path)) -> Site {
    let site = Site::started(settings).await;
    fs::write(site.path("secret.jpg"), b"secret").unwrap();
    fs::create_dir(site.path("secrets")).unwrap();
    fs::write(site.path("secrets").join(picture(1)), b"secret").unwrap();
    site.s3.fault(Fault::hang("PutObject").times(1));
    let path = site.write(format!("CAM/{}", picture(1)), b"capture");
    site.s3.wait_for(|state| state.count("PutObject") == 1, DEADLINE).await;
    swap(&site, &path);
    site.s3.clear_faults();
    site
}

#[tokio::test]
async fn i1_a_folder_swapped_for_a_link_while_its_file_is_sent_costs_no_file_elsewhere() {
    let site = swap_in_work(UNKEPT, |site, _| {
        fs::rename(site.drop_path("CAM"), site.drop_path("OLD")).unwrap();
        symlink(site.path("secrets"), site.drop_path("CAM")).unwrap();
    })
    .await;
    site.s3
        .wait_for(|state| state.objects().values().any(|object| object.sha256 == sha256(b"capture")), DEADLINE)
        .await;
    site.wait("no capture left", || files(&site.drop_path("OLD")).is_empty().then_some(())).await;
    assert_eq!(fs::read(site.path("secrets").join(picture(1))).unwrap(), b"secret");
    assert!(site.s3.look(|state| state.objects().values().all(|object| object.sha256 != sha256(b"secret"))));
}

#[tokio::test]
async fn i1_what_is_swapped_in_for_a_file_that_is_sent_stays_and_is_judged_for_itself() {
    type Swap = fn(&Site, &Path);
    let swaps: [(Swap, &str); 4] = [
        (|site, path| symlink(site.path("secret.jpg"), path).unwrap(), "symbolic link"),
        (|_, path| fifo(path), "fifo"),
        (|_, path| fs::create_dir(path).unwrap(), ""),
        (|site, path| symlink(site.path("secrets"), path).unwrap(), "symbolic link"),
    ];
    for settings in [UNKEPT, NONE] {
        for (swap, reason) in swaps {
            let site = swap_in_work(settings, |site, path| {
                fs::rename(path, path.with_file_name(picture(2))).unwrap();
                swap(site, path);
            })
            .await;
            // The capture itself, which was sent under its first name.
            let renamed = site.drop_path("CAM").join(picture(2));
            site.wait("the end of the renamed file", || (!renamed.exists()).then_some(())).await;
            assert_eq!(site.s3.keys(), [key("CAM", 1)]);
            site.write(format!("CAM/{}", picture(3)), b"the next one");
            site.s3.wait_for(|state| state.object(&key("CAM", 3)).is_some(), DEADLINE).await;
            if !reason.is_empty() {
                let alone = |status: &hk_aws::status::Snapshot| status.waiting.left_alone == 1;
                let status = site.wait_for_status("it is left alone", alone).await;
                assert!(status.not_uploaded[0].reason.as_ref().unwrap().contains(reason), "{status:?}");
            }
            assert!(site.drop_path("CAM").join(picture(1)).symlink_metadata().is_ok(), "{reason}");
            assert_eq!(fs::read(site.path("secret.jpg")).unwrap(), b"secret");
            assert_eq!(files(&site.path("secrets")).len(), 1);
            assert!(site.s3.look(|state| state.objects().values().all(|object| object.sha256 != sha256(b"secret"))));
            assert!(files(&site.path("state/kept")).iter().all(|copy| copy.symlink_metadata().unwrap().is_file()));
        }
    }
}

#[test]
fn i1_what_already_bears_the_name_for_taking_away_stays() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let path = folder.path().join("a.jpg");
    fs::write(&path, b"capture").unwrap();
    let mut opened = folder.open(Path::new("a.jpg")).unwrap();
    let aside = folder.path().join(format!(".hk-aws-{:x}-a.jpg", opened.stamp().inode.1));
    fs::write(&aside, b"another").unwrap();
    assert!(opened.remove(&[0; 32]).is_err());
    assert_eq!((fs::read(path).unwrap(), fs::read(aside).unwrap()), (b"capture".to_vec(), b"another".to_vec()));
}

#[test]
fn what_is_swapped_in_at_the_last_moment_never_comes_among_the_local_copies() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let (path, trap) = (folder.path().join("a.jpg"), folder.path().join("trap.jpg"));
    let (mut swapped, mut moved, began) = (0, 0, Instant::now());
    for round in 0.. {
        // On a machine that is busy with other things, the two meet seldom.
        if round >= 1500 && (swapped > 0 || began.elapsed() > Duration::from_mins(1)) {
            break;
        }
        fs::write(&path, b"capture").unwrap();
        symlink("/etc/shadow", &trap).unwrap();
        let mut opened = folder.open(Path::new("a.jpg")).unwrap();
        let aside = folder.path().join(format!(".hk-aws-{:x}-a.jpg", opened.stamp().inode.1));
        let copy = place.path().join(format!("kept/{round}.jpg"));
        let done = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            scope.spawn(|| {
                let swap = || rustix::fs::renameat_with(CWD, &trap, CWD, &aside, RenameFlags::EXCHANGE);
                while !done.load(Ordering::Relaxed) && swap().is_err() {
                    std::hint::spin_loop();
                }
            });
            let taken = opened.move_to(&copy, None);
            done.store(true, Ordering::Relaxed);
            taken
        });
        swapped += usize::from(!trap.is_symlink());
        let kept = copy.symlink_metadata();
        assert!(kept.as_ref().is_ok_and(fs::Metadata::is_file) || kept.is_err(), "round {round}: {taken:?}");
        assert_eq!(kept.is_ok(), matches!(taken, Ok(Taken::Away)), "round {round}: {taken:?}");
        moved += usize::from(kept.is_ok());
        for left in files(folder.path()) {
            fs::remove_file(left).unwrap();
        }
    }
    assert!(swapped > 0, "there was no race in {moved} rounds");
}

/// Makes `depth` folders below each other, however long their path becomes, and a file in the deepest.
fn nest(below: &Path, name: &str, depth: usize, file: &str) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder: OwnedFd = rustix::fs::open(below, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&folder, name, 0o755.into()).unwrap();
        folder = rustix::fs::openat(&folder, name, flags, Mode::empty()).unwrap();
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::io::write(rustix::fs::openat(&folder, file, create, 0o644.into()).unwrap(), b"deep").unwrap();
}

/// Takes folders away that are too deep for anything that holds one descriptor for each.
fn unnest(below: &Path, name: &str, file: &str) {
    let aside = below.with_extension("aside");
    while fs::exists(below.join(name)).unwrap() {
        fs::rename(below.join(name), &aside).unwrap();
        fs::remove_file(aside.join(file)).ok();
        if fs::exists(aside.join(name)).unwrap() {
            fs::rename(aside.join(name), below.join(name)).unwrap();
        }
        fs::remove_dir(&aside).unwrap();
    }
}

#[tokio::test]
async fn folders_nested_a_thousand_deep_are_left_alone_and_said_and_hold_up_nothing() {
    let mut site = Site::new(UNKEPT).await;
    let long = "n".repeat(255);
    for camera in ["DEEP", "LONG", "LATER"] {
        fs::create_dir(site.drop_path(camera)).unwrap();
    }
    nest(&site.drop_path("DEEP"), "d", 1000, "a.jpg");
    nest(&site.drop_path("LONG"), &long, 100, "a.jpg");
    site.write(format!("CAM/{}", picture(1)), b"before");
    site.start().await;
    nest(&site.drop_path("LATER"), "d", 1000, "a.jpg");
    site.write(format!("CAM/{}", picture(2)), b"after");
    site.wait_for_keys(&[&key("CAM", 1), &key("CAM", 2)]).await;
    let status = site.wait_for_status("three left alone", |status| status.waiting.left_alone == 3).await;
    let mut reasons: Vec<&str> = status.not_uploaded.iter().filter_map(|file| file.reason.as_deref()).collect();
    reasons.sort_unstable();
    assert!(reasons[0].contains("128 deep") && reasons[1].contains("128 deep") && reasons[2].contains("1024 bytes"));
    site.stop().await;
    unnest(&site.drop_path("DEEP"), "d", "a.jpg");
    unnest(&site.drop_path("LATER"), "d", "a.jpg");
    unnest(&site.drop_path("LONG"), &long, "a.jpg");
}

#[tokio::test]
async fn i6_a_folder_full_of_what_is_no_file_holds_up_nothing() {
    // 100,000 pass as well, in half a minute.
    let garbage = std::env::var("HK_AWS_TEST_GARBAGE").map_or(20_000, |number| number.parse().unwrap());
    // Again and again while captures come, but not all the time.
    let mut site = Site::new(Settings { drop: "rescan: 4s", ..UNKEPT }).await;
    fs::create_dir(site.drop_path("CAM")).unwrap();
    for number in 0..garbage {
        symlink("nowhere", site.drop_path(format!("CAM/{number}.jpg"))).unwrap();
    }
    site.start().await;
    for number in 0..4 {
        let begin = Instant::now();
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
        site.s3.wait_for(|state| state.object(&key("CAM", number)).is_some(), DEADLINE).await;
        assert!(begin.elapsed() < DEADLINE / 6, "a scan is no reason to wait");
    }
    let status = site.wait_for_status("all of it", |status| status.waiting.left_alone == garbage).await;
    assert!(status.not_uploaded.len() < 1000);
}

#[tokio::test]
async fn i6_a_camera_for_every_file_does_not_fill_the_memory() {
    let site = Site::started(UNKEPT).await;
    for number in 0..1010 {
        site.write(format!("CAM-{number}/{}", picture(1)), b"one of many");
    }
    site.s3.wait_for(|state| state.objects().len() == 1010, DEADLINE * 2).await;
    let status = site.wait_for_status("all stored", |status| status.stored.captures == 1010).await;
    assert_eq!(status.cameras.len(), 1000);
}

#[tokio::test]
async fn a_file_of_holes_is_left_alone_at_once_and_said() {
    let mut site = Site::new(UNKEPT).await;
    let path = site.write(format!("CAM/{}", picture(1)), b"begin");
    let system = rustix::fs::statvfs(&path).unwrap();
    let length = (10 << 40).max(system.f_blocks * system.f_frsize + 1);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    site.start().await;
    // One that comes while the daemon looks, too.
    let path = site.write(format!("CAM/{}", picture(2)), b"");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    for number in 3..20 {
        site.write(format!("CAM/{}", picture(number)), &number.to_be_bytes());
    }
    site.s3.wait_for(|state| state.objects().len() == 17, DEADLINE).await;
    let left = |status: &hk_aws::status::Snapshot| status.waiting.left_alone == 2 && status.files.is_empty();
    let status = site.wait_for_status("two left alone", left).await;
    assert!(status.not_uploaded.iter().all(|file| file.reason.as_ref().unwrap().contains("holes")), "{status:?}");
}

#[tokio::test]
async fn a_file_of_holes_that_comes_in_place_of_a_due_one_is_not_read() {
    let place = tempfile::tempdir().unwrap();
    let folder = drop_folder(place.path());
    let file = File::create(folder.path().join("a.jpg")).unwrap();
    let system = rustix::fs::statvfs(folder.path()).unwrap();
    file.set_len((10 << 40).max(system.f_blocks * system.f_frsize + 1)).unwrap();
    assert!(matches!(folder.open(Path::new("a.jpg")), Err(OpenError::LeftAlone(_))));
    assert!(matches!(folder.look(Path::new("a.jpg"), SystemTime::now()), Ok(Some(Sight::LeftAlone(..)))));
}

/// Names that would play tricks on whoever reads them.
fn tricky_names() -> Vec<OsString> {
    let long = format!("{}.jpg", "n".repeat(251));
    let names: [&[u8]; 16] = [
        b"\x1b[31mred\x1b]0;title\x07.jpg",
        b"two\nlines.jpg",
        b"return\rover.jpg",
        b"field\nMESSAGE=forged.jpg",
        b"caf\xe9\xff\xfe.jpg",
        "\u{202e}gpj.exe".as_bytes(),
        "\u{2066}isolated\u{2069}.jpg".as_bytes(),
        "\u{9b}31mred.jpg".as_bytes(),
        b"nul\x01\x02\x7f.jpg",
        b"%2e%2e",
        b"%2F..%2F..jpg",
        b"...",
        b". .",
        b"-rf",
        b"{camera}.jpg",
        long.as_bytes(),
    ];
    names.iter().map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

/// Nothing that a terminal, a log or a line-by-line reader could take for more than text.
fn assert_harmless(what: &str, text: &str) {
    let tricks = |c: char| c != '\n' && hk_aws::key::plays_tricks(c);
    let at = text.find(tricks);
    assert!(at.is_none(), "{what}: {:?}", &text[at.unwrap()..].chars().take(60).collect::<String>());
    let forged = text.lines().find(|line| line.starts_with("MESSAGE=") || line.starts_with("lines.jpg"));
    assert!(forged.is_none(), "{what}: {forged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_plays_tricks_on_the_log_the_terminal_or_the_status() {
    let s3 = MemoryS3::start("captures").await;
    let place = tempfile::tempdir().unwrap();
    let below = place.path().display();
    let config = place.path().join("config.yaml");
    let text = format!(
        "drop_folder: {{path: {below}/drop, settle: 100ms, partial_after: 1s, ignore: ['*.never']}}\n\
         state_dir: {below}/state\nruntime_dir: {below}/run\nmax_clock_skew: null\n\
         s3: {{bucket: captures, region: {REGION}, endpoint_url: '{}', path_style: true}}\n\
         log: {{target: stderr, level: debug}}\n",
        s3.endpoint()
    );
    fs::write(&config, text).unwrap();
    let drop = place.path().join("drop");
    let names = tricky_names();
    let lay_down = |bytes: &[u8]| {
        // As cameras, as folders, as files; empty ones will be set aside, links are left alone.
        for (number, name) in names.iter().enumerate() {
            for folder in [drop.join("CAM"), drop.join(name), drop.join("SUB").join(name)] {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(name), [bytes, &[u8::try_from(number).unwrap()]].concat()).unwrap();
            }
            fs::create_dir_all(drop.join("ODD").join(name)).unwrap();
            fs::write(drop.join("ODD").join(name).join("empty.jpg"), b"").unwrap();
            symlink("nowhere", drop.join("ODD").join(name).join(name)).unwrap();
        }
    };
    let run = |arguments: &[&OsStr]| {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(&config).args(arguments).env_clear().env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        let output = command.env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what is printed is text");
        let (out, err) = (text(output.stdout), text(output.stderr));
        for text in [&out, &err] {
            assert_harmless(&format!("{arguments:?}"), text);
        }
        assert!(!out.is_empty() || !err.is_empty(), "{arguments:?}");
        out
    };
    lay_down(b"first");
    run(&["upload".as_ref(), "--dry-run".as_ref()]);
    run(&["upload".as_ref()]);
    let odd = |name: &OsString| drop.join("ODD").join(name).join(name).into_os_string();
    for command in ["classify", "upload"] {
        let paths: Vec<OsString> = names.iter().map(odd).collect();
        run(&[&[OsStr::new(command)], paths.iter().map(OsString::as_os_str).collect::<Vec<_>>().as_slice()].concat());
    }
    lay_down_again(&drop, &names);
    let mut command = Daemon::command("sh");
    // Few descriptors: what is odd may not use them up.
    command.args(["-c", "ulimit -n 400 && exec \"$0\" --config \"$1\" run", BINARY]).arg(&config);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    nest(&drop, "d", 600, "a.jpg");
    let mut daemon = Daemon::start(command, place.path());
    daemon.wait_for_notice("READY=1", 0);
    wait_for("everything to be stored or set aside", SOON * 2, || {
        let waits = files(&drop).into_iter().filter(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()));
        (waits.filter(|path| !path.starts_with(drop.join("d"))).count() == 0).then_some(())
    });
    wait_for("word of it", SOON, || {
        let status = hk_aws::status::Snapshot::read(&place.path().join("run")).ok()?;
        (status.waiting.set_aside == names.len() as u64 && status.files.is_empty()).then_some(())
    });
    run(&["status".as_ref()]);
    run(&["--json".as_ref(), "status".as_ref()]);
    let cameras = run(&["cameras".as_ref()]);
    for camera in cameras.lines().take(6).chain(["CAM", "SUB"]) {
        run(&["list".as_ref(), camera.as_ref()]);
    }
    assert!(cameras.lines().count() > names.len());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
    for path in files(&place.path().join("state/ledger")).iter().chain([&place.path().join("log")]) {
        assert_harmless(&path.display().to_string(), &ledger_text(path));
    }
    assert_harmless("status.json", &fs::read_to_string(place.path().join("run/status.json")).unwrap());
    let log = fs::read_to_string(place.path().join("log")).unwrap();
    // One line a minute of a kind, and a count of the others.
    assert!(log.contains("empty.jpg can never be stored as it is (empty): it was moved to"), "{log}");
    let status = fs::read_to_string(place.path().join("run/status.json")).unwrap();
    assert!(status.contains("ODD/two%0Alines.jpg/empty.jpg"), "{status}");
    unnest(&drop, "d", "a.jpg");
}

/// Other bytes under the same names, for the daemon: the empty files and links are still there.
fn lay_down_again(drop: &Path, names: &[OsString]) {
    for (number, name) in names.iter().enumerate() {
        for folder in [drop.join("CAM"), drop.join(name), drop.join("SUB").join(name)] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), [b"second".as_slice(), &[u8::try_from(number).unwrap()]].concat()).unwrap();
        }
    }
}

/// Any bytes that can be a name, most often such as would like to be more than one.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'.'), Just(b'%'), Just(b'-'), Just(b'~'), 1u8..=255];
    let bytes = proptest::collection::vec(byte, 1..=255)
        .prop_map(|bytes| bytes.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect::<Vec<u8>>());
    let aside = bytes.clone().prop_map(|name| [b".hk-aws-1-".as_slice(), &name].concat());
    prop_oneof![
        Just(b".hk-aws-1-..".to_vec()),
        Just(b".hk-aws-1-.".to_vec()),
        Just(b".hk-aws-1-".to_vec()),
        aside,
        bytes
    ]
    .prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn is_below(folder: &Path, path: &Path) -> bool {
    path.strip_prefix(folder)
        .is_ok_and(|below| below.components().all(|step| matches!(step, Component::Normal(name) if name.len() <= 255)))
}

/// One that takes the first folder for the camera, and one that takes the whole path.
static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
    let pattern = r"cameras: [{name: ALL, match: '**', pattern: '(?s-u)^(?P<camera>.*)$'}]";
    ["", pattern].map(|cameras| {
        let text = format!("drop_folder: {{path: /nowhere}}\ns3: {{bucket: evidence}}\n{cameras}\n");
        let config = Config::parse(Path::new("t.yaml"), &text, &|_| None);
        config.unwrap_or_else(|problems| panic!("{problems}"))
    })
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    /// Whatever anybody calls his folders and files, and whatever part of a path the configuration takes for a camera:
    /// local copies and ledger lie below their folders, under names that a disk takes.
    #[test]
    fn no_name_leads_out_of_the_folders_of_copies_and_ledger(
        names in proptest::collection::vec(any_name(), 1..6),
        own_pattern in any::<bool>(),
    ) {
        let place = tempfile::tempdir().unwrap();
        let config = &CONFIGS[usize::from(own_pattern)];
        let path = PathBuf::from(OsString::from_vec(names.join(&b'/')));
        let sent_as = sent_as(&path);
        prop_assert_eq!(sent_as.parent(), path.parent());
        let arrival = chrono::DateTime::parse_from_rfc3339("2026-02-24T12:00:00+00:00").unwrap();
        let capture = hk_aws::capture::sight(&sent_as, config).settle(None, Arrival { at: arrival.to_utc(), now: arrival.to_utc() });
        let layout = hk_aws::key::Layout::new("", config.s3.key.clone());
        let key = layout.render(&capture.fields());
        prop_assert!(!key.as_str().split('/').any(|part| ["", ".", ".."].contains(&part)), "{}", key);
        prop_assert!(!key.as_str().chars().any(hk_aws::key::plays_tricks), "{}", key);

        let date = capture.taken.date_naive();
        let kept = place.path().join("kept");
        let copy = hk_aws::kept::CopyOf { camera: &capture.camera, date, file: key.file() };
        match hk_aws::kept::place(&kept, copy, &[7; 32]).unwrap() {
            hk_aws::kept::CopyPlace::Free(copy) => prop_assert!(is_below(&kept, &copy), "{:?}", copy),
            hk_aws::kept::CopyPlace::Held => prop_assert!(false, "nothing is kept yet"),
        }
        let ledger = place.path().join("ledger");
        let entry = hk_aws::ledger::LedgerEntry {
            stored_at: arrival.to_utc(), key: key.as_str().to_owned(), size: 1, sha256: String::new(),
            taken_at: capture.taken, event: None, source: String::new(), partial: false,
        };
        hk_aws::ledger::append(&ledger, &capture.camera, &entry).unwrap();
        let lines = files(place.path());
        prop_assert!(lines.len() == 1 && lines.iter().all(|file| is_below(&ledger, file)), "{:?}", lines);
    }
}
