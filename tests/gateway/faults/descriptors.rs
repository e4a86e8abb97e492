//! More clients than descriptors: the gateway goes on serving and recovers.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::balance::balance;
use crate::support::eventually::eventually;
use crate::support::figures::Row;
use crate::support::gateway::{Gateway, Setup, source};
use crate::support::sender::{Answer, Stream, Version};
use crate::support::usage::{Usage, mib};
use crate::support::webhook::Webhook;

/// Open files that the gateway may have, and clients that want one each.
const DESCRIPTORS: u64 = 256;
const CLIENTS: u32 = 1_000;
/// Connections that idle: the default of `max_connections`, but for a few of our own.
const IDLE: u32 = 9_990;
/// How long a state is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Of one core. A loop that does not rest takes all of it.
const PROCESSOR_MAX: f64 = 0.2;
/// After what was taken is given back.
const RECOVERY_MAX: Duration = Duration::from_secs(1);
/// Of one address, below `max_connections_per_peer`.
const PER_ADDRESS: u32 = 200;

fn push(id: &str) -> Webhook {
    Webhook::github("/github", "push", id, b"{\"a\":1}")
}

/// The part of one core that the gateway uses while nobody asks it anything.
async fn processor(gateway: &Gateway) -> f64 {
    let usage = Usage::of(gateway.pid());
    let (begin, before) = (Instant::now(), usage.processor());
    sleep(LOOK).await;
    (usage.processor() - before).as_secs_f64() / begin.elapsed().as_secs_f64()
}

/// How long it takes until a new connection is served.
async fn served_again(gateway: &Gateway) -> Duration {
    let begin = Instant::now();
    let mut n = 0;
    eventually("a new connection to be served", || {
        n += 1;
        let webhook = push(&format!("again-{n}"));
        async move {
            let mut client = gateway
                .sender()
                .from(60_000)
                .connect(Version::Http1)
                .await?;
            match client.send(&webhook).await?.status {
                202 => Ok(()),
                status => Err(format!("{status}")),
            }
        }
    })
    .await;
    begin.elapsed()
}

#[tokio::test]
async fn more_clients_than_descriptors() {
    let limits = "handshake_timeout = \"60s\"\nheader_timeout = \"60s\"";
    let gateway = Setup::new().limits(limits).start().await;
    let mut early = gateway.connect(Version::Http1).await;
    let few = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    prlimit(Some(gateway.pid()), Resource::Nofile, few).expect("the limit");

    // The kernel completes connections that nobody has accepted yet.
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let sender = gateway.sender().from(n / PER_ADDRESS);
        clients.push(sender.tcp().await.expect("a connection"));
    }
    let usage = Usage::of(gateway.pid());
    eventually("all descriptors to be used", || async {
        match u64::try_from(usage.descriptors()).expect("a number") {
            DESCRIPTORS => Ok(()),
            n => Err(format!("{n} used")),
        }
    })
    .await;
    let share = processor(&gateway).await;
    assert!(share < PROCESSOR_MAX, "{share:.2} of a core while it rests");
    // Who was there goes on.
    let answer = early.send(&push("early")).await.expect("an answer");
    assert_eq!(answer.status, 202);

    drop(clients);
    let recovery = served_again(&gateway).await;
    assert!(recovery <= RECOVERY_MAX, "{recovery:?}");
    // Each time that it fails is said once, however long it lasts.
    eventually("it to say that it accepts again", || async {
        let log = gateway.log();
        let failed = log.matches("cannot accept connections").count();
        let again = log.matches("accepting connections again").count();
        if failed == again && (1..10).contains(&failed) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    balance(&gateway).await;
    Row::new("X14.descriptors")
        .saw("descriptors", DESCRIPTORS)
        .saw("clients", CLIENTS)
        .saw("of a core meanwhile", format!("{share:.2}"))
        .saw("served again after", format!("{recovery:.0?}"))
        .write();
}

/// Certificates and networks are renewed while nothing can be opened. Nothing about the files
/// changes after that.
#[tokio::test]
async fn files_that_could_not_be_read_are_read_again() {
    let ranges = "allow_ips = [{ file = \"ranges.txt\" }]";
    let gateway = Setup::new()
        .sources(&source("github", "github", ranges))
        .file("ranges.txt", b"192.0.2.0/24\n")
        .start()
        .await;
    assert_eq!(gateway.send(&push("before")).await.status, 403);
    let usual = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..usual
    };
    prlimit(Some(gateway.pid()), Resource::Nofile, none).expect("the limit");
    let at = |name: &str| gateway.directory().join(name);
    std::fs::write(at("ranges.txt"), "127.0.0.0/8\n").expect("ranges");
    let certificate = std::fs::read(at("cert.pem")).expect("certificate");
    std::fs::write(at("cert.pem"), certificate).expect("certificate");
    let errors = [
        "new certificates cannot be used",
        "the files of allow_ips cannot be used",
    ];
    let said = || errors.map(|error| gateway.log().matches(error).count());
    eventually("errors in the log", || async {
        match said() {
            [1, 1] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // They are looked at again meanwhile.
    sleep(LOOK).await;
    prlimit(Some(gateway.pid()), Resource::Nofile, usual).expect("the limit");
    eventually("the new networks to be used", || async {
        match gateway.send(&push("after")).await.status {
            202 => Ok(()),
            other => Err(format!("{other}")),
        }
    })
    .await;
    eventually("the new certificates to be used", || async {
        let metrics = gateway.metrics().await;
        match metrics.sum("hookgate_certificate_reloads_total", &[("result", "ok")]) {
            1.0 => Ok(()),
            other => Err(format!("{other} taken")),
        }
    })
    .await;
    assert_eq!(said(), [1, 1], "each is said once");
}

/// A connection that has had an answer, and idles.
async fn idle(gateway: &Gateway, n: u32) -> Box<dyn Stream> {
    let sender = gateway.sender().from(n / PER_ADDRESS);
    let mut stream = sender.stream(&[]).await.expect("a connection");
    let head = b"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head).await.expect("write");
    let answer = Answer::from_raw(&mut stream).await.expect("an answer");
    assert_eq!(answer.status, 404);
    stream
}

#[tokio::test]
async fn as_many_idle_connections_as_there_may_be() {
    let limits = "idle_timeout = \"300s\"";
    let gateway = Setup::new().plain().limits(limits).start().await;
    let usage = Usage::of(gateway.pid());
    let before = usage.resident();
    let begin = Instant::now();
    let mut connections = Vec::new();
    for n in 0..IDLE {
        connections.push(idle(&gateway, n).await);
    }
    let open = gateway.metrics().await.sum("hookgate_connections", &[]);
    assert_eq!(open, f64::from(IDLE), "after {:?}", begin.elapsed());
    let each = usage.resident().saturating_sub(before) / u64::from(IDLE);
    let share = processor(&gateway).await;
    assert!(share < PROCESSOR_MAX, "{share:.2} of a core for nothing");

    // A few more, and then one too many is closed at once, and counted.
    let mut more = JoinSet::new();
    for n in IDLE..10_010 {
        let sender = gateway.sender().from(n / PER_ADDRESS);
        more.spawn(async move { sender.tcp().await });
    }
    let more: Vec<_> = more.join_all().await;
    eventually("those beyond the limit to be refused", || async {
        let metrics = gateway.metrics().await;
        match metrics.sum("hookgate_connections_refused_total", &[("limit", "total")]) {
            10.0 => Ok(()),
            n => Err(format!("{n} refused")),
        }
    })
    .await;
    drop((connections, more));
    let recovery = served_again(&gateway).await;
    assert!(recovery <= RECOVERY_MAX, "{recovery:?}");
    balance(&gateway).await;
    Row::new("X14.idle")
        .saw("idle connections", IDLE)
        .saw("memory for each", format!("{} bytes", each))
        .saw("in all", mib(each * u64::from(IDLE)))
        .saw("of a core meanwhile", format!("{share:.2}"))
        .saw("served again after", format!("{recovery:.0?}"))
        .write();
}
