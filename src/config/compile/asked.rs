//! `config`: values that templates ask for, and those that nothing asks for.

use crate::config::compile::Compiler;
use crate::config::reader::{did_you_mean, enumerate};
use crate::config::value::{Wrong, quote};
use crate::providers;

impl Compiler<'_> {
    /// Reports values that nothing asks for: somebody believes that they count.
    pub(super) fn ensure_config_is_asked_for(&self) {
        let provider = self.raw.provider.as_deref();
        if provider.is_some_and(|name| providers::text(name).is_none()) {
            // That there is no such provider has been reported; nobody knows what it would ask for.
            return;
        }
        let asked = &self.raw.config_asked;
        let names: Vec<&str> = asked.iter().map(String::as_str).collect();
        for name in self.raw.config.keys().filter(|name| !asked.contains(*name)) {
            let what = match provider {
                Some(provider) => format!(
                    "{} is no value that the provider {} asks for",
                    quote(name),
                    quote(provider)
                ),
                None => format!("{} is no value that this source asks for", quote(name)),
            };
            let help = if names.is_empty() {
                "it asks for none: take it out".to_owned()
            } else {
                let all = enumerate(&names, "`", "and");
                format!("{}it asks for {all}", did_you_mean(name, &names))
            };
            self.reporter
                .unknown(&["config", name], Wrong::new(what, help));
        }
    }
}
