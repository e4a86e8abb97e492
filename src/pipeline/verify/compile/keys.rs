//! The source's secrets as the keys of a table.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::config::problem::Problem;
use crate::pipeline::verify::Context;
use crate::pipeline::verify::compile::{Compiler, Mistakes};
use crate::pipeline::verify::public::PublicForm;
use crate::pipeline::verify::scheme::{Key, Kind, Method, Ready};
use crate::pipeline::verify::words::did_you_mean;
use crate::secret::Labelled;

impl Compiler<'_> {
    /// The source's secrets as keys; of `labels`, if there are any, only those.
    pub(in crate::pipeline::verify) fn keys(
        &mut self,
        kind: &Kind,
        labels: &[String],
        lenient: bool,
    ) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut unfit = Vec::new();
        let lenient = lenient && labels.is_empty();
        for (position, labelled) in counted(self.context, labels, &mut self.mistakes) {
            match ready(kind, labelled) {
                Ok(ready) => keys.push(Key {
                    label: Arc::clone(&labelled.label),
                    secret: labelled.secret.clone(),
                    ready,
                }),
                Err(Unfit { what, help }) => {
                    let path = ["secrets", &position.to_string()];
                    let what = format!("the secret `{}` {what}", labelled.label);
                    unfit.push(Problem::error(&path, what).help(help));
                }
            }
        }
        if self.context.secrets.is_empty() {
            let problem = Problem::error(&["secrets"], "there is no secret to verify with");
            let help = "for example `secrets = [{ env = \"WEBHOOK_SECRET\" }]`";
            self.mistakes.of_source.push(problem.help(help));
        }
        if keys.is_empty() || !lenient {
            self.mistakes.of_source.append(&mut unfit);
        }
        keys
    }
}

/// The secrets that count in a table, with their positions: of `labels`, if there are any, only
/// those. A label that no secret has is a mistake.
pub(in crate::pipeline::verify) fn counted<'c>(
    context: &Context<'c>,
    labels: &[String],
    mistakes: &mut Mistakes,
) -> Vec<(usize, &'c Labelled)> {
    let all = context.secrets;
    let known: Vec<&str> = all.iter().map(|it| &*it.label).collect();
    for label in labels.iter().filter(|it| !known.contains(&it.as_str())) {
        let problem = Problem::error(&["secrets"], format!("no secret has the label `{label}`"));
        let problem = problem.help(did_you_mean(label, &known));
        mistakes.of_table.push(problem);
    }
    let counts = |it: &Labelled| labels.is_empty() || labels.iter().any(|l| **l == *it.label);
    let all = all.iter().enumerate();
    all.filter(|(_, labelled)| counts(labelled)).collect()
}

/// Why a secret cannot be used. Says nothing of the secret itself.
struct Unfit {
    what: String,
    help: &'static str,
}

fn ready(kind: &Kind, labelled: &Labelled) -> Result<Ready, Unfit> {
    let unfit = |what: &str, help| Unfit {
        what: what.to_owned(),
        help,
    };
    let secret = labelled.secret.expose();
    if secret.is_empty() {
        return Err(unfit("is empty", "take it from the provider's settings"));
    }
    let method = match kind {
        Kind::Signed(signing) => Some(signing.method),
        Kind::Message(message) => Some(message.method),
        Kind::Token | Kind::Basic | Kind::Jwt(_) | Kind::Certificate(_) => None,
    };
    let takes_public = matches!(method, Some(Method::Public { .. }));
    if !takes_public && PublicForm::is_written_as_public(secret) {
        return Err(unfit(
            "is a public key, which anybody may know",
            "use the `algorithm` that the provider signs with, or say in `secrets` of each table \
             which of them count there",
        ));
    }
    let badly_written = |name, help| Unfit {
        what: format!("is not written as {name}"),
        help,
    };
    match (kind, method) {
        (_, Some(Method::Shared { algorithm, form })) => {
            let key = form.key(secret);
            let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
            let mac = algorithm.keyed(&key);
            mac.map(|mac| Ready::Mac(Box::new(mac)))
                .ok_or_else(|| unfit("cannot be used as a key", "use another `algorithm`"))
        }
        (_, Some(Method::Public { algorithm, form })) => {
            let key = form.key(secret);
            let key = key.ok_or_else(|| badly_written(form.name(), form.looks()))?;
            let public = algorithm.public_key(&key);
            public
                .map(|key| Ready::Public(Box::new(key)))
                .ok_or_else(|| {
                    let help = "copy the whole key from the provider's page, or use another \
                            `algorithm`";
                    unfit(&format!("is no public key for {}", algorithm.name()), help)
                })
        }
        (Kind::Basic, None) if !secret.contains(&b':') => Err(unfit(
            "is not of the form `USER:PASSWORD`",
            "write both into one secret, with a colon between them",
        )),
        (_, None) => Ok(Ready::Hash(Sha256::digest(secret).into())),
    }
}
