//! Whether the gateway should be sent traffic, and why not. Pure.

use crate::journal::Status;
use crate::publisher::Health as BrokerHealth;

/// One thing that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) state: State,
    pub(crate) text: String,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Well.
    Green,
    /// Somebody should look, but senders are served.
    Yellow,
    /// Senders are not served.
    Red,
}

/// Everything that is looked at. One red check, and the gateway is not ready.
pub(crate) fn checks(
    journal: &Status,
    broker: Option<&BrokerHealth>,
    needs_broker: bool,
    draining: bool,
) -> Vec<Check> {
    let mut checks = vec![of_journal(journal)];
    checks.extend(broker.map(|broker| of_broker(broker, needs_broker)));
    if draining {
        checks.push(Check::new(State::Red, "draining"));
    }
    checks
}

/// Kubernetes' way to print them: `[+]journal ok`.
pub(crate) fn verbose(checks: &[Check]) -> String {
    let mut page = String::new();
    for check in checks {
        let sign = match check.state {
            State::Green => '+',
            State::Yellow => '!',
            State::Red => '-',
        };
        page.push_str(&format!("[{sign}]{}\n", check.text));
    }
    page
}

pub(crate) fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Red)
}

impl Check {
    fn new(state: State, text: impl Into<String>) -> Self {
        Self {
            state,
            text: text.into(),
        }
    }
}

fn of_journal(journal: &Status) -> Check {
    if let Some(error) = &journal.failed {
        return Check::new(State::Red, format!("journal failed: {error}"));
    }
    if journal.full {
        return Check::new(State::Red, "journal full");
    }
    Check::new(State::Green, "journal ok")
}

/// A broker that is down stops nobody whose events wait in the journal meanwhile.
fn of_broker(broker: &BrokerHealth, needs_broker: bool) -> Check {
    let mut text = if !broker.connected {
        let error = broker.last_error.as_ref();
        let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
        format!("broker not connected{why}")
    } else if broker.blocked {
        "broker blocked (it is short of memory or disk)".to_owned()
    } else {
        return Check::new(State::Green, "broker ok");
    };
    if needs_broker {
        return Check::new(State::Red, text);
    }
    text.push_str(": events wait in the journal");
    Check::new(State::Yellow, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::Position;

    fn journal(failed: Option<&str>, full: bool) -> Status {
        Status {
            first: Position(0),
            cursor: Position(0),
            end: Position(0),
            waiting: 0,
            bytes: 0,
            segments: 1,
            failed: failed.map(Arc::from),
            full,
        }
    }

    fn broker(connected: bool, blocked: bool) -> BrokerHealth {
        BrokerHealth {
            connected,
            blocked,
            last_error: None,
            node: "rabbit".to_owned(),
        }
    }

    #[track_caller]
    fn check(
        journal: &Status,
        broker: Option<&BrokerHealth>,
        needs_broker: bool,
        draining: bool,
        expected: &str,
    ) {
        let checks = checks(journal, broker, needs_broker, draining);
        assert_eq!(verbose(&checks), expected);
        assert_eq!(is_ready(&checks), !expected.contains("[-]"));
    }

    #[test]
    fn what_makes_it_red() {
        let (well, full) = (journal(None, false), journal(None, true));
        let failed = journal(Some("disk on fire"), true);
        let (up, down) = (broker(true, false), broker(false, false));
        let blocked = broker(true, true);
        let yellow = ": events wait in the journal\n";

        check(&well, None, false, false, "[+]journal ok\n");
        check(&full, None, false, false, "[-]journal full\n");
        check(
            &failed,
            None,
            false,
            false,
            "[-]journal failed: disk on fire\n",
        );
        check(
            &well,
            Some(&up),
            true,
            false,
            "[+]journal ok\n[+]broker ok\n",
        );
        let said = format!("[+]journal ok\n[!]broker not connected{yellow}");
        check(&well, Some(&down), false, false, &said);
        let said =
            format!("[+]journal ok\n[!]broker blocked (it is short of memory or disk){yellow}");
        check(&well, Some(&blocked), false, false, &said);
        let said = "[+]journal ok\n[-]broker not connected\n";
        check(&well, Some(&down), true, false, said);
        check(&well, None, false, true, "[+]journal ok\n[-]draining\n");
        let refused = BrokerHealth {
            last_error: Some("refused".to_owned()),
            ..down
        };
        let said = format!("[+]journal ok\n[!]broker not connected (refused){yellow}");
        check(&well, Some(&refused), false, false, &said);
    }
}
