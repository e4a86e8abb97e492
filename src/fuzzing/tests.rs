use super::*;

fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap()
}

/// What crashed a target once.
fn crashes(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = repository("fuzz/crashes").join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Every seed and every crash, once.
#[expect(clippy::print_stderr, reason = "names the crash that is back")]
fn replay(name: &str) {
    let target = target(name);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    (target.run)(b"");
    for seed in &seeds {
        (target.run)(seed);
    }
    for (path, bytes) in crashes(&target) {
        eprintln!("{}", path.display());
        (target.run)(&bytes);
    }
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn delivery() {
    replay("delivery");
}

#[test]
fn document() {
    replay("document");
}

#[test]
fn journal() {
    replay("journal");
}

#[test]
fn log() {
    replay("log");
}

#[test]
fn message() {
    replay("message");
}

#[test]
fn proxy() {
    replay("proxy");
}

#[test]
fn request() {
    replay("request");
}

#[test]
fn verify() {
    replay("verify");
}

#[test]
fn words() {
    replay("words");
}

#[test]
fn every_provider_can_be_configured() {
    assert_eq!(verify::sources().len(), crate::providers::names().len());
}

#[test]
fn every_folder_of_crashes_belongs_to_a_target() {
    for entry in std::fs::read_dir(repository("fuzz/crashes")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            !path.is_dir() || TARGETS.iter().any(|target| target.name == name),
            "{}: there is no such target",
            path.display()
        );
    }
}
