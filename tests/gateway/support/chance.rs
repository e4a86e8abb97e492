//! Random moments that can be had again.

/// Holds the seed of an earlier run, to repeat it.
const VARIABLE: &str = "HOOKGATE_TEST_SEED";

/// A generator whose seed is shown with the test's failure.
pub(crate) fn dice() -> fastrand::Rng {
    let given = std::env::var(VARIABLE)
        .ok()
        .map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    // Captured by the test runner.
    #[expect(clippy::print_stderr, reason = "a failing test shows how to repeat it")]
    {
        eprintln!("{VARIABLE}={seed}");
    }
    fastrand::Rng::with_seed(seed)
}
