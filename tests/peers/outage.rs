//! A line that really swallows packets: the daemon lives in a network namespace of its own, and the cable is pulled.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use hk_aws::status::{DaemonState, Snapshot};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::camera::{Picture, sha256};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::proxy::Proxy;
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// Longer than the kernel waits for an acknowledgement before it gives a connection up.
const CUT: Duration = Duration::from_secs(24);

/// How fast the line is, in the words of tc(8): the clip is on its way for some seconds.
const LINE: &str = "rate 24mbit burst 64kb latency 200ms";
const CLIP_BYTES: usize = 24 << 20;

/// A cable from this machine into the namespace of a process. It goes with the process.
struct Cable {
    near: String,
    address: String,
}

impl Cable {
    fn lay() -> Self {
        let number = process::id() % 16_000;
        let net = format!("10.{}.{}", 64 + number / 250, number % 250);
        let cable = Self { near: format!("hkaws{number}"), address: format!("{net}.1") };
        ip(&format!("link add {} type veth peer name {}", cable.near, cable.far()));
        ip(&format!("addr add {}/30 dev {}", cable.address, cable.near));
        cable.plug_in();
        cable
    }

    fn far(&self) -> String {
        format!("{}b", self.near)
    }

    fn far_address(&self) -> String {
        format!("{}2", self.address.strip_suffix('1').unwrap())
    }

    fn pull(&self) {
        ip(&format!("link set {} down", self.near));
    }

    fn plug_in(&self) {
        ip(&format!("link set {} up", self.near));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Gone already where the namespace was: then there is nothing to do.
        Command::new("ip").args(["link", "del", &self.near]).output().ok();
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip is there: apt-get install iproute2");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Starts the daemon in a namespace whose only way out is the cable.
fn start_daemon(place: &Path, cable: &Cable) -> Daemon {
    let mut command = Daemon::command("unshare");
    command.args(["--net", "sh", "-ec"]).arg(format!(
        "ip link set lo up\n\
         until ip link set {far} up 2>/dev/null; do sleep 0.02; done\n\
         ip addr add {address}/30 dev {far}\n\
         tc qdisc add dev {far} root tbf {LINE}\n\
         exec \"$0\" --config \"$1\" run",
        far = cable.far(),
        address = cable.far_address(),
    ));
    command.arg(BINARY).arg(place.join("config.yaml")).env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let mut daemon = Daemon::start(command, place);
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    wait_for("the namespace", SOON, || {
        let theirs = fs::read_link(format!("/proc/{}/ns/net", daemon.id())).unwrap();
        (theirs != ours).then_some(())
    });
    ip(&format!("link set {} netns {}", cable.far(), daemon.id()));
    daemon.wait_for_notice("READY=1", 0);
    daemon
}

/// Lays a file into the drop folder as a move does: whole at once.
fn lay(place: &Path, path: &str, bytes: &[u8]) {
    let (hidden, target) = (place.join("drop/.coming"), place.join("drop").join(path));
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::write(&hidden, bytes).unwrap();
    fs::rename(hidden, target).unwrap();
}

#[test]
fn i3_a_cable_pulled_in_mid_flood_costs_nothing_but_the_time_it_is_out() {
    let store = Store::start(Kind::SeaweedFs);
    let cable = Cable::lay();
    let proxy = Proxy::listen(&cable.address, &store.endpoint());
    let place = TempDir::with_prefix("hk-aws-outage-").unwrap();
    let (folder, endpoint) = (place.path().display(), proxy.endpoint());
    fs::create_dir_all(place.path().join("drop")).unwrap();
    let config = format!(
        "drop_folder: {{path: {folder}/drop}}\nstate_dir: {folder}/state\nruntime_dir: {folder}/run\n\
         timezone: {zone}\nkeep: {{days: 0}}\nlog: {{target: stderr}}\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, endpoint_url: '{endpoint}', path_style: true}}\n",
        zone = crate::camera::ZONE,
    );
    fs::write(place.path().join("config.yaml"), config).unwrap();
    let mut daemon = start_daemon(place.path(), &cable);

    // A clip and pictures are on their way when the cable is pulled, and cameras do not mind that it is.
    let clip = Picture::take("CLIPS", 5000);
    let clip_bytes: Vec<u8> = clip.bytes.iter().copied().cycle().take(CLIP_BYTES).collect();
    lay(place.path(), "CLIPS/clip.mp4", &clip_bytes);
    let pictures: Vec<Picture> = (0..80).map(|number| Picture::take("CAM-EXT-001", number)).collect();
    let (before, during) = pictures.split_at(30);
    let stored = || proxy.exchanges().iter().filter(|exchange| exchange.answered.is_some()).count();
    for picture in before {
        lay(place.path(), &picture.path(), &picture.bytes);
    }
    wait_for("the flood", SOON, || (stored() >= 5).then_some(()));
    cable.pull();
    let pulled = Instant::now();
    for picture in during {
        lay(place.path(), &picture.path(), &picture.bytes);
        thread::sleep(Duration::from_millis(100));
    }
    wait_for("an outage that is known", CUT, || {
        Snapshot::read(&place.path().join("run")).ok().filter(|status| status.state == DaemonState::Degraded)
    });
    thread::sleep(CUT.saturating_sub(pulled.elapsed()));
    let log = || fs::read_to_string(place.path().join("log")).unwrap();
    assert_eq!(log().matches(" WARN ").count(), 1, "{}", log());
    let there = stored();

    cable.plug_in();
    let plugged = Instant::now();
    wait_for("the first after it", Duration::from_secs(10), || (stored() > there).then_some(()));
    let first = plugged.elapsed();
    wait_for("an empty drop folder", Duration::from_mins(1), || files(place.path()).is_empty().then_some(()));
    eprintln!("cable out for {CUT:?}: first stored {first:.1?} after it was back, all after {:.1?}", plugged.elapsed());
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end(SOON).success());

    let keys = store.keys();
    assert_eq!(keys.len(), pictures.len() + 1, "{keys:?}");
    for picture in &pictures {
        assert!(store.get(&picture.key()).bytes == picture.bytes, "{} has other bytes", picture.key());
    }
    let clip = keys.iter().find(|key| key.starts_with("CLIPS/")).unwrap();
    assert_eq!(sha256(&store.get(clip).bytes), sha256(&clip_bytes));
    assert_eq!(store.uploads(), 0, "nothing is left half-way");
    assert_eq!(log().matches(" WARN ").count(), 1, "{}", log());
}

/// The files below the drop folder.
fn files(place: &Path) -> Vec<String> {
    let found = Command::new("find").arg(place.join("drop")).args(["-type", "f"]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}
