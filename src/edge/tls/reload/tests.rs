use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::{Shown, UnknownName};
use crate::edge::testing::limits;
use crate::edge::tls::tests::server;

/// Longer than anything here takes; the clock stands still while files are read.
const PATIENCE: Duration = Duration::from_secs(600);

/// A folder with `cert.pem` and `key.pem`, and what watches it.
struct Watched {
    folder: TempDir,
    identity: Identity,
    metrics: Arc<Metrics>,
    now: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// A certificate and its key, in PEM.
fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn put(folder: &Path, (cert, key): &(String, String)) {
    fs::write(folder.join("cert.pem"), cert).unwrap();
    fs::write(folder.join("key.pem"), key).unwrap();
}

/// For `cert.pem` and `key.pem` in `below`, which `make` fills.
fn reloader(below: &str, make: impl FnOnce(&Path)) -> (TempDir, Reloader, watch::Sender<()>) {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let path = |name: &str| -> PathBuf { folder.path().join(below).join(name) };
    let files = Files {
        pairs: vec![(path("cert.pem"), path("key.pem"))],
        ..Files::default()
    };
    let snapshot = files.read();
    let material = snapshot.take(Now::read().wall).unwrap();
    let tls = Tls {
        shown: Shown::Certificates(material.certificates),
        unknown_name: UnknownName::First,
        clients: None,
        fingerprint: snapshot.fingerprint(),
        files,
    };
    let identity = Identity::new(&server(None, limits()), &tls).unwrap();
    let metrics = Metrics::new([]);
    let now = watch::Sender::default();
    let reloader = Reloader::new(&tls, identity, metrics, now.subscribe()).unwrap();
    (folder, reloader, now)
}

/// Watches them.
fn watch(below: &str, make: impl FnOnce(&Path)) -> Watched {
    let (folder, reloader, now) = reloader(below, make);
    Watched {
        folder,
        identity: reloader.identity.clone(),
        metrics: Arc::clone(&reloader.metrics),
        now,
        task: tokio::spawn(reloader.run(CancellationToken::new())),
    }
}

impl Watched {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn count(&self, result: &str) -> usize {
        let series = format!("hookgate_certificate_reloads_total{{result=\"{result}\"}} ");
        let page = self.metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().parse().unwrap()
    }

    /// Waits until so many changes were taken and refused; gives how long that took.
    async fn until(&self, ok: usize, failed: usize) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while (self.count("ok"), self.count("failed")) != (ok, failed) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let came = timeout(PATIENCE, waiting).await;
        assert!(
            came.is_ok(),
            "{} {}",
            self.count("ok"),
            self.count("failed")
        );
        start.elapsed()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_in_place_is_in_use_after_two_looks() {
    let watched = watch("", |folder| put(folder, &pair("a.example")));
    let before = watched.identity.config();
    sleep(LOOK_EVERY * 5).await;
    assert!(Arc::ptr_eq(&before, &watched.identity.config()));
    put(watched.path(), &pair("b.example"));
    let took = watched.until(1, 0).await;
    assert!(took <= LOOK_EVERY * 2 + LOOK_EVERY / 2, "{took:?}");
    assert!(!Arc::ptr_eq(&before, &watched.identity.config()));
    let page = watched.metrics.render();
    assert!(page.contains("hookgate_certificate_not_after_timestamp_seconds{name="));
}

#[tokio::test(start_paused = true)]
async fn a_hangup_is_heard_at_once_and_counts_if_something_changed() {
    let watched = watch("", |folder| put(folder, &pair("a.example")));
    let before = watched.identity.config();
    sleep(LOOK_EVERY / 2).await;
    watched.now.send_replace(());
    let judged_again = async {
        while Arc::ptr_eq(&before, &watched.identity.config()) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LOOK_EVERY, judged_again).await.unwrap();
    sleep(LOOK_EVERY * 3).await;
    assert_eq!((watched.count("ok"), watched.count("failed")), (0, 0));

    sleep(LOOK_EVERY / 2).await;
    put(watched.path(), &pair("b.example"));
    watched.now.send_replace(());
    let took = watched.until(1, 0).await;
    assert!(took < LOOK_EVERY, "{took:?}");
    fs::write(watched.path().join("key.pem"), "").unwrap();
    watched.until(1, 1).await;
    // Whoever asks again is told again.
    watched.now.send_replace(());
    watched.until(1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_said_once_and_the_old_one_stays() {
    let watched = watch("", |folder| put(folder, &pair("a.example")));
    let before = watched.identity.config();
    let (one, two) = (pair("b.example"), pair("c.example"));
    let bad: [&dyn Fn(); 5] = [
        // A certificate of which a half is written, then one whose key is to come.
        &|| fs::write(watched.path().join("cert.pem"), one.0.split_at(300).0).unwrap(),
        &|| put(watched.path(), &(one.0.clone(), two.1.clone())),
        &|| fs::write(watched.path().join("cert.pem"), "").unwrap(),
        &|| fs::remove_file(watched.path().join("key.pem")).unwrap(),
        &|| fs::create_dir(watched.path().join("key.pem")).unwrap(),
    ];
    for (count, make) in bad.iter().enumerate() {
        make();
        watched.until(0, count + 1).await;
        sleep(LOOK_EVERY * 10).await;
        assert_eq!(watched.count("failed"), count + 1);
        assert!(Arc::ptr_eq(&before, &watched.identity.config()));
    }
    fs::remove_dir(watched.path().join("key.pem")).unwrap();
    put(watched.path(), &two);
    watched.until(1, bad.len()).await;
    assert!(!Arc::ptr_eq(&before, &watched.identity.config()));
}

/// What was read first need not be what is there, and the system says the same of both.
#[tokio::test]
async fn files_are_read_until_two_good_looks_agree() {
    let (elsewhere, nowhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(elsewhere.path(), &pair("c.example"));
    let first_looks: [&[&TempDir]; 4] = [
        &[&nowhere],
        &[&nowhere, &nowhere],
        &[&elsewhere],
        &[&elsewhere, &nowhere, &elsewhere],
    ];
    for (case, first) in first_looks.iter().enumerate() {
        let (folder, mut reloader, _now) = reloader("", |folder| put(folder, &pair("a.example")));
        while let Some(snapshot) = reloader.look(false).await {
            reloader.consider(&snapshot, false);
        }
        // Other files, so that the system tells them apart however soon they come.
        let new = folder.path().join("new");
        fs::create_dir(&new).unwrap();
        put(&new, &pair("b.example"));
        for name in ["cert.pem", "key.pem"] {
            fs::rename(new.join(name), folder.path().join(name)).unwrap();
        }
        for other in *first {
            assert!(reloader.look(false).await.is_some(), "{case}");
            let path = |name: &str| other.path().join(name);
            let files = Files {
                pairs: vec![(path("cert.pem"), path("key.pem"))],
                ..Files::default()
            };
            reloader.consider(&files.read(), false);
        }
        let mut looks = 0;
        while let Some(snapshot) = reloader.look(false).await {
            reloader.consider(&snapshot, false);
            looks += 1;
            assert!(looks < 10, "{case}: it does not rest");
        }
        assert_eq!(
            reloader.judged,
            reloader.files.read().fingerprint(),
            "{case}"
        );
        let page = reloader.metrics.render();
        let taken = "hookgate_certificate_reloads_total{result=\"ok\"} 1\n";
        assert!(page.contains(taken), "{case}: {page}");
    }
}

/// As Kubernetes does it: files are links to `..data/NAME`, and `..data` is a link that is renamed.
#[tokio::test(start_paused = true)]
async fn a_link_above_the_files_can_be_changed() {
    let link = |folder: &Path, to: &str, name: &str| {
        let temporary = folder.join("..data_tmp");
        std::os::unix::fs::symlink(to, &temporary).unwrap();
        fs::rename(temporary, folder.join(name)).unwrap();
    };
    let version = |folder: &Path, name: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        put(&folder.join(name), &pair("a.example"));
        link(folder, name, "..data");
    };
    let watched = watch("", |folder| {
        version(folder, "..2026_01");
        link(folder, "..data/cert.pem", "cert.pem");
        link(folder, "..data/key.pem", "key.pem");
    });
    let before = watched.identity.config();
    version(watched.path(), "..2026_02");
    watched.until(1, 0).await;
    fs::remove_dir_all(watched.path().join("..2026_01")).unwrap();
    sleep(LOOK_EVERY * 5).await;
    assert_eq!((watched.count("ok"), watched.count("failed")), (1, 0));
    assert!(!Arc::ptr_eq(&before, &watched.identity.config()));
}

/// As certbot does it: links into an archive, changed one after the other.
#[tokio::test(start_paused = true)]
async fn links_can_be_changed_one_after_the_other() {
    let link = |folder: &Path, version: usize, name: &str| {
        let temporary = folder.join("live/temporary");
        std::os::unix::fs::symlink(format!("../archive/{version}/{name}"), &temporary).unwrap();
        fs::rename(temporary, folder.join("live").join(name)).unwrap();
    };
    let watched = watch("live", |folder| {
        for version in 1..=2 {
            let archive = folder.join(format!("archive/{version}"));
            fs::create_dir_all(&archive).unwrap();
            put(&archive, &pair("a.example"));
        }
        fs::create_dir(folder.join("live")).unwrap();
        link(folder, 1, "cert.pem");
        link(folder, 1, "key.pem");
    });
    link(watched.path(), 2, "cert.pem");
    // Less than two looks: nobody complains of a certificate without its key.
    sleep(LOOK_EVERY / 2).await;
    link(watched.path(), 2, "key.pem");
    watched.until(1, 0).await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_edge_and_is_not_there_without_files() {
    let watched = watch("", |folder| put(folder, &pair("a.example")));
    let tls = Tls {
        shown: Shown::SelfSigned,
        unknown_name: UnknownName::First,
        clients: None,
        fingerprint: Files::default().read().fingerprint(),
        files: Files::default(),
    };
    let (identity, metrics) = (watched.identity.clone(), Arc::clone(&watched.metrics));
    assert!(Reloader::new(&tls, identity.clone(), metrics, watch::channel(()).1).is_none());
    let tls = Tls {
        files: Files {
            client_ca: Some(watched.path().join("cert.pem")),
            ..Files::default()
        },
        ..tls
    };
    let reloader = Reloader::new(
        &tls,
        identity,
        Arc::clone(&watched.metrics),
        watch::channel(()).1,
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(reloader.unwrap().run(stop.clone()));
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}
