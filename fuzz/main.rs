//! libFuzzer around `hookgate::fuzzing`: one program for all targets, chosen by `FUZZ_TARGET`.
//!
//! `FUZZ_TARGET=list` prints their names. `FUZZ_SEEDS` names a folder that the target's seeds are
//! written to before it begins. `make fuzz` sets both.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use hookgate::fuzzing::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: begin(),
    |data: &[u8]| if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
);

/// Chooses the target. It ends the process, because libFuzzer takes no error from here.
fn begin() {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == wanted) else {
        for target in TARGETS {
            println!("{}", target.name);
        }
        std::process::exit(i32::from(wanted != "list"));
    };
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        let folder = Path::new(&folder);
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed's file");
        }
    }
    TARGET.get_or_init(|| target);
}
