//! Senders as they are in the field: several providers, both versions of HTTP, events that are sent
//! again when the answer was 503 or did not come, copies, forgeries, bodies that are too large, and
//! clients that are slow or never finish.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::bodies::body;
use super::ledger::{ID_PREFIX, Ledger};
use crate::support::gateway::{erp, source};
use crate::support::sender::{Answer, Client, Sender, Version};
use crate::support::webhook::{Webhook, unix_now};

/// Between two requests of one sender.
const PACE: Duration = Duration::from_millis(100);
/// Before an event is sent again, times the number of tries so far.
const AGAIN: Duration = Duration::from_millis(250);
/// How often an event is sent in all; then its sender gives up, as providers do.
const TRIES: u32 = 6;
/// Between two requests of a slow client, and between two pieces of a body.
const SLOW_PAUSE: Duration = Duration::from_millis(400);
/// Pieces of a body that comes slowly, and in time.
const PIECES: usize = 5;
/// What the sources take, in bytes as configured, and what is too large for them.
const BODY_MAX: &str = "128KiB";
const TOO_LARGE: usize = 200 * 1024;

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Github,
    Stripe,
    Shopify,
    /// A house system; its answer waits for the broker.
    Erp,
}

const KINDS: [Kind; 4] = [Kind::Github, Kind::Stripe, Kind::Shopify, Kind::Erp];
const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// Their configuration. Ids are remembered for a minute, so that memory is level after that.
pub(crate) fn sources() -> String {
    let more = format!("dedupe = \"1m\"\nmax_body = \"{BODY_MAX}\"");
    let presets = ["github", "stripe", "shopify"].map(|name| source(name, name, &more));
    presets.concat() + &erp(&format!("{more}\nack = \"broker\""))
}

/// Starts everybody who sends to one gateway; they end when told.
pub(crate) fn start(
    to: &Sender,
    ledger: &Arc<Ledger>,
    stopped: &watch::Receiver<bool>,
    dice: &mut Rng,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (kind, version) in KINDS.into_iter().flat_map(|k| VERSIONS.map(|v| (k, v))) {
        let provider = Provider {
            kind,
            version,
            to: to.clone(),
            ledger: Arc::clone(ledger),
            dice: dice.fork(),
            client: None,
            last: None,
        };
        tasks.spawn(provider.send_until(stopped.clone()));
    }
    tasks.spawn(be_slow_until(
        stopped.clone(),
        to.clone(),
        Arc::clone(ledger),
        dice.fork(),
    ));
    tasks
}

/// One sender with one connection, one request after the other.
struct Provider {
    kind: Kind,
    version: Version,
    to: Sender,
    ledger: Arc<Ledger>,
    dice: Rng,
    client: Option<Client>,
    /// The latest event that was acknowledged.
    last: Option<Webhook>,
}

/// How a request ended.
enum End {
    Answered(Answer, Duration),
    Unanswered,
}

impl Provider {
    async fn send_until(mut self, stopped: watch::Receiver<bool>) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stopped.borrow() {
            pace.tick().await;
            match self.dice.u32(..100) {
                0..3 => self.forged().await,
                3..5 => self.too_large().await,
                5..9 => self.copy().await,
                // Connections do not live for ever.
                9 => self.client = None,
                _ => self.genuine().await,
            }
        }
    }

    /// A new event, sent until it is acknowledged.
    async fn genuine(&mut self) {
        let number = self.ledger.number();
        let id = format!("{ID_PREFIX}{number}");
        let body = body(&id, number, &mut self.dice);
        self.ledger.sends(number, &body, self.kind != Kind::Erp);
        for tried in 1..=TRIES {
            // Signed anew each time, as providers do: some signatures hold the time.
            let webhook = sign(self.kind, &id, &body);
            self.ledger.count(|counts| counts.requests += 1);
            match self.exchange(&webhook).await {
                End::Answered(answer, took) if is_good(&answer) => {
                    self.ledger.acknowledged(number, took);
                    self.last = Some(webhook);
                    return;
                }
                End::Answered(answer, _) if answer.status == 503 => {
                    self.ledger.count(|counts| counts.asked_again += 1);
                }
                End::Answered(answer, _) => {
                    let said = String::from_utf8_lossy(&answer.body).into_owned();
                    let what = format!("{id} was answered {}: {said}", answer.status);
                    self.ledger.misjudged(what);
                    return;
                }
                End::Unanswered => self.ledger.count(|counts| counts.unanswered += 1),
            }
            sleep(AGAIN * tried).await;
        }
        self.ledger.count(|counts| counts.given_up += 1);
    }

    /// The latest event once more.
    async fn copy(&mut self) {
        let Some(webhook) = self.last.take() else {
            return;
        };
        if let End::Answered(answer, _) = self.exchange(&webhook).await
            && is_good(&answer)
        {
            let recognised = answer.header("hookgate-duplicate") == Some("true");
            self.ledger.count(|counts| {
                counts.copies += 1;
                counts.copies_recognised += u64::from(recognised);
            });
        }
    }

    /// One more byte than was signed.
    async fn forged(&mut self) {
        let id = format!("forged-{}", self.ledger.number());
        let mut webhook = sign(self.kind, &id, &body(&id, 0, &mut self.dice));
        webhook.body.push(b' ');
        self.bad(&webhook, "forged").await;
    }

    async fn too_large(&mut self) {
        let webhook = sign(self.kind, "too-large", &[b' '; TOO_LARGE]);
        self.bad(&webhook, "too large").await;
    }

    async fn bad(&mut self, webhook: &Webhook, what: &str) {
        match self.exchange(webhook).await {
            End::Answered(answer, _) if is_good(&answer) => {
                let what = format!("{what} {:?} was answered {}", self.kind, answer.status);
                self.ledger.misjudged(what);
            }
            _ => self.ledger.count(|counts| counts.turned_away += 1),
        }
    }

    async fn exchange(&mut self, webhook: &Webhook) -> End {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = self.to.connect(self.version).await.ok();
        }
        let Some(client) = &mut self.client else {
            return End::Unanswered;
        };
        let start = Instant::now();
        match client.send(webhook).await {
            Ok(answer) => End::Answered(answer, start.elapsed()),
            Err(_) => {
                self.client = None;
                End::Unanswered
            }
        }
    }
}

fn is_good(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

fn sign(kind: Kind, id: &str, body: &[u8]) -> Webhook {
    match kind {
        Kind::Github => Webhook::github("/github", "push", id, body),
        Kind::Stripe => Webhook::stripe("/stripe", unix_now(), body),
        Kind::Shopify => Webhook::shopify("/shopify", "orders/paid", id, body),
        Kind::Erp => Webhook::erp("/erp", unix_now(), id, body),
    }
}

/// A client whose bodies come in pieces; every other one never ends.
async fn be_slow_until(
    stopped: watch::Receiver<bool>,
    to: Sender,
    ledger: Arc<Ledger>,
    mut dice: Rng,
) {
    while !*stopped.borrow() {
        let number = ledger.number();
        let id = format!("{ID_PREFIX}{number}");
        let body = body(&id, number, &mut dice);
        let webhook = sign(Kind::Github, &id, &body);
        let whole = dice.bool();
        ledger.sends(number, &body, true);
        let answer = send_slowly(&to, &webhook, whole).await;
        match answer.filter(is_good) {
            Some(answer) if !whole => {
                let what = format!("half a body was answered {}", answer.status);
                ledger.misjudged(what);
            }
            // Slow is how it was sent: the time says nothing of the gateway.
            Some(_) => ledger.acknowledged_slowly(number),
            None => ledger.count(|counts| counts.turned_away += u64::from(!whole)),
        }
        sleep(SLOW_PAUSE).await;
    }
}

async fn send_slowly(to: &Sender, webhook: &Webhook, whole: bool) -> Option<Answer> {
    let mut stream = to.stream(&[b"http/1.1"]).await.ok()?;
    stream.write_all(&webhook.http1_head()).await.ok()?;
    let piece = webhook.body.len().div_ceil(PIECES);
    let pieces = webhook.body.chunks(piece);
    let sent = if whole { PIECES } else { PIECES - 1 };
    for piece in pieces.take(sent) {
        stream.write_all(piece).await.ok()?;
        stream.flush().await.ok()?;
        sleep(SLOW_PAUSE).await;
    }
    Answer::from_raw(&mut stream).await
}
