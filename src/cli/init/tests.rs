use jiff::Timestamp;

use super::*;
use crate::cli::providers::STAND_INS;
use crate::config::Config;
use crate::config::surroundings::Surroundings;
use crate::providers;

fn init(directory: &Path, names: &[String]) -> Result<String, Failure> {
    let args = InitArgs {
        provider: names.to_vec(),
        dir: directory.to_owned(),
    };
    let mut out = Vec::new();
    run(&args, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// Loads what was written, with the broker's URL and `secret` in every other variable.
fn loads(directory: &Path, secret: &'static str) -> Result<Config, String> {
    let variable = move |name: &str| {
        let value = if name == AMQP_URL {
            "amqp://127.0.0.1"
        } else {
            secret
        };
        Some(value.into())
    };
    let surroundings = Surroundings::new(variable, None, Timestamp::UNIX_EPOCH);
    match Config::load_in(&directory.join(FILE), &surroundings) {
        Ok(loaded) => Ok(loaded.config),
        Err(invalid) => Err(invalid.to_string()),
    }
}

#[test]
fn what_it_writes_for_any_provider_is_a_good_configuration() {
    for name in providers::names() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new");
        let said = init(&directory, std::slice::from_ref(&name))
            .unwrap_or_else(|failure| panic!("{name}: {}", failure.message));
        let provider = Provider::find(&name).unwrap_or_else(|_| panic!("{name}"));
        if let Some(variable) = provider.variable() {
            assert!(said.contains(&format!("export {variable}=")), "{said}");
        }
        let enroll = format!("hookgate enroll {} ", provider.name);
        assert_eq!(said.contains(&enroll), provider.is_enrolled(), "{said}");
        let tries: Vec<_> = STAND_INS
            .iter()
            .map(|secret| loads(&directory, secret))
            .collect();
        let config = tries.iter().find_map(|tried| tried.as_ref().ok());
        let config = config.unwrap_or_else(|| panic!("{name}: {tries:?}"));
        assert_eq!(config.sources.len(), 1, "{name}");
        assert_eq!(config.sources[0].provider.as_deref(), Some(name.as_str()));
        assert!(config.broker.is_some());
    }
}

#[test]
fn several_providers_are_written_once_each() {
    let folder = tempfile::tempdir().unwrap();
    // "a, b" is split at the comma.
    let names = ["stripe", " github", "stripe", "standard_webhooks "].map(str::to_owned);
    let said = init(folder.path(), &names).unwrap_or_else(|failure| panic!("{}", failure.message));
    assert!(said.contains("hookgate send github"), "{said}");
    let config = loads(folder.path(), STAND_INS[0]).unwrap();
    let found: Vec<&str> = config.sources.iter().map(|source| &*source.name).collect();
    assert_eq!(found, ["github", "standard-webhooks", "stripe"]);
}

fn steps(names: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let said = init(folder.path(), &names).unwrap_or_else(|failure| panic!("{}", failure.message));
    let (_, steps) = said.split_once("\n\n").unwrap();
    let path = folder.path().join(FILE);
    steps.trim_end().replace(&*path.to_string_lossy(), FILE)
}

#[test]
fn the_next_steps_are_those_that_can_be_taken() {
    assert_eq!(
        steps(&["github"]),
        "1. say where the broker is, and give the secrets:\n   \
         export AMQP_URL=amqp://guest:guest@127.0.0.1:5672\n   \
         export GITHUB_SECRET=...   # hookgate providers github says which\n\
         2. hookgate check -c gateway.toml\n\
         3. hookgate run -c gateway.toml\n\
         4. in another terminal, send a webhook as the provider would:\n   \
         hookgate send github -c gateway.toml\n\
         5. at each provider, enter the URL and choose events:\n   \
         hookgate providers github"
    );
    // Its secret comes when the webhook is made there, and somebody has to wait for it.
    let enrolled = steps(&["asana"]);
    assert!(
        enrolled.ends_with(
            "\n4. wait for the secret, which comes in a handshake:\n   \
             hookgate enroll asana --for 10m -c gateway.toml\n\
             5. at each provider, enter the URL and choose events:\n   \
             hookgate providers asana"
        ),
        "{enrolled}"
    );
    // Fetched keys, and a public one: nobody here can sign.
    for name in ["sns", "discord"] {
        let said = steps(&[name]);
        assert!(!said.contains("hookgate send"), "{said}");
    }
    let changed = steps(&["sns", "github"]);
    assert!(
        changed.starts_with("1. replace every CHANGE-ME in gateway.toml; say where the broker is"),
        "{changed}"
    );
    assert!(changed.contains("hookgate send github"), "{changed}");
    let each = "events:\n   hookgate providers github\n   hookgate providers sns";
    assert!(changed.ends_with(each), "{changed}");
}

#[test]
fn a_comma_too_many_is_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let failure = init(folder.path(), &[String::new()]).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains("say who sends"), "{failure:?}");
    init(folder.path(), &["github".to_owned(), String::new()]).unwrap();
}

#[test]
fn what_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "mine").unwrap();
    let failure = init(folder.path(), &["github".to_owned()]).unwrap_err();
    assert_eq!(failure.exit, Exit::CannotCreate);
    assert!(failure.message.contains("is there already"));
    let left = fs::read_to_string(folder.path().join(FILE)).unwrap();
    assert_eq!(left, "mine");
}

#[test]
fn a_provider_that_is_none_is_guessed_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let failure = init(folder.path(), &["github".to_owned(), "strpe".to_owned()]).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(
        failure.message.contains("did you mean `stripe`?"),
        "{}",
        failure.message
    );
    assert!(!folder.path().join(FILE).try_exists().unwrap());
}
