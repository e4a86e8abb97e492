//! A scripted broker that does what RabbitMQ will not do on demand: which confirm proves what, and
//! brokers that are out of their minds.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use hookgate::config::{Queue, QueueKind, Topology};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::balance::balance;
use crate::support::broker::amqp_url;
use crate::support::chance;
use crate::support::eventually::{PATIENCE, eventually};
use crate::support::fake_broker::{FakeBroker, Heard, Published, Reply, Role, Then, polite, wire};
use crate::support::figures::{Row, count, release};
use crate::support::gateway::Setup;
use crate::support::load::{self, Load};
use crate::support::publishing::{Publishing, event, settings};

// === which confirm proves what ===

/// Takes publishes in silence until there are `together` of them, then says what `script` makes of
/// them.
fn burst(together: usize, script: impl Fn(&[Published]) -> Vec<u8> + Send + 'static) -> Role {
    let mut taken = Vec::new();
    Box::new(move |heard, usual| {
        let Heard::Publish(message) = heard else {
            return usual;
        };
        taken.push(message.clone());
        if taken.len() < together {
            return Reply::default();
        }
        Reply::say(script(&std::mem::take(&mut taken)))
    })
}

/// Publishes so many messages with lapin alone; gives their confirms in the order sent.
async fn with_lapin_alone(broker: &FakeBroker, messages: usize) -> Vec<Confirmation> {
    let url = amqp_url(broker.address());
    let connecting = Connection::connect(&url, ConnectionProperties::default());
    let connection = connecting.await.expect("connection");
    let channel = connection.create_channel().await.expect("channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let mut confirms = Vec::new();
    for number in 1..=messages {
        let properties =
            BasicProperties::default().with_message_id(number.to_string().as_str().into());
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let confirm = channel
            .basic_publish("x".into(), "k".into(), options, b"{}", properties)
            .await;
        confirms.push(confirm.expect("publish"));
    }
    let mut told = Vec::new();
    for confirm in confirms {
        let confirm = timeout(Duration::from_secs(10), confirm).await;
        told.push(confirm.expect("a confirm").expect("no error"));
    }
    told
}

/// The message id of the return that came with a confirm.
fn returned(confirm: &Confirmation) -> Option<&str> {
    match confirm {
        Confirmation::Ack(returned) | Confirmation::Nack(returned) => {
            let id = returned.as_ref()?.properties.message_id().as_ref();
            Some(id.expect("an id").as_str())
        }
        Confirmation::NotRequested => None,
    }
}

/// Why `publisher/pairing.rs` goes by message ids. The first message is returned; the broker
/// acknowledges the second before it, as it may. lapin hands the return to the second, which was
/// delivered, and tells of the first, which was not, what it tells of every delivered one.
///
/// When this fails after an update, lapin pairs by the delivery tag, and the pairing can go.
#[tokio::test]
async fn lapin_hands_a_return_to_whichever_confirm_comes_next() {
    let broker = FakeBroker::start(|_| {
        burst(2, |taken| {
            let first = &taken[0];
            [
                first.returned(),
                wire::ack(first.channel, 2, false),
                wire::ack(first.channel, 1, false),
            ]
            .concat()
        })
    })
    .await;
    let confirms = with_lapin_alone(&broker, 2).await;
    assert_eq!(returned(&confirms[0]), None, "the one that was returned");
    assert!(matches!(confirms[0], Confirmation::Ack(None)));
    assert_eq!(returned(&confirms[1]), Some("1"), "the one that was taken");
}

/// The same without any odd order: one acknowledgement for all is enough, because lapin walks
/// through a hash map then.
#[tokio::test]
async fn lapin_hands_a_return_to_any_confirm_of_an_acknowledgement_for_many() {
    const ROUNDS: usize = 20;
    const TOGETHER: usize = 32;
    let broker = FakeBroker::start(|_| {
        burst(TOGETHER, |taken| {
            let first = &taken[0];
            [
                first.returned(),
                wire::ack(first.channel, TOGETHER as u64, true),
            ]
            .concat()
        })
    })
    .await;
    let mut wrong = 0;
    for _ in 0..ROUNDS {
        let confirms = with_lapin_alone(&broker, TOGETHER).await;
        let carriers = confirms
            .iter()
            .filter(|confirm| returned(confirm).is_some());
        assert_eq!(carriers.count(), 1);
        wrong += usize::from(returned(&confirms[0]).is_none());
    }
    assert!(
        wrong > ROUNDS / 2,
        "{wrong} of {ROUNDS}: is it in order now?"
    );
}

/// What the broker knows in the end.
#[derive(Debug, Default)]
struct Ledger {
    /// Ids of messages that a queue took.
    taken: HashSet<String>,
    returned: usize,
    nacked: usize,
    scripts: usize,
}

/// Answers in bursts of random length, in any order that the protocol allows: a return before the
/// acknowledgement of the same message, everything else anywhere, alone or together, and cut into
/// pieces that arrive one by one.
fn erratic(ledger: Arc<Mutex<Ledger>>, mut random: fastrand::Rng) -> Role {
    let mut pending: Vec<Published> = Vec::new();
    let mut seen = HashSet::new();
    let mut goal = 1;
    Box::new(move |heard, usual| {
        match heard {
            Heard::Publish(message) => pending.push(message.clone()),
            Heard::Idle => {}
            _ => return usual,
        }
        if pending.is_empty() || (pending.len() < goal && !matches!(heard, Heard::Idle)) {
            return Reply::default();
        }
        goal = random.usize(1..40);
        let share = *random.choice(&[0.0, 0.1, 0.5]).expect("one");
        let mut ledger = ledger.lock().expect("lock");
        ledger.scripts += 1;
        let mut coming = std::mem::take(&mut pending).into_iter().peekable();
        let mut open: Vec<(Published, bool)> = Vec::new();
        let mut pieces = vec![Vec::new()];
        while coming.peek().is_some() || !open.is_empty() {
            if random.u8(..) < 20 {
                pieces.push(Vec::new());
            }
            let piece = pieces.last_mut().expect("one");
            if let Some(message) = coming.next_if(|_| random.bool()) {
                // Each is taken at last, so that every event can be let go.
                let first_time = seen.insert(message.id.clone());
                let routable = !(first_time && random.f64() < share);
                if !routable {
                    piece.extend(message.returned());
                    ledger.returned += 1;
                }
                open.push((message, routable));
            } else if !open.is_empty() {
                let one = random.usize(..open.len());
                let (tag, channel) = (open[one].0.tag, open[one].0.channel);
                let together = random.u8(..) < 100;
                let refuses = random.u8(..) < 10;
                let answer = if refuses { wire::nack } else { wire::ack };
                piece.extend(answer(channel, tag, together));
                let answered = open.extract_if(.., |(message, _)| {
                    message.tag == tag || (together && message.tag < tag)
                });
                for (message, routable) in answered {
                    if refuses {
                        ledger.nacked += 1;
                    } else if routable {
                        ledger.taken.insert(message.id);
                    }
                }
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Reply {
            pieces,
            ..Reply::default()
        }
    })
}

/// Every event that the publisher let go was taken by a queue, whatever lapin made of the answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_script_makes_an_unroutable_event_come_out_as_delivered() {
    let scripts = usize::try_from(count(2_000, 10_000)).expect("a count");
    const EVENTS_AT_ONCE: u32 = 16_000;
    let mut random = chance::dice();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let broker = FakeBroker::start({
        let ledger = Arc::clone(&ledger);
        move |_| erratic(Arc::clone(&ledger), random.fork())
    })
    .await;
    let publishing = Publishing::start(&settings(broker.address(), "x"));
    let mut events = 0;
    while ledger.lock().expect("lock").scripts < scripts {
        let numbers = events + 1..=events + EVENTS_AT_ONCE;
        let all: Vec<_> = numbers.map(|number| event(number, "shop", "k")).collect();
        publishing.store(&all).await;
        events += EVENTS_AT_ONCE;
        publishing.until_published().await;
        let ledger = ledger.lock().expect("lock");
        let lost = all
            .iter()
            .filter(|one| !ledger.taken.contains(&one.id.to_string()));
        assert_eq!(lost.count(), 0, "let go, and no queue took them");
    }
    let metrics = publishing.metrics();
    let reconnects = metrics.sum("hookgate_broker_reconnects_total", &[]);
    assert!(reconnects < 0.5, "it had to connect again: {reconnects}");
    // What was not taken is tried again over a connection of its own.
    assert_eq!(broker.accepted(), 2);
    let published = metrics.sum("hookgate_published_total", &[]);
    publishing.stop().await;
    let ledger = ledger.lock().expect("lock");
    assert!(
        ledger.returned > 0 && ledger.nacked > 0,
        "{}",
        ledger.returned
    );
    assert!(
        (published - f64::from(events)).abs() < 0.5,
        "{published} of {events}"
    );
    Row::new("P5.scripts")
        .saw("scripts through lapin", ledger.scripts)
        .saw("events", events)
        .saw("returned", ledger.returned)
        .saw("nacked", ledger.nacked)
        .saw("lost", 0)
        .write();
}

// === brokers out of their minds ===

/// What no client says: that it is there, and that it wants AMQP.
const CONNECTED: wire::Method = (0, 1);
const GREETED: wire::Method = (0, 2);

/// Where a connection goes wrong.
const STEPS: [wire::Method; 10] = [
    CONNECTED,
    GREETED,
    wire::START_OK,
    wire::TUNE_OK,
    wire::OPEN,
    wire::CHANNEL_OPEN,
    wire::EXCHANGE_DECLARE,
    wire::QUEUE_DECLARE,
    wire::CONFIRM_SELECT,
    wire::PUBLISH,
];

fn step_of(heard: &Heard) -> Option<wire::Method> {
    match heard {
        Heard::Connected => Some(CONNECTED),
        Heard::Header => Some(GREETED),
        Heard::Method(_, method) => Some(*method),
        Heard::Publish(_) => Some(wire::PUBLISH),
        Heard::Heartbeat | Heard::Idle => None,
    }
}

/// What it does there: gets the channel, and what a polite broker would say.
type Madness = fn(u16, Vec<u8>) -> Reply;

/// An oversized announcement: four gigabytes are to come.
fn endless(channel: u16) -> Vec<u8> {
    let mut frame = vec![wire::METHOD];
    frame.extend(channel.to_be_bytes());
    frame.extend([0xFF; 4]);
    frame
}

const MADNESS: &[Madness] = &[
    // Silence, endings, halves.
    |_, _| Reply::freeze(),
    |_, _| Reply::default().then(Then::Close),
    |_, mut usual| {
        usual.truncate(usual.len() / 2);
        Reply::say(usual).then(Then::Freeze)
    },
    |_, mut usual| {
        usual.truncate(usual.len() / 2);
        Reply::say(usual).then(Then::Close)
    },
    // Every byte alone: slow, but nothing is wrong with it.
    |_, usual| Reply {
        pieces: usual.into_iter().map(|byte| vec![byte]).collect(),
        ..Reply::default()
    },
    // No AMQP, or not this one.
    |_, _| Reply::say(vec![0; 64]),
    |_, _| Reply::say(vec![0xFF; 4096]),
    |_, _| Reply::say(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).then(Then::Close),
    |_, _| Reply::say(b"AMQP\x00\x01\x00\x00".to_vec()).then(Then::Close),
    // Frames that are none.
    |_, mut usual| {
        usual.pop();
        usual.push(0);
        Reply::say(usual)
    },
    |channel, _| Reply::say(endless(channel)).then(Then::Freeze),
    |channel, _| Reply::say(wire::frame(9, channel, b"what")),
    |channel, _| Reply::say(wire::frame(wire::METHOD, channel, &[])),
    |channel, _| Reply::say(wire::frame(wire::METHOD, channel, &[0, 10])),
    |channel, _| Reply::say(wire::frame(wire::METHOD, channel, &[0xFF; 40])),
    // The right frame with its end missing.
    |channel, usual| {
        let cut = usual
            .get(7..usual.len().saturating_sub(3))
            .unwrap_or_default();
        Reply::say(wire::frame(wire::METHOD, channel, cut))
    },
    // Methods that are out of place.
    |channel, usual| {
        Reply::say(
            [
                usual.clone(),
                usual,
                wire::method(channel, wire::OPEN_OK, &[0]),
            ]
            .concat(),
        )
    },
    |channel, _| Reply::say(wire::method(channel, wire::DELIVER, &[0; 16])),
    |channel, usual| Reply::say([wire::frame(wire::BODY, channel, b"{}"), usual].concat()),
    |channel, usual| Reply::say([wire::frame(wire::HEADER, channel, &[0; 14]), usual].concat()),
    |channel, usual| Reply::say([wire::ack(channel, 0, true), usual].concat()),
    |channel, usual| Reply::say([wire::nack(channel, 77_777, false), usual].concat()),
    |_, usual| Reply::say([wire::ack(4711, 1, true), usual].concat()),
    |_, _| {
        Reply::say(wire::close(
            0,
            wire::CONNECTION_CLOSE,
            320,
            "CONNECTION_FORCED",
        ))
    },
    |_, _| Reply::say(wire::close(0, wire::CONNECTION_CLOSE, 65_535, "")).then(Then::Close),
    |channel, _| {
        Reply::say(wire::close(
            channel,
            wire::CHANNEL_CLOSE,
            541,
            "INTERNAL_ERROR",
        ))
    },
    |_, usual| {
        Reply::say(
            [
                wire::close(999, wire::CHANNEL_CLOSE, 404, "NOT_FOUND"),
                usual,
            ]
            .concat(),
        )
    },
    |_, usual| {
        let heartbeats = wire::frame(wire::HEARTBEAT, 0, &[]).repeat(5000);
        Reply::say([heartbeats, usual].concat())
    },
    |_, usual| {
        let blocked = wire::method(0, wire::BLOCKED, &wire::short("low on memory"));
        let unblocked = wire::method(0, wire::UNBLOCKED, &[]);
        Reply::say([blocked, unblocked, usual].concat())
    },
    |_, usual| {
        let blocked = wire::method(0, wire::BLOCKED, &wire::short("low on memory"));
        Reply::say([blocked, usual].concat()).then(Then::Close)
    },
];

/// What is offered where lengths and intervals are agreed upon, and how much sense that makes.
const TUNES: &[(u16, u32, u16)] = &[
    (0, 0, 0),
    (1, 4096, 1),
    (1, 1, 1),
    (2047, 8, 10),
    (65_535, u32::MAX, 65_535),
    (0, 131_072, 0),
];

/// A role that goes mad once, when it comes to a step.
fn mad(step: wire::Method, madness: Madness) -> Role {
    let mut done = false;
    Box::new(move |heard, usual| {
        if done || step_of(heard) != Some(step) {
            return usual;
        }
        done = true;
        let channel = match heard {
            Heard::Method(channel, _) => *channel,
            Heard::Publish(message) => message.channel,
            _ => 0,
        };
        madness(channel, usual.pieces.concat())
    })
}

/// A role that offers odd lengths.
fn mistuned((channel_max, frame_max, heartbeat): (u16, u32, u16)) -> Role {
    Box::new(move |heard, usual| match heard {
        Heard::Method(_, wire::START_OK) => {
            Reply::say(wire::tune(channel_max, frame_max, heartbeat))
        }
        _ => usual,
    })
}

/// A role that says what it should, but for some bytes, pieces and inventions.
fn noisy(mut random: fastrand::Rng) -> Role {
    Box::new(move |_, usual| {
        let mut bytes = usual.pieces.concat();
        match random.u8(..) {
            0..3 => bytes.extend((0..random.usize(..300)).map(|_| random.u8(..))),
            3..6 if !bytes.is_empty() => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
            6..8 if !bytes.is_empty() => {
                bytes.remove(random.usize(..bytes.len()));
            }
            8 => {
                let payload: Vec<_> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
                bytes.extend(wire::frame(random.u8(..10), random.u16(..3), &payload));
            }
            9 => return Reply::say(bytes).then(Then::Close),
            _ => {}
        }
        Reply::say(bytes)
    })
}

/// Panics of lapin's threads, which nobody joins, since the first call.
fn panics_of_lapin() -> usize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            if thread.name().is_some_and(|name| name.starts_with("lapin")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
    PANICS.load(Ordering::SeqCst)
}

/// What a publisher may take to get over one mad connection.
const HANG_MAX: Duration = Duration::from_secs(15);
/// Mad brokers at the same time.
const TOGETHER: usize = 40;

/// One publisher against a broker whose connections are mad at first and polite then; gives how
/// long its events took.
async fn survive(name: String, mut madmen: Vec<Role>) -> (Duration, String) {
    const EVENTS: u32 = 20;
    madmen.reverse();
    let broker = FakeBroker::start(move |_| madmen.pop().unwrap_or_else(polite)).await;
    let mut settings = settings(broker.address(), "x");
    settings.topology = Topology::Declare;
    settings.confirm_timeout = Duration::from_secs(2);
    settings.queues = vec![Queue {
        name: "q".to_owned(),
        bind: vec!["#".to_owned()],
        kind: QueueKind::Classic,
    }];
    let publishing = Publishing::start(&settings);
    let events: Vec<_> = (1..=EVENTS)
        .map(|number| event(number, "shop", "k"))
        .collect();
    publishing.store(&events).await;
    let begin = Instant::now();
    // A little before the patience of all tests ends, so that the name is told.
    let patience = PATIENCE - Duration::from_secs(2);
    let published = timeout(patience, publishing.until_published()).await;
    assert!(published.is_ok(), "it hangs after {name}");
    let took = begin.elapsed();
    publishing.stop().await;
    (took, name)
}

/// Lets many publishers survive, some at a time; gives the longest time, and after what that was.
async fn survive_all(all: Vec<(String, Vec<Role>)>) -> (Duration, String) {
    let panics = panics_of_lapin();
    let mut worst = (Duration::ZERO, String::new());
    let mut tasks = JoinSet::new();
    let mut all = all.into_iter();
    loop {
        while tasks.len() < TOGETHER
            && let Some((name, madmen)) = all.next()
        {
            tasks.spawn(survive(name, madmen));
        }
        let Some(ended) = tasks.join_next().await else {
            break;
        };
        worst = worst.max(ended.expect("it survives"));
    }
    assert_eq!(panics_of_lapin(), panics, "lapin panicked");
    worst
}

/// How long one may take; on a machine that does much else, twice as long.
fn hang_max() -> Duration {
    if release() { HANG_MAX } else { 2 * HANG_MAX }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mad_broker_neither_crashes_nor_hangs_the_publisher() {
    let mut roles: Vec<(String, Role)> = Vec::new();
    for step in STEPS {
        for (number, madness) in MADNESS.iter().enumerate() {
            let name = format!("madness {number} at {step:?}");
            roles.push((name, mad(step, *madness)));
        }
    }
    let tunes = TUNES
        .iter()
        .map(|tune| (format!("{tune:?}"), mistuned(*tune)));
    roles.extend(tunes);
    let scripts = roles.len();
    let all = roles.into_iter().map(|(name, role)| (name, vec![role]));
    let (worst, name) = survive_all(all.collect()).await;
    assert!(scripts >= 200, "{scripts}");
    assert!(worst <= hang_max(), "{worst:?} after {name}");
    Row::new("P7.scripts")
        .saw("brokers", scripts)
        .saw("panics", 0)
        .saw(
            "longest until published",
            format!("{:.1} s, after {name}", worst.as_secs_f64()),
        )
        .write();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_neither_crashes_nor_hangs_the_publisher() {
    const CONNECTIONS: usize = 2;
    let brokers = usize::try_from(count(60, 1000)).expect("a count");
    let mut random = chance::dice();
    let all = (0..brokers).map(|number| {
        let madmen = (0..CONNECTIONS).map(|_| noisy(random.fork()));
        (format!("noise {number}"), madmen.collect())
    });
    let (worst, name) = survive_all(all.collect()).await;
    let each = u32::try_from(CONNECTIONS).expect("a count");
    assert!(worst <= hang_max() * each, "{worst:?} after {name}");
    Row::new("P7.noise")
        .saw("brokers", brokers)
        .saw("noisy connections each", CONNECTIONS)
        .saw("panics", 0)
        .saw(
            "longest until published",
            format!("{:.1} s", worst.as_secs_f64()),
        )
        .write();
}

/// The program itself: senders never notice, nothing panics, and a good broker is enough to have
/// everything published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_do_not_notice_a_mad_broker() {
    let mut random = chance::dice();
    let mut mad: Vec<Role> = vec![
        noisy(random.fork()),
        mad(wire::PUBLISH, MADNESS[0]),
        mad(wire::START_OK, MADNESS[5]),
        mad(wire::PUBLISH, MADNESS[21]),
        mad(wire::CONFIRM_SELECT, MADNESS[10]),
        noisy(random.fork()),
    ];
    let madmen = mad.len();
    let broker = FakeBroker::start(move |_| mad.pop().unwrap_or_else(polite)).await;
    let gateway = Setup::new()
        .broker_at(broker.address())
        .broker_lines("confirm_timeout = \"2s\"")
        .sources(&load::sources())
        .start()
        .await;
    let load = Load::start(&gateway.sender(), 0);
    eventually("all mad ones to be over", || async {
        match broker.accepted() {
            accepted if accepted > madmen => Ok(()),
            accepted => Err(format!("{accepted} of {madmen}")),
        }
    })
    .await;
    load.more(50).await;
    let ledger = load.stop().await;
    ledger.assert_none_refused();
    assert_eq!(ledger.unanswered, 0);
    eventually("everything to be published", || async {
        match gateway.metrics().await.sum("hookgate_journal_waiting", &[]) {
            0.0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    balance(&gateway).await;
    assert!(!gateway.log().contains("panicked"), "it panicked");
    Row::new("P7.gateway")
        .saw("mad connections", madmen)
        .saw("answered 2xx meanwhile", ledger.len())
        .saw("refused", 0)
        .write();
}
