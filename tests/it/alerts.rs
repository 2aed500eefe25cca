//! Alerts: real causes in a real daemon, and services that take what they are told, or do not.

use std::os::unix::fs::PermissionsExt as _;

use hk_aws::alerts::{self, Message, NotTaken, Service as Told};
use hk_aws::config::AlertsSettings;
use hk_aws::status::ConditionKind;

use crate::support::memory::remember;
use crate::support::service::{Answer, Service};
use crate::support::site::{Settings, Site};

fn settings(rest: String) -> Settings {
    Settings { rest: rest.leak(), ..Settings::default() }
}

async fn of(alerts: String) -> AlertsSettings {
    Site::new(settings(alerts)).await.config().alerts
}

fn test() -> Message {
    Message::test("porch", chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap())
}

async fn refused(settings: &AlertsSettings, of: Told) -> NotTaken {
    alerts::deliver(settings, of, &test()).await.unwrap_err()
}

#[tokio::test]
async fn a_webhook_that_is_down_or_says_no_or_shows_a_page_has_taken_nothing_and_no_secret_is_told() {
    let service = Service::start().await;
    let url = service.url().replace("://", "://user:hunter2@");
    let settings = of(format!("alerts: {{webhook: '{url}/T000/s3cret?token=tok3n'}}")).await;
    for (answer, said, may_pass) in [
        (Answer::Echo(500), "answers 500", true),
        (Answer::Echo(404), "answers 404", false),
        (Answer::Say(429, "slow down".to_owned()), "429: slow down", true),
        (Answer::Say(302, String::new()), "answers 302", true),
        (Answer::Say(200, "\n<html>Log in</html>".to_owned()), "a web page", true),
        (Answer::Say(503, "x".repeat(10 << 20)), "answers 503: xxx", true),
    ] {
        service.answer([answer]);
        let not_taken = refused(&settings, Told::Webhook).await;
        assert!(not_taken.why.contains(said) && not_taken.may_pass == may_pass, "{not_taken:?}");
        for secret in ["hunter2", "s3cret", "tok3n"] {
            assert!(!not_taken.why.contains(secret), "{not_taken:?}");
        }
        assert!(not_taken.why.len() < 400, "{not_taken:?}");
    }
    service.answer([Answer::Say(200, "ok".to_owned())]);
    assert_eq!(alerts::deliver(&settings, Told::Webhook, &test()).await.unwrap(), "200 ok");
    let posted = service.posted();
    let last = posted.last().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Basic dXNlcjpodW50ZXIy"));
    assert_eq!(
        (last.content_type.as_deref(), last.path.as_str()),
        (Some("application/json"), "/T000/s3cret?token=tok3n")
    );
    assert_eq!((&last.json()["state"], &last.json()["box"]), (&"test".into(), &"porch".into()));
    drop(service);
    let not_taken = refused(&settings, Told::Webhook).await;
    assert!(not_taken.may_pass && not_taken.why.contains("cannot be reached"), "{not_taken:?}");
}

#[tokio::test]
async fn the_body_may_have_the_owners_form() {
    let service = Service::start().await;
    let body = r#"body: '{"summary": "{title}", "more": {"n": 1, "of": "{box}/{state}"}}'"#;
    let settings = of(format!("alerts: {{webhook: '{}/x', {body}}}", service.url())).await;
    alerts::deliver(&settings, Told::Webhook, &test()).await.unwrap();
    let posted = service.posted()[0].json();
    assert_eq!(posted, serde_json::json!({"summary": "porch: alerts arrive", "more": {"n": 1, "of": "porch/test"}}));
}

#[tokio::test]
async fn a_program_gets_the_json_and_says_by_its_exit_whether_it_took_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("notify");
    let script = "#!/bin/sh\ncat > \"$1\"\n[ -z \"$AWS_SECRET_ACCESS_KEY$CARGO\" ] || exit 9\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = folder.path().join("out");
    let settings = of(format!("alerts: {{command: ['{}', '{}']}}", program.display(), out.display())).await;
    alerts::deliver(&settings, Told::Command, &test()).await.unwrap();
    let got: Message = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(got, test());
    let settings = of("alerts: {command: [sh, -c, 'echo no mail here >&2; exit 3']}".to_owned()).await;
    let not_taken = refused(&settings, Told::Command).await;
    assert!(not_taken.may_pass && not_taken.why.contains("3: no mail here"), "{not_taken:?}");
    let settings = of("alerts: {command: [/nowhere/notify]}".to_owned()).await;
    assert!(refused(&settings, Told::Command).await.why.contains("/nowhere/notify cannot be run"));
}

#[tokio::test]
async fn what_happens_to_the_daemon_is_told_in_order_and_remembered() {
    let service = Service::start().await;
    let rest = format!(
        "alerts: {{webhook: '{}/hook'}}\nheartbeat: {{every: 1d, name: porch}}\ncameras: [{{name: CAM, silent_after: 1s}}]",
        service.url()
    );
    let mut site = Site::new(settings(rest)).await;
    let kinds = [(ConditionKind::SetAside, None), (ConditionKind::CameraSilent, Some("CAM"))];
    remember(&site.path("state"), &kinds);
    std::fs::create_dir_all(site.path("state/set-aside/CAM")).unwrap();
    std::fs::write(site.path("state/set-aside/CAM/a.jpg"), b"x").unwrap();
    service.answer([Answer::Say(500, "later".to_owned()), Answer::Say(200, "ok".to_owned())]);
    site.start().await;
    // The first is refused once, and comes again before the second: in order.
    let posted = service.wait_for(|posted| posted.len() >= 3).await;
    site.stop().await;
    let told: Vec<String> = posted.iter().map(|posted| posted.json()["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["set_aside", "set_aside", "camera_silent"]);
    let last = posted[2].json();
    assert_eq!((&last["box"], &last["camera"], &last["state"]), (&"porch".into(), &"CAM".into(), &"entered".into()));
    assert!(last["advice"].as_str().unwrap().contains("FTP"), "{last}");
    // So that nothing is said twice.
    let memory = std::fs::read_to_string(site.path("state").join(alerts::FILE)).unwrap();
    let memory: serde_json::Value = serde_json::from_str(&memory).unwrap();
    let known = memory["state"]["known"].as_array().unwrap();
    assert!(known.iter().all(|known| known["told_at"].is_string()), "{memory:#}");
}

#[tokio::test]
async fn a_broken_webhook_is_a_condition_of_its_own() {
    let service = Service::start().await;
    service.answer([Answer::Echo(404)]);
    let mut site = Site::new(settings(format!("alerts: {{webhook: '{}/s3cret'}}", service.url()))).await;
    remember(&site.path("state"), &[(ConditionKind::SetAside, None)]);
    std::fs::create_dir_all(site.path("state/set-aside/CAM")).unwrap();
    std::fs::write(site.path("state/set-aside/CAM/a.jpg"), b"x").unwrap();
    site.start().await;
    let fails = |kind| move |condition: &hk_aws::status::Condition| condition.kind == kind;
    let status = site
        .wait_for_status("a warning", |status| status.conditions.iter().any(fails(ConditionKind::AlertsFail)))
        .await;
    let condition = status.conditions.into_iter().find(fails(ConditionKind::AlertsFail)).unwrap();
    assert!(condition.in_full().contains("404") && !condition.in_full().contains("s3cret"), "{condition:?}");
    site.stop().await;
}
