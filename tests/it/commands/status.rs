//! `status`: what the daemon said last, and whether it lives.

use std::fs::File;

use hk_aws::status::Snapshot;
use rustix::fs::FlockOperation;
use serde_json::json;

use super::{Site, run};

fn snapshot() -> Snapshot {
    let at = "2022-02-24T03:06:07Z";
    let said = json!({
        "version": "1.2.3", "pid": 4, "at": at, "started_at": at, "state": "degraded", "bucket": "s3://captures",
        "trouble": {"since": at, "reason": "no answer", "advice": "look at the line"},
        "conditions": [
            {
                "kind": "bucket_unreachable", "camera": null, "since": at, "sentence": "no connection to S3",
                "advice": "look at the line", "detail": "connection reset\u{1b}",
            },
            {
                "kind": "camera_silent", "camera": "QUIET", "since": at, "sentence": "camera QUIET has sent nothing for 2 h",
                "advice": "check its power", "detail": null,
            },
        ],
        "waiting": {
            "settling": 1, "queued": 2, "uploading": 3, "backing_off": 4, "on_disk": 5, "bytes": 2048,
            "ignored": 6, "left_alone": 7, "set_aside": 8,
        },
        "oldest_only_here": {"path": "CAM/old.jpg", "since": at},
        "files": [
            {"path": "CAM/a.jpg", "state": "queued", "reason": null},
            {"path": "CAM/c.jpg", "state": "backing off", "reason": "failed: connection reset\u{1b}"},
            {"path": "CAM/d.jpg", "state": "backing off", "reason": "it is empty"},
        ],
        "not_uploaded": [{"path": "CAM/b.tmp", "state": "ignored", "reason": "matches *.tmp"}],
        "stored": {"captures": 9, "bytes": 1024},
        "cameras": {
            "CAM": {
                "captures": 9, "last_taken_at": "2022-02-24T05:06:07+02:00", "last_stored_at": at,
                "newest_day": {"date": "2022-02-24", "captures": 7},
                "wrong_clock": {"captures": 1, "last_said": "1970-01-01T00:00:00+02:00", "is_now": true},
            },
        },
        "last_errors": [{"at": at, "message": "went wrong"}],
        "drop_folder_free_bytes": 1024, "state_free_bytes": null,
        "jobs": {
            "rotate": {
                "next_at": "2022-02-25T01:30:00Z", "running_since": null, "last_begun_at": "2022-02-24T01:30:00Z",
                "last_ended_at": "2022-02-24T01:31:00Z", "last_success_at": null, "outcome": "12 days\u{1b} bundled",
                "failed": false,
            },
        },
    });
    serde_json::from_value(said).unwrap()
}

#[tokio::test]
async fn a_daemon_that_never_ran_is_said_to_be_so() {
    let site = Site::start().await;
    for line in [&["status"][..], &["status", "--json"]] {
        let said = site.run(line).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains("is the daemon running?"), "{said:?}");
        assert!(said.err.contains(site.path("run").to_str().unwrap()), "{said:?}");
    }
}

#[tokio::test]
async fn the_last_words_of_a_daemon_that_is_gone_are_shown_as_such() {
    let site = Site::start().await;
    std::fs::create_dir(site.path("run")).unwrap();
    File::create(site.path("run/run.lock")).unwrap();
    snapshot().write(&site.path("run")).unwrap();
    let said = site.run(&["status"]).await;
    assert!(said.code == 1 && said.out.starts_with("state "), "{said:?}");
    assert!(said.err.contains("not running") && said.err.contains("2022-02-24 03:06:07 UTC"), "{said:?}");
}

#[tokio::test]
async fn a_running_daemon_is_shown_in_full() {
    let site = Site::start().await;
    std::fs::create_dir(site.path("run")).unwrap();
    let lock = File::create(site.path("run/run.lock")).unwrap();
    rustix::fs::fcntl_lock(&lock, FlockOperation::LockExclusive).unwrap();
    snapshot().write(&site.path("run")).unwrap();
    let json = site.run(&["--json", "status"]).await;
    assert_eq!((json.code, json.out.lines().count()), (1, 1), "{json:?}");
    assert!(json.err.contains("has said nothing since 2022-02-24 03:06:07 UTC"), "it hangs: {json:?}");
    assert_eq!(serde_json::from_str::<Snapshot>(&json.out).unwrap(), snapshot());
    let text = run(site.command(&["status"]).env("TZ", "EET-2")).await;
    for part in [
        "state      NOT STORING since 2022-02-24 05:06: pictures wait here and are sent later\n",
        "           no connection to S3 (since 2022-02-24 05:06)\n             -> look at the line\n",
        "             detail: connection reset\\u{1b}\n",
        "camera  last capture         today  clock                            silent since\n",
        "CAM     2022-02-24 05:06:07      7  WRONG, said 1970-01-01 00:00:00  -\n",
        "QUIET   -                        0  -                                2022-02-24 05:06\n",
        "s3://captures",
        "9 captures",
        "waiting    15 files: 1 still arriving, 7 in line, 3 uploading, 4 to retry; 2.00 KiB\n",
        "           oldest picture not in the bucket yet: CAM/old.jpg, for 0 s\n",
        "not sent   6 not pictures (see \"ignore\"), 0 cannot be read, 8 damaged (moved away), 7 links and the like left alone\n",
        "CAM/a.jpg in line\n",
        // Not again what stands above.
        "CAM/c.jpg to retry\n",
        "CAM/d.jpg to retry: it is empty\n",
        "CAM/b.tmp ignored: matches *.tmp",
        "went wrong",
        "rotate     next 2022-02-25 03:30; last 2022-02-24 03:30: 12 days\\u{1b} bundled",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
}

#[tokio::test]
async fn a_status_that_cannot_be_read_is_no_panic() {
    let site = Site::start().await;
    std::fs::create_dir(site.path("run")).unwrap();
    std::fs::write(site.path("run/status.json"), "{\"version\": ").unwrap();
    let said = site.run(&["status"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.lines().count()), (1, "", 1), "{said:?}");
}

#[tokio::test]
async fn a_broken_configuration_does_not_hide_the_daemon_that_runs_by_the_one_before() {
    let site = Site::start().await;
    std::fs::create_dir(site.path("run")).unwrap();
    let lock = File::create(site.path("run/run.lock")).unwrap();
    rustix::fs::fcntl_lock(&lock, FlockOperation::LockExclusive).unwrap();
    let now = hk_aws::daemon::now().wall.into();
    Snapshot { at: now, ..snapshot() }.write(&site.path("run")).unwrap();
    let file = site.path("config.yaml");
    for (text, variable) in [
        (format!("runtime_dir: {}\nnonsense: 1\ns3: [\n", site.path("run").display()), true),
        (format!("runtime_dir: {}\nnonsense: 1\n", site.path("run").display()), false),
        ("nonsense: 1\n".to_owned(), true),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = site.command(&["status"]);
        if variable {
            command.env("RUNTIME_DIRECTORY", site.path("run"));
        }
        let said = run(&mut command).await;
        assert!(said.code == 0 && said.out.starts_with("state      NOT STORING since"), "{said:?}");
        assert!(said.err.contains("is wrong: `hk-aws check` says why"), "{said:?}");
    }
}
