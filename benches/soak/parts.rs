//! What the soak is made of. A test with a short run of it uses the same parts.

pub(crate) mod run;

pub(crate) mod traffic;
pub(crate) mod bodies;
pub(crate) mod faults;
pub(crate) mod strace;
pub(crate) mod queue;
pub(crate) mod probe;

pub(crate) mod ledger;
pub(crate) mod statistics;
pub(crate) mod verdict;
pub(crate) mod report;
pub(crate) mod plot;
