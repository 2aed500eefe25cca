//! The parts around the daemon, each by itself: what the other tests conclude rests on these.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::camera::{End, Picture, Session, sha256};
use crate::daemon::{SOON, wait_for};
use crate::ftp_server::{self, FtpServer};
use crate::installation::path_of;
use crate::proxy::Proxy;
use crate::store::{Kind, Store};

#[test]
fn a_picture_pushed_to_vsftpd_lies_in_its_root() {
    let ftp = FtpServer::start(ftp_server::Kind::Vsftpd);
    let picture = Picture::take("CAM-EXT-001", 0);
    let mut session = Session::open(&ftp);
    session.make_folder(&picture.camera);
    session.make_folder(&picture.camera);
    session.push(&picture);
    assert!(fs::read(ftp.root().join(picture.path())).unwrap() == picture.bytes);
}

#[test]
fn a_picture_cut_off_stays_in_the_root_as_far_as_it_came() {
    let ftp = FtpServer::start(ftp_server::Kind::Vsftpd);
    let picture = Picture::take("CAM-EXT-001", 0);
    let length = picture.bytes.len() / 2;
    let mut session = Session::open(&ftp);
    session.make_folder(&picture.camera);
    session.push_cut_off(&picture, length, End::PowerLost);
    wait_for("the part in the root", SOON, || {
        let part = fs::read(ftp.root().join(picture.path())).unwrap_or_default();
        (part == picture.bytes[..length]).then_some(())
    });
}

#[test]
fn vsftpd_leaves_nothing_behind() {
    let accounts = fs::read("/etc/passwd").unwrap();
    let ftp = FtpServer::start(ftp_server::Kind::Vsftpd);
    let (port, pid, root) = (ftp.address().1, ftp.pid(), ftp.root());
    let session = Session::open(&ftp);
    assert_eq!(fs::read("/etc/passwd").unwrap(), accounts, "the accounts are laid over for the server alone");
    drop(ftp);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!root.parent().unwrap().exists());
    drop(session);
    // The sessions were children of the server, and end a moment after it.
    wait_for("the port to be free", SOON, || TcpListener::bind(("127.0.0.1", port)).ok());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("hk-aws-ftp-"), "{mounts}");
}

#[test]
fn the_pictures_of_a_test_differ_in_bytes_and_in_key() {
    let pictures: Vec<Picture> = (0..50).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    let distinct = |mut values: Vec<String>| {
        values.sort();
        values.dedup();
        values.len()
    };
    assert_eq!(distinct(pictures.iter().map(|picture| sha256(&picture.bytes)).collect()), pictures.len());
    assert_eq!(distinct(pictures.iter().map(Picture::key).collect()), pictures.len());
    for picture in &pictures {
        assert!(picture.bytes.starts_with(b"\xFF\xD8") && picture.bytes.ends_with(b"\xFF\xD9"));
        assert!((30_000..=1_300_000).contains(&picture.bytes.len()), "{}", picture.bytes.len());
    }
}

#[test]
fn seaweedfs_stores_what_comes_through_the_proxy() {
    the_proxy_counts_what_the_store_gets(Kind::SeaweedFs);
}

#[test]
fn moto_stores_what_comes_through_the_proxy() {
    the_proxy_counts_what_the_store_gets(Kind::Moto);
}

fn the_proxy_counts_what_the_store_gets(kind: Kind) {
    let store = Store::start(kind);
    let proxy = Proxy::start(&store.endpoint());
    assert_eq!(store.keys(), Vec::<String>::new(), "a fresh bucket is empty");

    let picture = Picture::take("CAM-EXT-001", 0);
    store.put_through(&proxy.endpoint(), &picture.key(), picture.bytes.clone());
    assert_eq!(store.keys(), [picture.key()]);
    assert!(store.get(&picture.key()).bytes == picture.bytes);

    let exchanges = proxy.exchanges();
    assert_eq!(exchanges.len(), 1, "the bucket is looked at past the proxy");
    assert_eq!((exchanges[0].method.as_str(), exchanges[0].status), ("PUT", Some(200)));
    assert_eq!(exchanges[0].path, path_of(&picture.key()));

    let (pid, address) = (store.pid(), store.endpoint().replace("http://", ""));
    drop(store);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(TcpStream::connect(address).is_err(), "nothing answers where the store was");
}

#[test]
fn a_held_answer_reaches_the_sender_once_it_is_released() {
    let store = Store::start(Kind::Moto);
    let proxy = Proxy::start(&store.endpoint());
    let picture = Picture::take("CAM-EXT-001", 0);
    proxy.hold_answers();
    thread::scope(|scope| {
        let sender = scope.spawn(|| store.put_through(&proxy.endpoint(), &picture.key(), picture.bytes.clone()));
        wait_for("the store's answer", SOON, || proxy.exchanges().first().and_then(|exchange| exchange.status));
        assert_eq!(proxy.exchanges()[0].answered, None);
        assert!(!sender.is_finished());
        proxy.release_answers();
        wait_for("the sender's end", Duration::from_secs(5), || sender.is_finished().then_some(()));
    });
    assert!(proxy.exchanges()[0].answered.is_some());
}
