//! Tokens that say nothing by themselves: the authorization server is asked about each (RFC 7662).
//!
//! An answer counts for a while, and for a shorter while when it is no. About one token one
//! question is asked at a time. What is kept goes by the token's hash, never by the token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::HeaderValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::token::TOKEN_BYTES_MAX;
use crate::pipeline::decode::json;
use crate::pipeline::evidence::{
    Action, Asker, Document, Errand, Fetching, Hindrance, Target, Unfetched,
};

/// How long a yes counts when the configuration does not say. A token that is withdrawn counts so
/// much longer.
pub(super) const CACHE_DEFAULT: Duration = Duration::from_mins(1);

/// How long a no counts.
const REFUSED_KEPT: Duration = Duration::from_secs(10);

/// How long it counts that there was no answer.
const FAILURE_KEPT: Duration = Duration::from_secs(2);

/// How long a question may be under way: longer than any fetch. One that has been for longer has an
/// answer that nobody has looked at.
const UNDER_WAY_MAX: Duration = Duration::from_mins(1);

/// Most tokens whose answers are kept.
const TOKENS_MAX: usize = 4_096;

/// Whom to ask, and what was answered.
pub(super) struct Introspection {
    target: Target,
    authorization: HeaderValue,
    cache: Duration,
    asked: Mutex<HashMap<[u8; 32], Asked>>,
}

/// A question, and its answer once that is there.
struct Asked {
    at: Instant,
    answer: Answer,
}

type Answer = Shared<BoxFuture<'static, Result<TokenWord, Unfetched>>>;

/// What the authorization server says of a token. `None`: it does not count.
#[derive(Clone, Debug)]
pub struct TokenWord(pub(super) Option<Arc<Map<String, Value>>>);

impl Introspection {
    /// `client_id` and `secret` are who we are there (RFC 6749, section 2.3.1).
    pub(super) fn new(
        target: Target,
        client_id: &str,
        secret: &[u8],
        cache: Duration,
    ) -> Option<Self> {
        let encoded = |text: &[u8]| form_urlencoded::byte_serialize(text).collect::<String>();
        let pair = format!("{}:{}", encoded(client_id.as_bytes()), encoded(secret));
        let value = format!("Basic {}", STANDARD.encode(pair));
        let mut authorization = HeaderValue::try_from(value).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            target,
            authorization,
            cache,
            asked: Mutex::default(),
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Whether a text can be a token (RFC 6750, section 2.1): anything else is not asked about.
    pub(super) fn is_token(text: &[u8]) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.iter().all(is_plain)
    }

    /// What the server says of a token now, or said a while ago.
    ///
    /// # Errors
    ///
    /// It says nothing.
    pub(super) async fn ask(
        &self,
        token: &[u8],
        source: &Arc<str>,
        fetching: &dyn Fetching,
        now: Instant,
    ) -> Result<TokenWord, Hindrance> {
        let answer = self.question(token, source, fetching, now).await;
        answer.map_err(|why| Hindrance::Unfetched {
            url: self.target.to_string(),
            why,
        })
    }

    fn question(
        &self,
        token: &[u8],
        source: &Arc<str>,
        fetching: &dyn Fetching,
        now: Instant,
    ) -> Answer {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let last = asked.get(&hash);
        if let Some(last) = last.filter(|it| self.counts(it, now)) {
            return last.answer.clone();
        }
        // Anybody can make a token up, but not one that counted a while ago.
        let asker = match last {
            Some(last) if last.is_yes() => Asker::Known,
            Some(_) | None => Asker::Stranger,
        };
        let answer = fetching
            .fetch(self.errand(token, source).asked_by(asker))
            .map(|answer| answer.and_then(|document| word(&document)))
            .boxed()
            .shared();
        let at_once = answer.clone().now_or_never();
        if matches!(at_once, Some(Err(Unfetched::TooMany))) {
            // It was not asked, so there is nothing to keep.
            return answer;
        }
        if asked.len() >= TOKENS_MAX && !asked.contains_key(&hash) {
            // What is forgotten is asked about again; those that never counted first.
            let first = asked.iter().min_by_key(|(_, it)| (it.is_yes(), it.at));
            let first = first.map(|(hash, _)| *hash);
            first.and_then(|hash| asked.remove(&hash));
        }
        let question = Asked {
            at: now,
            answer: answer.clone(),
        };
        asked.insert(hash, question);
        answer
    }

    /// Whether it need not be asked again.
    fn counts(&self, asked: &Asked, now: Instant) -> bool {
        // Who asked may have gone before the answer came.
        let kept = match asked.answer.clone().now_or_never() {
            None => UNDER_WAY_MAX,
            Some(Ok(TokenWord(Some(_)))) => self.cache,
            Some(Ok(TokenWord(None))) => REFUSED_KEPT.min(self.cache),
            Some(Err(_)) => FAILURE_KEPT,
        };
        now.saturating_duration_since(asked.at) < kept
    }

    fn errand(&self, token: &[u8], source: &Arc<str>) -> Errand {
        let token = String::from_utf8_lossy(token);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &token);
        form.append_pair("token_type_hint", "access_token");
        let form = Bytes::from(form.finish());
        let action = Action::Post {
            form,
            authorization: Some(self.authorization.clone()),
        };
        Errand::get(source, self.target.clone()).by(action)
    }
}

impl Asked {
    /// Whether the server has said that the token counts.
    fn is_yes(&self) -> bool {
        matches!(self.answer.peek(), Some(Ok(TokenWord(Some(_)))))
    }
}

/// Reads an answer (RFC 7662, section 2.2).
pub(super) fn word(document: &Document) -> Result<TokenWord, Unfetched> {
    let broken = |what: &str| Err(Unfetched::Broken(what.to_owned()));
    match json::strict(&document.body) {
        Some(Value::Object(claims)) => match claims.get("active") {
            Some(Value::Bool(true)) => Ok(TokenWord(Some(Arc::new(claims)))),
            Some(Value::Bool(false)) => Ok(TokenWord(None)),
            _ => broken("it does not say whether the token is `active`"),
        },
        _ => broken("it is not a JSON object"),
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("target", &self.target)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
