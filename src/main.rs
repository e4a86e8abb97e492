//! Arguments in, exit code out; everything else is the library's.

use std::process::ExitCode;

/// A body becomes a tree of small allocations on one thread, and what is stored is freed on
/// another: the system's allocator takes noticeably longer over both (`benches/PROFILE.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookgate::cli::main()
}
