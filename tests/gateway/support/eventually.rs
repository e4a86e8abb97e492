//! Waiting for a condition, with one patience for all tests.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for what must happen. Generous: it is spent only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Repeats `probe` until it gives a value. `what` names the condition for whoever reads the
/// failure, together with the last reason that the probe gave.
pub(crate) async fn eventually<T, P, F>(what: &str, probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Result<T, String>>,
{
    within(PATIENCE, what, probe).await
}

/// The same with another patience.
pub(crate) async fn within<T, P, F>(patience: Duration, what: &str, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= deadline => {
                panic!("waited {patience:?} for {what}: {reason}")
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
