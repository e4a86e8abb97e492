//! Against a server of our own, on loopback, over TLS by an authority of our own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::authorities::Authorities;
use crate::fetch::table::{
    CALLS_MAX, DOCUMENTS_MAX, FAILURE_KEPT, QUESTIONS, STRANGERS, STRANGERS_CALLS_MAX,
};
use crate::pipeline::evidence::{Asker, Holds, Hosts, Target};

/// A server that gives every request the same bytes, and the client that trusts it.
struct Setting {
    address: SocketAddr,
    authority: CertificateDer<'static>,
    calls: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

const NAME: &str = "keys.example.com";

impl Drop for Setting {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Whether a server answers, or never says a word.
#[derive(Clone)]
enum Says {
    Bytes(Vec<u8>),
    Nothing,
    /// This to the first who asks, and then the other.
    First(Vec<u8>, Box<Self>),
}

fn ok(body: &str) -> Says {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    Says::Bytes([head.as_bytes(), body.as_bytes()].concat())
}

async fn setting(names: &[&str], says: Says) -> Setting {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let server = tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let says = match says.clone() {
                Says::First(bytes, _) if is_first => Says::Bytes(bytes),
                Says::First(_, then) => *then,
                always => always,
            };
            let acceptor = acceptor.clone();
            open.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = vec![0; 4_096];
                let Ok(1..) = stream.read(&mut head).await else {
                    return;
                };
                match says {
                    Says::Nothing | Says::First(..) => std::future::pending().await,
                    Says::Bytes(bytes) => {
                        drop(stream.write_all(&bytes).await);
                        drop(stream.shutdown().await);
                    }
                }
            });
        }
    });
    Setting {
        address,
        authority: authority.der().clone(),
        calls,
        server,
    }
}

impl Setting {
    fn config(&self) -> config::Fetch {
        config::Fetch {
            timeout: Duration::from_secs(5),
            allow_private: vec!["127.0.0.0/8".parse().unwrap()],
            resolve: BTreeMap::from([(NAME.to_owned(), self.address)]),
            authorities: Authorities::with(vec![self.authority.clone()]),
        }
    }

    fn fetcher(&self) -> Fetcher {
        fetcher(&self.config())
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn fetcher(config: &config::Fetch) -> Fetcher {
    Fetcher::new(config, Metrics::new([&Arc::from("shop")]))
}

/// A URL that a request names.
fn named(path: &str) -> Errand {
    let hosts = Hosts::parse(&[NAME.to_owned()]).unwrap();
    let target = hosts.target(&format!("https://{NAME}{path}")).unwrap();
    Errand::get(&Arc::from("shop"), target)
}

fn configured(url: &str) -> Errand {
    Errand::get(&Arc::from("shop"), Target::configured(url).unwrap())
}

#[tokio::test]
async fn a_document_is_fetched_once_and_kept() {
    let setting = setting(&[NAME], ok("a key")).await;
    let fetcher = setting.fetcher();
    let all = futures_util::future::join_all((0..20).map(|_| fetcher.fetch(named("/a"))));
    for document in all.await {
        assert_eq!(document.unwrap().body, "a key");
    }
    assert_eq!(setting.calls(), 1, "one call for all who ask at once");
    fetcher.fetch(named("/a")).await.unwrap();
    assert_eq!(setting.calls(), 1, "and none for who asks later");
    fetcher.fetch(named("/a").by(Action::GetNow)).await.unwrap();
    assert_eq!(setting.calls(), 2, "but for who wants it now");
    let post = Action::Post {
        form: Bytes::from_static(b"token=a"),
        authorization: None,
    };
    fetcher.fetch(named("/a").by(post)).await.unwrap();
    assert_eq!(setting.calls(), 3);
    let page = fetcher.shared.metrics.render();
    let counted = "hookgate_fetches_total{source=\"shop\",outcome=\"ok\"} 3";
    assert!(page.contains(counted), "{page}");
}

#[tokio::test]
async fn a_failure_is_remembered_and_forgotten() {
    let setting = setting(
        &[NAME],
        Says::Bytes(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()),
    )
    .await;
    let fetcher = setting.fetcher();
    for _ in 0..3 {
        let why = fetcher.fetch(named("/a")).await.unwrap_err();
        assert_eq!(why, Unfetched::Status(404));
    }
    assert_eq!(setting.calls(), 1);
    assert_eq!(fetcher.shared.table().sizes(), (0, 1, 0));
    tokio::time::pause();
    tokio::time::advance(FAILURE_KEPT).await;
    tokio::time::resume();
    fetcher.fetch(named("/a")).await.unwrap_err();
    assert_eq!(setting.calls(), 2);
}

#[tokio::test]
async fn what_cannot_be_had_again_is_given_stale() {
    let mut setting = setting(&[NAME], ok("a key")).await;
    let fetcher = setting.fetcher();
    fetcher.fetch(named("/a")).await.unwrap();
    setting.server.abort();
    drop((&mut setting.server).await);
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(2)).await;
    tokio::time::resume();
    assert_eq!(fetcher.fetch(named("/a")).await.unwrap().body, "a key");
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(7 * 24)).await;
    tokio::time::resume();
    let why = fetcher.fetch(named("/a")).await.unwrap_err();
    assert_eq!(why.label(), "unreachable");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = trap.local_addr().unwrap();
    for location in [format!("http://{to}/"), format!("https://{NAME}/b")] {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\n\r\n");
        let setting = setting(&[NAME], Says::Bytes(answer.into_bytes())).await;
        let why = setting.fetcher().fetch(named("/a")).await.unwrap_err();
        assert_eq!(why, Unfetched::Status(302));
        assert_eq!(setting.calls(), 1);
    }
    let waited = timeout(Duration::from_millis(20), trap.accept());
    assert!(waited.await.is_err());
}

#[tokio::test]
async fn only_its_own_certificate_is_trusted() {
    let setting = setting(&["other.example.com"], ok("a key")).await;
    let why = setting.fetcher().fetch(named("/a")).await.unwrap_err();
    assert_eq!(why.label(), "untrusted", "{why}");
    let strangers = self::setting(&[NAME], ok("a key")).await;
    let config = config::Fetch {
        authorities: Authorities::with(vec![setting.authority.clone()]),
        ..strangers.config()
    };
    let why = fetcher(&config).fetch(named("/a")).await.unwrap_err();
    assert_eq!(why.label(), "untrusted", "{why}");
}

#[tokio::test]
async fn what_is_too_long_or_not_whole_is_nothing() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n".to_vec();
    let unannounced = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'a'; 70_000]].concat();
    let head = [b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'a'; 20_000]].concat();
    let packed = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\na".to_vec();
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\na".to_vec();
    for (answer, label) in [
        (announced, "too_large"),
        (unannounced, "too_large"),
        (head, "broken"),
        (packed, "broken"),
        (cut, "broken"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "broken"),
        (Vec::new(), "broken"),
    ] {
        let setting = setting(&[NAME], Says::Bytes(answer)).await;
        let why = setting.fetcher().fetch(named("/a")).await.unwrap_err();
        assert_eq!(why.label(), label, "{why}");
    }
}

#[tokio::test]
async fn what_is_too_slow_is_nothing() {
    let setting = setting(&[NAME], Says::Nothing).await;
    let config = config::Fetch {
        timeout: Duration::from_millis(200),
        ..setting.config()
    };
    let why = fetcher(&config).fetch(named("/a")).await.unwrap_err();
    assert_eq!(why, Unfetched::TooSlow);
}

/// Whoever waited may have gone: the call goes on, and the next one finds what it brought.
#[tokio::test]
async fn a_call_goes_on_without_who_asked() {
    let setting = setting(&[NAME], ok("a key")).await;
    let fetcher = setting.fetcher();
    let asked = timeout(Duration::ZERO, fetcher.fetch(named("/a")));
    assert!(asked.await.is_err());
    assert_eq!(fetcher.fetch(named("/a")).await.unwrap().body, "a key");
    assert_eq!(setting.calls(), 1);
}

#[tokio::test]
async fn only_listed_addresses_are_called() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    for address in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "169.254.169.254:80".to_owned(),
        "10.0.0.1:443".to_owned(),
        "192.168.0.1:443".to_owned(),
        "100.64.0.1:443".to_owned(),
        "[fd00:ec2::254]:443".to_owned(),
        "[fe80::1]:443".to_owned(),
        format!("0.0.0.0:{port}"),
    ] {
        let config = config::Fetch {
            timeout: Duration::from_secs(5),
            allow_private: Vec::new(),
            resolve: BTreeMap::from([(NAME.to_owned(), address.parse().unwrap())]),
            authorities: Authorities::with(Vec::new()),
        };
        let why = fetcher(&config).fetch(named("/a")).await.unwrap_err();
        assert_eq!(why.label(), "address_not_allowed", "{address}: {why}");
    }
    // The same for what a resolver says.
    let config = config::Fetch {
        timeout: Duration::from_secs(5),
        allow_private: Vec::new(),
        resolve: BTreeMap::new(),
        authorities: Authorities::with(Vec::new()),
    };
    let errand = configured(&format!("https://localhost:{port}/"));
    let why = fetcher(&config).fetch(errand).await.unwrap_err();
    assert_eq!(why.label(), "address_not_allowed", "{why}");
    let errand = configured("https://nobody.invalid/");
    let why = fetcher(&config).fetch(errand).await.unwrap_err();
    assert_eq!(why.label(), "unresolved", "{why}");
    let waited = timeout(Duration::from_millis(20), trap.accept());
    assert!(waited.await.is_err());
}

#[tokio::test]
async fn strangers_make_it_call_so_often_and_no_more() {
    let setting = setting(&[NAME], Says::Bytes(b"HTTP/1.1 403 No\r\n\r\n".to_vec())).await;
    let fetcher = setting.fetcher();
    let burst = usize::try_from(STRANGERS.burst.get()).unwrap();
    let mut refused = 0;
    for n in 0..burst * 2 {
        let why = fetcher.fetch(named(&format!("/{n}"))).await.unwrap_err();
        refused += usize::from(why == Unfetched::TooMany);
    }
    assert!(refused >= burst - 5, "{refused}");
    assert_eq!(setting.calls(), burst * 2 - refused);
    // What the configuration names is not theirs to use up, nor what another source needs.
    let why = fetcher
        .fetch(configured(&format!("https://{NAME}/keys")))
        .await;
    assert_eq!(why.unwrap_err(), Unfetched::Status(403));
    let other = Errand {
        source: Arc::from("other"),
        ..named("/other")
    };
    assert_eq!(
        fetcher.fetch(other).await.unwrap_err(),
        Unfetched::Status(403)
    );
}

#[tokio::test]
async fn one_source_makes_so_many_calls_at_once() {
    let setting = setting(&[NAME], Says::Nothing).await;
    let config = config::Fetch {
        timeout: Duration::from_millis(500),
        ..setting.config()
    };
    let fetcher = fetcher(&config);
    let asked = (0..CALLS_MAX + 2).map(|n| {
        let errand = configured(&format!("https://{NAME}/{n}"));
        fetcher.fetch(errand)
    });
    let answers = futures_util::future::join_all(asked).await;
    let too_many = |answer: &&Answer| matches!(answer, Err(Unfetched::TooMany));
    assert_eq!(answers.iter().filter(too_many).count(), 2);
    // And when they have ended, again.
    let errand = configured(&format!("https://{NAME}/again"));
    assert_eq!(fetcher.fetch(errand).await.unwrap_err(), Unfetched::TooSlow);
}

/// Lets so much time pass at once.
async fn pass(length: Duration) {
    tokio::time::pause();
    tokio::time::advance(length).await;
    tokio::time::resume();
}

fn bytes(says: Says) -> Vec<u8> {
    match says {
        Says::Bytes(bytes) => bytes,
        Says::Nothing | Says::First(..) => panic!("no bytes"),
    }
}

#[tokio::test]
async fn what_is_stale_is_given_before_a_silent_host_is_given_up() {
    let says = Says::First(bytes(ok("a key")), Box::new(Says::Nothing));
    let setting = setting(&[NAME], says).await;
    let config = config::Fetch {
        timeout: Duration::from_secs(60),
        ..setting.config()
    };
    let fetcher = fetcher(&config);
    fetcher.fetch(named("/a")).await.unwrap();
    pass(Duration::from_hours(2)).await;
    let asked = timeout(PATIENCE * 5, fetcher.fetch(named("/a"))).await;
    assert_eq!(asked.unwrap().unwrap().body, "a key");
    assert_eq!(setting.calls(), 2);
}

#[tokio::test]
async fn what_is_of_no_use_replaces_nothing() {
    let key = r#"{"key":"k"}"#;
    let says = Says::First(bytes(ok(key)), Box::new(ok("<html>")));
    let setting = setting(&[NAME], says).await;
    let fetcher = setting.fetcher();
    let ask = |path| fetcher.fetch(named(path).holding(Holds::Json("/key".to_owned())));
    assert_eq!(ask("/a").await.unwrap().body, key);
    pass(Duration::from_hours(2)).await;
    assert_eq!(ask("/a").await.unwrap().body, key);
    assert_eq!(setting.calls(), 2);
    let why = ask("/b").await.unwrap_err();
    assert_eq!(why, Unfetched::Broken("there is no key at /key".to_owned()));
}

#[tokio::test]
async fn what_nobody_waits_for_is_called_later_and_until_it_goes_well() {
    let down = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    let setting = setting(&[NAME], Says::First(down, Box::new(ok("")))).await;
    let fetcher = setting.fetcher();
    let errand = || named("/validate").by(Action::GetNow).asked_by(Asker::Known);
    let until = async |outcome: &str| {
        let counted = format!("outcome=\"{outcome}\"}} 1");
        let waiting = async {
            while !fetcher.shared.metrics.render().contains(&counted) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), waiting).await.unwrap();
    };
    // Asked for twice, called once.
    fetcher.fetch_later(errand());
    fetcher.fetch_later(errand());
    tokio::task::yield_now().await;
    assert_eq!(setting.calls(), 0, "the answer comes first");
    pass(LATER[0]).await;
    until("status").await;
    pass(LATER[1]).await;
    until("ok").await;
    pass(LATER[2]).await;
    assert_eq!(setting.calls(), 2);
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        locked(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// How often a URL was left to a person.
    fn given_up(&self, url: &str) -> usize {
        let text = String::from_utf8(locked(&self.0).clone()).unwrap();
        let lines = text
            .lines()
            .filter(|line| line.contains("for a person to open"));
        lines.filter(|line| line.contains(url)).count()
    }
}

/// The answer was given: nobody asks again.
#[tokio::test]
async fn what_is_owed_at_the_end_is_left_to_a_person() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = crate::telemetry::subscriber(
        crate::telemetry::Format::Json,
        tracing_subscriber::EnvFilter::new("info"),
        move || writer.clone(),
    );
    let _guard = tracing::subscriber::set_default(subscriber);
    let errand = |path| named(path).by(Action::GetNow).asked_by(Asker::Known);

    let setting = setting(&[NAME], ok("")).await;
    let fetcher = setting.fetcher();
    fetcher.fetch_later(errand("/begun"));
    tokio::task::yield_now().await;
    fetcher.fetch_later(errand("/not-begun"));
    drop(fetcher);
    tokio::task::yield_now().await;
    assert_eq!(log.given_up("/begun"), 1);
    assert_eq!(log.given_up("/not-begun"), 1);
    assert_eq!(setting.calls(), 0);

    let fetcher = setting.fetcher();
    fetcher.fetch_later(errand("/paid"));
    tokio::task::yield_now().await;
    pass(LATER[0]).await;
    let until_paid = async {
        while !fetcher
            .shared
            .metrics
            .render()
            .contains("outcome=\"ok\"} 1")
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), until_paid).await.unwrap();
    drop(fetcher);
    tokio::task::yield_now().await;
    assert_eq!(log.given_up("/paid"), 0);
}

#[tokio::test]
async fn an_expired_certificate_replaces_no_good_one() {
    let certificate = |until: i32| {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    };
    let good = certificate(2999);
    let says = Says::First(bytes(ok(&good)), Box::new(ok(&certificate(2001))));
    let setting = setting(&[NAME], says).await;
    let fetcher = setting.fetcher();
    let ask = |path| fetcher.fetch(named(path).holding(Holds::Certificate));
    assert_eq!(ask("/a").await.unwrap().body, good);
    pass(Duration::from_hours(2)).await;
    assert_eq!(ask("/a").await.unwrap().body, good);
    assert_eq!(setting.calls(), 2);
    let why = ask("/b").await.unwrap_err();
    assert!(why.to_string().contains("is valid from"), "{why}");
}

fn question(asker: Asker) -> Errand {
    let post = Action::Post {
        form: Bytes::from_static(b"token=a"),
        authorization: None,
    };
    configured(&format!("https://{NAME}/a"))
        .by(post)
        .asked_by(asker)
}

/// A call for it has ended well.
fn land(table: &mut Table, errand: &Errand, body: &'static str, now: Instant) {
    let document = Document {
        body: Bytes::from_static(body.as_bytes()),
        max_age: None,
    };
    table.land(errand, Ok(document), now).unwrap();
}

fn is_admitted(table: &mut Table, errand: &Errand, now: Instant) -> bool {
    match table.admit(errand, now) {
        None => true,
        Some(Next::Known(Err(Unfetched::TooMany))) => false,
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn strangers_questions_are_limited_and_those_of_known_senders_are_not() {
    let (mut table, now) = (Table::default(), Instant::now());
    let (strange, known) = (question(Asker::Stranger), question(Asker::Known));
    for _ in 0..QUESTIONS.burst.get() {
        assert!(is_admitted(&mut table, &strange, now));
        land(&mut table, &strange, "no", now);
    }
    assert!(!is_admitted(&mut table, &strange, now));
    assert!(is_admitted(&mut table, &known, now));
    let later = now + QUESTIONS.period;
    assert!(is_admitted(&mut table, &strange, later));
}

#[test]
fn strangers_do_not_take_all_of_a_sources_calls() {
    let (mut table, now) = (Table::default(), Instant::now());
    let mut taken = |asker, calls| {
        let errand = question(asker);
        for _ in 0..calls {
            assert!(is_admitted(&mut table, &errand, now), "{asker:?}");
        }
        assert!(!is_admitted(&mut table, &errand, now), "{asker:?}");
    };
    taken(Asker::Stranger, STRANGERS_CALLS_MAX);
    taken(Asker::Known, CALLS_MAX - STRANGERS_CALLS_MAX);
}

#[test]
fn who_has_proved_something_does_not_pay_with_strangers() {
    let (mut table, now) = (Table::default(), Instant::now());
    let confirmation = named("/confirm").by(Action::GetNow);
    while is_admitted(&mut table, &named("/x"), now) {
        land(&mut table, &named("/x"), "x", now);
    }
    assert!(!is_admitted(&mut table, &confirmation, now));
    let proved = confirmation.asked_by(Asker::Known);
    assert!(is_admitted(&mut table, &proved, now));
}

#[test]
fn what_strangers_name_pushes_nothing_out_that_is_configured() {
    let (mut table, now) = (Table::default(), Instant::now());
    let own = configured(&format!("https://{NAME}/keys"));
    land(&mut table, &own, "keys", now);
    for n in 0..DOCUMENTS_MAX * 2 {
        let theirs = named(&format!("/{n}"));
        let moment = now + Duration::from_millis(1);
        land(&mut table, &theirs, "x", moment);
    }
    assert_eq!(table.sizes().0, DOCUMENTS_MAX);
    assert!(table.stale(&own.target, now).is_some());
}

#[test]
fn an_answer_to_a_question_is_no_document() {
    let (mut table, now) = (Table::default(), Instant::now());
    let (_tell, wait) = watch::channel(None);
    let keys = configured(&format!("https://{NAME}/a"));
    land(&mut table, &keys, "keys", now);
    let forced = keys.clone().by(Action::GetNow);
    assert!(table.ask(&forced, &wait, now).is_none());
    let post = question(Asker::Known);
    assert!(is_admitted(&mut table, &post, now));
    land(&mut table, &post, "{}", now);
    assert_eq!(table.sizes().2, 1, "the other call is still on its way");
    assert_eq!(table.stale(&keys.target, now).unwrap().body, "keys");
}

#[tokio::test]
async fn a_defect_ends_one_call_and_nothing_else() {
    let why = landed(async { panic!("a defect") }).await.unwrap_err();
    assert_eq!(why.label(), "broken");
}
