//! The command line: what can be asked, and the exit code of each answer.
//!
//! stdout is data, stderr is talk. Every command that prints a table also prints it as JSON.

pub mod check;
mod demo;
mod enroll;
mod explain;
mod init;
mod journal;
mod output;
mod providers;
mod replay;
mod run;
mod send;
mod status;
mod tail;
mod version;

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderValue, header};

use crate::client::{Client, Trust};
use crate::clock::Now;
use crate::config::{Admin, Config, Excerpt, Invalid, Loaded, Storage};
use crate::enrolled;
use crate::publisher;
use crate::source::Source;
use crate::telemetry;

/// What is still being read when a command has ended has so long. With what a drain takes after its
/// `drain_timeout`, it is below the five seconds that the systemd unit allows.
const LAST_READS: Duration = Duration::from_millis(500);

/// How a command ended; the codes are a contract with scripts and service managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// A negative result, or a failure while running.
    Failure,
    /// The arguments make no sense together.
    Usage,
    /// The broker or the admin listener cannot be reached.
    Unavailable,
    /// An address cannot be bound, or the journal cannot be opened.
    CannotCreate,
    /// The configuration is wrong.
    BadConfig,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::CannotCreate => 73,
            Self::BadConfig => 78,
        }
    }
}

/// Why a command did not do what it was asked, in words for the person who asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read has seen enough: `hookgate providers | head`.
            return Self::new(Exit::Success, "");
        }
        Self::new(Exit::Failure, format!("writing the output: {error}"))
    }
}

/// What a command that did what it was asked has to say by its exit code.
type Done = Result<Exit, Failure>;

/// hookgate: an inbound webhook gateway.
///
/// Takes webhooks over TLS, verifies who sent them, validates them, stores them so that they
/// cannot be lost, and publishes them to RabbitMQ.
#[derive(Debug, Parser)]
#[command(
    name = "hookgate",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The configuration file, where none is named.
const CONFIG: &str = "gateway.toml";

/// Which configuration.
#[derive(Clone, Debug, Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = CONFIG,
        env = "HOOKGATE_CONFIG"
    )]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Also connect to the broker, and look whether its exchanges and queues are as they should be
    #[arg(long)]
    broker: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until SIGTERM or SIGINT
    Run(ConfigArg),
    /// Says whether a configuration will run, and if not, everything that is wrong with it
    Check(CheckArgs),
    /// Sends a webhook as the provider would, signed with the source's own secret
    Send(Box<send::SendArgs>),
    /// Shows events as they are accepted or turned away
    Tail(tail::TailArgs),
    /// Shows what a running gateway knows of itself: sources, use of secrets, journal, broker
    Status(status::StatusArgs),
    /// Says whether saved requests would be accepted and, if not, exactly why
    Explain(explain::ExplainArgs),
    /// Looks into the journal; changes nothing, and may be used while the gateway runs
    Journal(journal::JournalArgs),
    /// Publishes events again, under the same message ids: published ones, or those set aside
    Replay(replay::ReplayArgs),
    /// Lets the secret come that a provider sends in its handshake (Asana, Notion), and returns at
    /// once; `enroll --list` shows whether it came
    Enroll(enroll::EnrollArgs),
    /// Lists the built-in providers, or shows what to do at one of them
    Providers(providers::ProvidersArgs),
    /// Writes a configuration to start from
    Init(init::InitArgs),
    /// Starts a gateway on loopback, sends good and bad webhooks, shows what became of them
    Demo,
    /// Shows the version and how it was built
    Version(version::VersionArgs),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout();
    let done = match cli.command {
        Command::Run(args) => run::run(&args.config),
        Command::Check(args) => check(&args, &mut out),
        Command::Send(args) => send::run(&args, &mut out),
        Command::Tail(args) => tail::run(&args, &mut out),
        Command::Status(args) => status::run(&args, &mut out),
        Command::Explain(args) => explain::run(&args, &mut out),
        Command::Journal(args) => journal::run(&args, &mut out),
        Command::Replay(args) => replay::run(&args, &mut out),
        Command::Enroll(args) => enroll::run(&args, &mut out),
        Command::Providers(args) => providers::run(&args, &mut out),
        Command::Init(args) => init::run(&args, &mut out),
        Command::Demo => demo::run(&mut out),
        Command::Version(args) => version::run(&args, &mut out),
    };
    let exit = done.unwrap_or_else(|failure| {
        if failure.exit != Exit::Success {
            talk(&format!("hookgate: {}", failure.message));
        }
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn check(args: &CheckArgs, out: &mut dyn Write) -> Done {
    let coloured = io::stdout().is_terminal() && telemetry::wants_colour();
    let style = check::Style {
        json: args.json,
        coloured,
    };
    let path = &args.config.config;
    if !check::check(path, style, out)? {
        return Ok(Exit::BadConfig);
    }
    if !args.broker {
        return Ok(Exit::Success);
    }
    let Some(broker) = load(path)?.broker else {
        let message = format!("{} has no [broker] to check", path.display());
        return Err(Failure::new(Exit::Usage, message));
    };
    let findings = block_on(async {
        publisher::check(&broker)
            .await
            .map_err(|error| Failure::new(Exit::Unavailable, error))
    })?;
    let blocks = findings.iter().any(|finding| finding.blocks);
    if args.json {
        writeln!(out, "{:#}", serde_json::json!({ "broker": findings }))?;
    } else if findings.is_empty() {
        writeln!(out, "the broker is as configured")?;
    } else {
        for finding in &findings {
            let word = if finding.blocks { "error" } else { "note" };
            writeln!(out, "{word}: {}", finding.text)?;
        }
    }
    Ok(if blocks { Exit::Failure } else { Exit::Success })
}

/// Says something to the person at the terminal, whatever becomes of stdout. That stderr is
/// closed is no reason to fail.
fn talk(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Loads a configuration. What an operator should know about one that works, `check` and `run`
/// say, and not every command again.
fn load(path: &Path) -> Result<Config, Failure> {
    Ok(load_all(path)?.config)
}

fn load_all(path: &Path) -> Result<Loaded, Failure> {
    Config::load(path).map_err(|invalid| bad_config(path, &invalid))
}

/// The same for a command that looks at one source, and asks for no other source's secrets.
fn load_for(path: &Path, source: &str) -> Result<Excerpt, Failure> {
    let excerpt = Config::load_for(path, source).map_err(|invalid| bad_config(path, &invalid))?;
    if excerpt.paths.iter().any(|(name, _)| name == source) {
        return Ok(excerpt);
    }
    let names = excerpt.paths.iter().map(|(name, _)| name.as_str());
    Err(no_such_source(source, names))
}

/// Where the events are, for commands that need nothing else of a configuration.
fn load_storage(path: &Path) -> Result<Storage, Failure> {
    Storage::load(path).map_err(|invalid| bad_config(path, &invalid))
}

fn bad_config(path: &Path, invalid: &Invalid) -> Failure {
    for problem in &invalid.problems {
        talk(&problem.render(stderr_is_coloured()));
    }
    let errors = invalid
        .problems
        .iter()
        .filter(|problem| problem.is_error())
        .count();
    let plural = if errors == 1 { "" } else { "s" };
    let message = format!("{} is not good: {errors} error{plural}", path.display());
    Failure::new(Exit::BadConfig, message)
}

fn stderr_is_coloured() -> bool {
    io::stderr().is_terminal() && telemetry::wants_colour()
}

/// The source of this name.
fn find_source<'a>(config: &'a Config, name: &str) -> Result<&'a Source, Failure> {
    config
        .sources
        .iter()
        .find(|source| *source.name == *name)
        .map(|source| &**source)
        .ok_or_else(|| no_such_source(name, config.sources.iter().map(|source| &*source.name)))
}

fn no_such_source<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Failure {
    let all: Vec<&str> = all.collect();
    let message = format!("there is no source {name:?}; there are: {}", all.join(", "));
    Failure::new(Exit::Usage, message)
}

/// A connection to the admin listener of the gateway that runs, and what every request there says
/// of who asks.
async fn connect_admin(admin: &Admin) -> Result<(Client, HeaderMap), Failure> {
    let headers = admin_headers(admin)?;
    let url = format!("http://{}", admin.listen)
        .parse()
        .map_err(|error: InvalidUri| unavailable(admin, &error))?;
    let client = Client::connect(&url, Trust::System)
        .await
        .map_err(|error| unavailable(admin, &error))?;
    Ok((client, headers))
}

/// The gateway that should run does not answer, or not as one does.
fn unavailable(admin: &Admin, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "{error}; is the gateway running with this configuration? its admin listener is {}",
        admin.listen
    );
    Failure::new(Exit::Unavailable, message)
}

fn admin_headers(admin: &Admin) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(token) = &admin.token {
        let bearer = [b"Bearer ", token.expose()].concat();
        let mut value = HeaderValue::from_bytes(&bearer).map_err(|_odd| {
            let message = "admin.token has bytes that no header can hold";
            Failure::new(Exit::Unavailable, message)
        })?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

/// What is enrolled counts for commands as it does for the gateway.
fn recall_enrolled(config: &Config) {
    let folder = enrolled::Folder::of(&config.journal.path);
    for why in enrolled::recall(&folder, &config.sources, Now::read()) {
        talk(&format!("hookgate: {why}"));
    }
}

/// A runtime for a command that talks to somebody. Everything that must be finished is waited for in
/// `work`: what reads a disk that hangs, or asks for an address, holds nobody up after that.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(work);
            runtime.shutdown_timeout(LAST_READS);
            done
        }
        Err(error) => Err(Failure::new(
            Exit::Failure,
            format!("starting threads: {error}"),
        )),
    }
}
