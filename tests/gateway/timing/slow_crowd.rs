//! Thousands of slow clients beside a good one.
