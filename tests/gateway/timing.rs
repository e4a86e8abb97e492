//! What holds only on a machine that does nothing else: figures of time and memory.
//!
//! `make test` runs these one at a time, after everything else. A figure that depends on the
//! machine is compared with a reference from the same run.

mod floods;
mod maps;
mod overload;
mod recovery;
mod sizes;
mod slow_crowd;
mod sync_delay;
