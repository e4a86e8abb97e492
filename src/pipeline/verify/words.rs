//! What would be right, for a word that is not.

use std::collections::BTreeMap;

use crate::config::problem::Problem;
use crate::config::raw::config_name;

/// How alike two words must be to be suggested, from 0 to 1.
const ALIKE_MIN: f64 = 0.8;

/// "did you mean `x`? there are `a`, `b` and `c`", for the right of a message.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let mut alike: Vec<(f64, &str)> = known
        .iter()
        .map(|&known| (strsim::jaro_winkler(word, known), known))
        .collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let list = one_of(known);
    match alike.first() {
        Some((score, best)) if *score >= ALIKE_MIN => format!("did you mean `{best}`? {list}"),
        _ => list,
    }
}

/// What `config` has under a name that a template asks for.
///
/// # Errors
///
/// It has nothing there, and the help says how to give it; or what is asked for is no name.
pub(crate) fn config_value<'c>(
    config: &'c BTreeMap<String, String>,
    name: &str,
) -> Result<&'c str, Problem> {
    if name.is_empty() || config_name(name) != name {
        let help = "a name has no white space, and none of `{`, `}`, `(`, `)` and `,`";
        return Err(Problem::here(format!("`config` has no value `{name}`")).help(help));
    }
    let value = config.get(name).map(String::as_str);
    value.ok_or_else(|| {
        let help = format!(
            "write config.{name} = \"...\" in [sources.NAME]; of a provider, `hookgate providers \
             PROVIDER` says what it is"
        );
        Problem::here(format!("`config` does not have `{name}`")).help(help)
    })
}

/// "there are `a`, `b` and `c`".
pub(crate) fn one_of(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "there are none".to_owned(),
        Some((only, [])) => format!("there is {only}"),
        Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
    }
}
