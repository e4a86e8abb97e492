//! The demo's own folder: configuration, secrets, schemas, journal. Gone when the demo ends.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The exchange and the queue of a demo that has a broker.
pub(super) const EXCHANGE: &str = "hookgate.demo";

/// The demo's folder.
#[derive(Debug)]
pub(super) struct Setting {
    folder: PathBuf,
    config_path: PathBuf,
    amqp_url: Option<String>,
}

const SOURCES: &[&str] = &["github", "stripe", "shopify", "slack", "orders", "limited"];

const SCHEMAS: &[(&str, &str)] = &[
    (
        "github/push.json",
        include_str!("../../../schemas/github/push.json"),
    ),
    (
        "github/pull_request.json",
        include_str!("../../../schemas/github/pull_request.json"),
    ),
    (
        "stripe/default.json",
        include_str!("../../../schemas/stripe/default.json"),
    ),
    (
        "shopify/orders.create.json",
        include_str!("../../../schemas/shopify/orders.create.json"),
    ),
    (
        "slack/default.json",
        include_str!("../../../schemas/slack/default.json"),
    ),
    ("order.json", include_str!("../../../schemas/order.json")),
];

const CONFIG: &str = r#"
[server]
listen = ["127.0.0.1:0"]

[server.tls]
self_signed = true

[admin]
listen = "127.0.0.1:0"

[journal]
path = "journal"
max_size = "64MiB"

[sources.github]
provider = "github"
secrets = [{ file = "github.secret" }]
schema = "schemas/github"

[sources.stripe]
provider = "stripe"
secrets = [{ file = "stripe.secret" }]
schema = "schemas/stripe"

[sources.shopify]
provider = "shopify"
secrets = [{ file = "shopify.secret" }]
schema = "schemas/shopify"

[sources.slack]
provider = "slack"
secrets = [{ file = "slack.secret" }]
schema = "schemas/slack"

[sources.orders]
secrets = [{ file = "orders.secret" }]
schema = "schemas/order.json"
event_id = "json:/event_id"
event_type = "json:/event"
max_body = "64KiB"

[sources.orders.verify]
algorithm = "hmac-sha256"
signature = "header:X-Signature"
signed = "{timestamp}.{body}"
timestamp = "header:X-Timestamp"
tolerance = "5m"

[sources.limited]
secrets = [{ file = "limited.secret" }]
event_id = "json:/event_id"
event_type = "json:/event"
rate_limit = { rate = "2/m", burst = 2 }

[sources.limited.verify]
algorithm = "hmac-sha256"
signature = "header:X-Signature"
signed = "{body}"
"#;

const BROKER: &str = r#"
[broker]
urls = [{ env = "AMQP_URL" }]
exchange = "hookgate.demo"

[[broker.queues]]
name = "hookgate.demo"
bind = ["github.#", "stripe.#", "shopify.#", "slack.#", "orders.#", "limited.#"]
type = "classic"
"#;

impl Setting {
    pub(super) fn prepare() -> io::Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("hookgate-demo-{}", Uuid::now_v7().simple()));
        fs::create_dir(&folder)?;
        let amqp_url = std::env::var("AMQP_URL").ok().filter(|url| !url.is_empty());
        let config_path = folder.join("gateway.toml");
        let setting = Self {
            folder,
            config_path,
            amqp_url,
        };
        setting.fill()?;
        Ok(setting)
    }

    pub(super) fn config_path(&self) -> &Path {
        &self.config_path
    }

    pub(super) fn amqp_url(&self) -> Option<&str> {
        self.amqp_url.as_deref()
    }

    fn fill(&self) -> io::Result<()> {
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))?;
        for source in SOURCES {
            let path = self.folder.join(format!("{source}.secret"));
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(Uuid::new_v4().simple().to_string().as_bytes())?;
        }
        for (name, schema) in SCHEMAS {
            let path = self.folder.join("schemas").join(name);
            fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            fs::write(path, schema)?;
        }
        let broker = if self.amqp_url.is_some() { BROKER } else { "" };
        fs::write(&self.config_path, format!("{CONFIG}{broker}"))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            super::talk(&format!(
                "{} is left behind: {error}",
                self.folder.display()
            ));
        }
    }
}
