use std::fs;
use std::net::IpAddr;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::pipeline::testing;

const CONFIG: &str = "[server]\ntls = \"off\"\n[sources.shop]\nverify = \"insecure-none\"\n\
                      allow_ips = [\"203.0.113.7\", { file = \"ranges.txt\" }]\n";

/// Longer than anything here takes; the clock stands still while files are read.
const PATIENCE: Duration = Duration::from_secs(600);

/// A source with `ranges.txt`, and what watches that.
struct Setting {
    folder: TempDir,
    source: Arc<Source>,
    now: watch::Sender<()>,
    task: JoinHandle<()>,
}

fn setting() -> Setting {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ranges.txt"), "192.0.2.0/24\n").unwrap();
    let config = testing::config(folder.path(), CONFIG);
    let now = watch::Sender::default();
    let reloader = Reloader::new(&config.sources, now.subscribe());
    Setting {
        folder,
        source: Arc::clone(&config.sources[0]),
        now,
        task: tokio::spawn(reloader.run(CancellationToken::new())),
    }
}

impl Setting {
    fn put(&self, ranges: &str) {
        fs::write(self.folder.path().join("ranges.txt"), ranges).unwrap();
    }

    fn admits(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        self.source.allow_ips.admits(address)
    }

    /// Waits until an address may send; gives how long that took.
    async fn until_admitted(&self, address: &str) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while !self.admits(address) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap();
        start.elapsed()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_use_after_two_looks_and_what_is_written_beside_stays() {
    let setting = setting();
    assert!(setting.admits("192.0.2.1") && !setting.admits("198.51.100.1"));
    sleep(LOOK_EVERY * 3).await;
    setting.put("198.51.100.0/24 # moved\n");
    let took = setting.until_admitted("198.51.100.1").await;
    assert!(took <= LOOK_EVERY * 2 + LOOK_EVERY / 2, "{took:?}");
    assert!(!setting.admits("192.0.2.1"));
    assert!(setting.admits("203.0.113.7"));
}

#[tokio::test(start_paused = true)]
async fn a_hangup_reads_at_once() {
    let setting = setting();
    sleep(LOOK_EVERY / 2).await;
    setting.put("198.51.100.0/24\n");
    setting.now.send_replace(());
    let took = setting.until_admitted("198.51.100.1").await;
    assert!(took < LOOK_EVERY, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_leaves_the_networks_of_before() {
    let setting = setting();
    for bad in ["nowhere\n", "", "# nobody\n"] {
        setting.put(bad);
        sleep(LOOK_EVERY * 4).await;
        assert!(setting.admits("192.0.2.1"), "{bad:?}");
        assert!(!setting.admits("198.51.100.1"), "{bad:?}");
    }
    fs::remove_file(setting.folder.path().join("ranges.txt")).unwrap();
    setting.now.send_replace(());
    sleep(LOOK_EVERY * 4).await;
    assert!(setting.admits("192.0.2.1"));
    setting.put("198.51.100.0/24\n");
    setting.until_admitted("198.51.100.1").await;
}
