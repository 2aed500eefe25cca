//! What only a human can mend, made for real at real servers in mid-run: every file is kept, one ERROR says what to do, and
//! once it is mended work goes on without a restart.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use hk_aws::status::{DaemonState, Snapshot, Trouble};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;

use crate::camera::{Picture, ZONE};
use crate::daemon::{BINARY, Daemon, SOON, wait_for};
use crate::store::{ACCESS_KEY, BUCKET, Kind, REGION, SECRET_KEY, Store};

/// A box with a drop folder that is filled by hand, and with its keys in a file.
struct Place {
    // In the order in which they end: whoever sends before whoever receives.
    _daemon: Daemon,
    store: Store,
    folder: TempDir,
}

impl Place {
    /// Starts the store and then the daemon, with the keys that `prepare` makes of the store.
    fn start(kind: Kind, prepare: impl FnOnce(&Store) -> (String, String)) -> Self {
        let store = Store::start(kind);
        let folder = TempDir::with_prefix("hk-aws-operator-").unwrap();
        let path = folder.path();
        let (access_key, secret_key) = prepare(&store);
        write_credentials(&folder, &access_key, &secret_key);
        fs::create_dir_all(path.join("drop/CAM-EXT-001")).unwrap();
        let config = format!(
            "state_dir: {path}/state\nruntime_dir: {path}/run\ntimezone: {ZONE}\n\
             drop_folder:\n  path: {path}/drop\n\
             s3:\n  bucket: {BUCKET}\n  region: {REGION}\n  endpoint_url: {endpoint}\n  path_style: true\n\
             keep:\n  days: 0\n\
             log:\n  target: stderr\n",
            path = path.display(),
            endpoint = store.endpoint(),
        );
        fs::write(path.join("config.yaml"), config).unwrap();
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(path.join("config.yaml")).arg("run");
        command.env("AWS_SHARED_CREDENTIALS_FILE", path.join("credentials"));
        let mut daemon = Daemon::start(command, path);
        daemon.wait_for_notice("READY=1", 0);
        Self { _daemon: daemon, store, folder }
    }

    fn drop_picture(&self, number: u64) -> Picture {
        let picture = Picture::take("CAM-EXT-001", number);
        fs::write(self.folder.path().join("new.jpg"), &picture.bytes).unwrap();
        fs::rename(self.folder.path().join("new.jpg"), self.dropped(&picture)).unwrap();
        picture
    }

    fn dropped(&self, picture: &Picture) -> PathBuf {
        self.folder.path().join("drop").join(picture.path())
    }

    /// The lines of the log so far that say `level`.
    fn said(&self, level: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains(level)).map(str::to_owned).collect()
    }

    /// What `hk-aws status` prints.
    fn status(&self) -> String {
        let mut command: Command = Daemon::command(BINARY);
        command.arg("--config").arg(self.folder.path().join("config.yaml")).arg("status");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    fn is_taken(&self, picture: &Picture) {
        wait_for("the picture to be stored", SOON, || (!self.dropped(picture).exists()).then_some(()));
    }

    /// Breaks something while nothing is under way, drops a picture, looks at what is said, and mends it.
    fn survives(&self, number: u64, code: &str, advice: &str, broken: impl FnOnce(), mended: impl FnOnce()) -> Picture {
        let errors = self.said("ERROR").len();
        broken();
        let picture = self.drop_picture(number);
        let trouble: Trouble = wait_for(&format!("the trouble {code}"), SOON, || {
            let status = Snapshot::read(&self.folder.path().join("run")).ok()?;
            (status.state == DaemonState::Degraded).then_some(status.trouble?)
        });
        assert!(trouble.reason.contains(code) && trouble.advice.contains(advice), "{trouble:?}");
        let printed = self.status();
        assert!(printed.contains("NOT STORING") && printed.contains(code) && printed.contains(advice), "{printed}");
        assert!(fs::read(self.dropped(&picture)).unwrap() == picture.bytes, "every file is kept");
        let said = wait_for("an error", SOON, || {
            let said = self.said("ERROR").split_off(errors);
            (!said.is_empty()).then_some(said)
        });
        assert!(said.len() == 1 && said[0].contains(BUCKET) && said[0].contains(advice), "{said:#?}");
        mended();
        self.is_taken(&picture);
        wait_for("the end of the trouble", SOON, || {
            let status = Snapshot::read(&self.folder.path().join("run")).ok()?;
            (status.state == DaemonState::Ok && status.trouble.is_none()).then_some(())
        });
        assert_eq!(self.said("ERROR").len(), errors + 1, "said once");
        picture
    }
}

fn write_credentials(folder: &TempDir, access_key: &str, secret_key: &str) {
    let text = format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n");
    fs::write(folder.path().join("credentials.new"), text).unwrap();
    fs::rename(folder.path().join("credentials.new"), folder.path().join("credentials")).unwrap();
}

/// moto's users and their keys.
struct Iam {
    address: String,
}

impl Iam {
    fn of(store: &Store) -> Self {
        Self { address: store.endpoint().replace("http://", "") }
    }

    /// Lets moto check keys and policies, or not: whoever changes them has none.
    fn check(&self, on: bool) {
        self.post("/moto-api/reset-auth", "", if on { "0" } else { "inf" });
    }

    /// Carries out an action of IAM's query API.
    fn act(&self, action: &str, parameters: &str) -> String {
        // moto finds the service in the scope of the signature.
        let scope = "Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iam/aws4_request, \
                     SignedHeaders=host, Signature=none\r\n";
        self.post("/", scope, &format!("Action={action}&Version=2010-05-08&UserName=box{parameters}"))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let kind = if headers.is_empty() { "text/plain" } else { "application/x-www-form-urlencoded" };
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n{headers}\r\n{body}",
            address = self.address,
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.split_whitespace().nth(1) == Some("200"), "{path} {body}: {answer}");
        answer
    }

    fn new_key(&self) -> (String, String) {
        let answer = self.act("CreateAccessKey", "");
        let element = |name: &str| {
            let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap();
            rest.split_once('<').unwrap().0.to_owned()
        };
        (element("AccessKeyId"), element("SecretAccessKey"))
    }

    fn allow(&self) {
        let policy = format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":\"s3:PutObject\",\
             \"Resource\":\"arn:aws:s3:::{BUCKET}/*\"}}]}}"
        );
        let policy = utf8_percent_encode(&policy, NON_ALPHANUMERIC);
        self.act("PutUserPolicy", &format!("&PolicyName=put&PolicyDocument={policy}"));
    }
}

#[test]
fn i1_keys_rights_and_a_bucket_that_are_taken_away_at_moto_cost_no_picture() {
    let mut key = (String::new(), String::new());
    let site = Place::start(Kind::Moto, |store| {
        let iam = Iam::of(store);
        iam.act("CreateUser", "");
        iam.allow();
        key = iam.new_key();
        iam.check(true);
        key.clone()
    });
    let iam = Iam::of(&site.store);
    let change = |change: &dyn Fn()| {
        iam.check(false);
        change();
        iam.check(true);
    };
    site.is_taken(&site.drop_picture(0));

    let (lose, regain) = (|| drop(iam.act("DeleteUserPolicy", "&PolicyName=put")), || iam.allow());
    site.survives(1, "AccessDenied", "allow s3:PutObject", || change(&lose), || change(&regain));

    let old_key = format!("&AccessKeyId={}", key.0);
    let renew = || {
        let (access_key, secret_key) = iam.new_key();
        write_credentials(&site.folder, &access_key, &secret_key);
    };
    let lose = || drop(iam.act("DeleteAccessKey", &old_key));
    site.survives(2, "InvalidAccessKeyId", "renew the AWS key", || change(&lose), || change(&renew));

    let (lose, make) = (|| site.store.delete_bucket(), || site.store.make_bucket());
    let picture = site.survives(3, "NoSuchBucket", "create the bucket", || change(&lose), || change(&make));
    iam.check(false);
    assert!(site.store.get(&picture.key()).bytes == picture.bytes);
}

#[test]
fn i1_a_wrong_secret_at_seaweedfs_costs_no_picture() {
    let site = Place::start(Kind::SeaweedFs, |_| (ACCESS_KEY.to_owned(), "a wrong secret".to_owned()));
    let renew = || write_credentials(&site.folder, ACCESS_KEY, SECRET_KEY);
    let picture = site.survives(0, "SignatureDoesNotMatch", "the secret key does not fit", || {}, renew);
    assert!(site.store.get(&picture.key()).bytes == picture.bytes);
}

/// The key of a box may be one that can do nothing but take on a role; a profile names both.
#[test]
fn i1_a_key_that_a_role_lends_is_asked_for_at_moto() {
    let store = Store::start(Kind::Moto);
    let folder = TempDir::with_prefix("hk-aws-operator-").unwrap();
    let path = folder.path();
    write_credentials(&folder, ACCESS_KEY, SECRET_KEY);
    let profile = "[profile cctv]\nrole_arn = arn:aws:iam::123456789012:role/cctv\nsource_profile = default\n";
    fs::write(path.join("profiles"), profile).unwrap();
    let config = format!(
        "state_dir: {path}/state\nruntime_dir: {path}/run\ntimezone: {ZONE}\n\
         drop_folder: {{path: {path}/drop, settle: 0s}}\nkeep: {{days: 0}}\n\
         s3: {{bucket: {BUCKET}, region: {REGION}, profile: cctv, endpoint_url: '{endpoint}', path_style: true}}\n",
        path = path.display(),
        endpoint = store.endpoint(),
    );
    fs::write(path.join("config.yaml"), config).unwrap();
    let picture = Picture::take("CAM-EXT-001", 0);
    let dropped = path.join("drop").join(picture.path());
    fs::create_dir_all(dropped.parent().unwrap()).unwrap();
    fs::write(&dropped, &picture.bytes).unwrap();
    let upload = |lender: &str| {
        let mut command = Daemon::command(BINARY);
        command.arg("--config").arg(path.join("config.yaml")).arg("upload").env("AWS_ENDPOINT_URL_STS", lender);
        command.env("AWS_CONFIG_FILE", path.join("profiles"));
        command.env("AWS_SHARED_CREDENTIALS_FILE", path.join("credentials")).output().unwrap()
    };
    let nobody = upload("http://127.0.0.1:1");
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(!nobody.status.success() && said.contains("every file is kept"), "{said}");
    assert!(fs::read(&dropped).unwrap() == picture.bytes);
    let lent = upload(&store.endpoint());
    assert!(lent.status.success(), "{}", String::from_utf8_lossy(&lent.stderr));
    assert!(!dropped.exists() && store.get(&picture.key()).bytes == picture.bytes);
}
