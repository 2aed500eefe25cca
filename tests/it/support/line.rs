//! A line between the daemon and its S3 that can be bad: it passes bytes, slowly, or takes them in and says nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Bytes pass.
    Clear,
    /// So many bytes a second pass towards the store, over all connections together.
    Slow(u32),
    /// Connections are taken and nothing passes; the connections of that time never pass anything again.
    Dead,
}

/// A running line. Dropping it cuts every connection.
#[derive(Debug)]
pub(crate) struct Line {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line to `store`, an `http://` URL without a path.
    pub(crate) async fn to(store: &str, weather: Weather) -> Self {
        let store: SocketAddr = store.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let weather = watch::Sender::new(weather);
        let (receiver, slot) = (weather.subscribe(), Arc::new(Mutex::new(Instant::now())));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(connection(near, store, receiver.clone(), Arc::clone(&slot)));
            }
        });
        Self { address, weather, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    near: TcpStream,
    store: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    slot: Arc<Mutex<Instant>>,
) {
    let passing = weather.clone();
    let pass = async {
        let Ok(far) = TcpStream::connect(store).await else { return };
        near.set_nodelay(true).ok();
        far.set_nodelay(true).ok();
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
        let there = async {
            let mut chunk = [0; 2048];
            while let Ok(read @ 1..) = near_in.read(&mut chunk).await {
                let now = *passing.borrow();
                if let Weather::Slow(rate) = now {
                    let mut slot = slot.lock().await;
                    *slot = (*slot).max(Instant::now()) + Duration::from_secs(1) * u32::try_from(read).unwrap() / rate;
                    sleep_until(*slot).await;
                }
                if far_out.write_all(&chunk[..read]).await.is_err() {
                    return;
                }
            }
        };
        let back = async { tokio::io::copy(&mut far_in, &mut near_out).await };
        tokio::select! { () = there => {} _ = back => {} }
    };
    let died = async { weather.wait_for(|weather| *weather == Weather::Dead).await.map(drop) };
    tokio::select! {
        biased;
        _ = died => {}
        () = pass => return,
    }
    // It stays open, and deaf.
    std::future::pending::<()>().await;
}
