//! What is no broker at the address of one. Real brokers are among the peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hk_aws::health::Board;
use hk_aws::ingest::Ingest;
use hk_aws::mqtt::Mqtt;
use hk_aws::site::SiteInForce;
use hk_aws::status::{Condition, ConditionKind};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::service::Service;
use crate::support::site::{Settings, Site, bytes, key, picture};

fn settings(address: &str) -> Settings {
    Settings { rest: format!("mqtt: {{url: 'mqtt://{address}'}}").leak(), ..Settings::default() }
}

/// Says that Home Assistant is not told, if that is so.
fn complaint(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.kind == ConditionKind::MqttFails)
}

#[tokio::test]
async fn what_is_no_broker_is_a_condition_of_its_own_and_harms_nothing() {
    let web = Service::start().await;
    // Whatever is written to it, it hangs up.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rude_address = rude.local_addr().unwrap().to_string();
    let _hanging_up = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            drop(rude.accept().await);
        }
    }));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (address, said) in [
        (web.url().trim_start_matches("http://"), "is no MQTT broker"),
        (rude_address.as_str(), "mqtt://127.0.0.1"),
        (nobody.as_str(), "cannot be reached"),
    ] {
        let mut site = Site::new(settings(address)).await;
        site.start().await;
        let status = site.wait_for_status("the condition", |status| complaint(&status.conditions).is_some()).await;
        let told = complaint(&status.conditions).unwrap();
        assert!(told.sentence.contains(said) && !told.advice.is_empty(), "{told:?}");
        site.write(format!("CAM/{}", picture(1)), &bytes(1, 2000));
        site.wait_for_keys(&[&key("CAM", 1)]).await;
        site.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_nothing_is_tried_at_growing_intervals() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let _listening = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    }));
    let site = Arc::new(Site::new(settings(&address)).await.context().await);
    let snapshot = Arc::new(Ingest::new(Arc::clone(&site)).snapshot());
    let (told, board, stop) = (watch::channel(snapshot).0, Board::default(), CancellationToken::new());
    let (sites, _) = watch::channel(SiteInForce::new(site));
    let mqtt = Mqtt { sites: sites.subscribe(), told: told.subscribe(), board: board.clone(), stop: stop.clone() };
    let task = tokio::spawn(mqtt.run());
    tokio::time::sleep(Duration::from_secs(11)).await;
    let condition = complaint(&board.raised()).cloned().unwrap();
    assert!(condition.sentence.ends_with("does not answer within 10 s"), "{condition:?}");
    tokio::time::sleep(Duration::from_mins(30)).await;
    let count = attempts.load(Ordering::Relaxed);
    // Seven until the wait is a minute, then one in 70 seconds.
    assert!((25..=35).contains(&count), "{count} attempts in half an hour");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
}
