//! The built-in providers: data, not code.
//!
//! Each is one file, `src/providers/NAME.toml`, in exactly the grammar that a user has for a source
//! of their own, with `[about]` for people. Adding a provider is adding a file, its name to the
//! table below, and its vectors to `tests/vectors/`.

use crate::config::{did_you_mean, parse_provider};

/// Embeds every file of the table, in the order of their names.
macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("providers/", $name, ".toml")))),*]
    };
}

/// Files, as they are called: `standard_webhooks` is the provider `standard-webhooks`.
const FILES: &[(&str, &str)] = embed![
    "adyen_header",
    "adyen_item",
    "airtable",
    "alchemy",
    "asana",
    "attio",
    "autotask",
    "bigcommerce",
    "bitbucket",
    "box",
    "braintree",
    "cal_com",
    "calendly",
    "chargebee",
    "checkout_com",
    "checkr",
    "circleci",
    "clerk",
    "cloudevents_http_webhook",
    "cloudflare_notifications",
    "cloudflare_stream",
    "coinbase_cdp",
    "coinbase_commerce",
    "connectwise",
    "cursor",
    "customerio",
    "deepgram",
    "discord",
    "discord_interactions",
    "docusign",
    "dropbox",
    "eventgrid",
    "eventgrid_cloudevents",
    "eventgrid_entra",
    "eventgrid_entra_cloudevents",
    "fastly_logging",
    "fathom",
    "fusionauth",
    "fusionauth_hmac",
    "gitea",
    "gitea_form",
    "github",
    "github_sha1",
    "gitlab_signing",
    "gitlab_token",
    "gocardless",
    "heroku",
    "highlevel",
    "hubspot_v1",
    "hubspot_v2",
    "hubspot_v3",
    "intercom",
    "jira",
    "jira_connect",
    "jobber",
    "lemonsqueezy",
    "line",
    "linear",
    "mailchimp",
    "mailgun",
    "mailgun_routes",
    "mandrill",
    "meta",
    "mollie_classic",
    "mollie_next",
    "monday",
    "msgraph",
    "msgraph_rich",
    "notion",
    "oidc",
    "okta",
    "openai",
    "paddle",
    "pagerduty",
    "paypal",
    "paypal_cert_url",
    "plaid",
    "postmark",
    "pubsub",
    "quickbooks",
    "razorpay",
    "replicate",
    "resend",
    "segment",
    "sendgrid",
    "sentry",
    "shopify",
    "shopify_events",
    "slack",
    "sns",
    "square",
    "standard_webhooks",
    "standard_webhooks_v1a",
    "stripe",
    "svix",
    "telegram",
    "telnyx",
    "trello",
    "twilio_form",
    "twilio_json",
    "twitch",
    "typeform",
    "vercel",
    "webflow",
    "websub",
    "wechat_plain",
    "wise",
    "woocommerce",
    "x",
    "xero",
    "zendesk",
    "zoom",
];

/// Every provider, sorted, as one writes it in `provider = "standard-webhooks"`.
pub fn names() -> Vec<String> {
    FILES
        .iter()
        .map(|(file, _)| file.replace('_', "-"))
        .collect()
}

/// The preset of a provider: keys as in `[sources.NAME]`, and `[about]`. The name may be written
/// with `-` or `_`.
pub fn text(name: &str) -> Option<&'static str> {
    let file = name.replace('-', "_");
    let position = FILES
        .binary_search_by_key(&file.as_str(), |(file, _)| file)
        .ok()?;
    FILES.get(position).map(|(_, text)| *text)
}

/// Who may be meant by a name that no provider has, ending in a blank; or nothing.
pub(crate) fn hint(name: &str) -> String {
    let wanted = name.trim().replace('_', "-").to_lowercase();
    if wanted.is_empty() {
        return String::new();
    }
    let names = names();
    if names.contains(&wanted) {
        return format!("it is written `{wanted}`; ");
    }
    let in_title = |name: &str| {
        let raw = text(name).and_then(|text| parse_provider(text).ok());
        let title = raw.and_then(|raw| raw.about).map(|about| about.title);
        let title = title.unwrap_or_default().to_lowercase();
        let mut words = title.split(|c: char| !c.is_alphanumeric());
        words.any(|word| word.starts_with(&wanted))
    };
    let like = |is_like: &dyn Fn(&str) -> bool| -> Vec<String> {
        let like = names.iter().filter(|name| is_like(name));
        like.map(|name| format!("`{name}`")).collect()
    };
    let mut found = like(&|name| name.contains(&wanted));
    if found.is_empty() {
        found = like(&in_title);
    }
    if found.is_empty() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        did_you_mean(&wanted, &names)
    } else {
        format!("there is {}; ", found.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod reader;
#[cfg(test)]
mod tests;
