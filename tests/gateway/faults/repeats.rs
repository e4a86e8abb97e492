//! Duplicates are recognised across restarts and at the same moment.
