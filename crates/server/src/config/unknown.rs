//! Unknown keys: found before anything is read, each named with the nearest key that exists.
//!
//! Refuses to guess: an unknown key is an error even when only one key could have been meant.

use serde_json::Value;

use super::Config;

/// Every key that exists, dotted, in the order of the sections. Tables themselves are not listed.
pub(super) fn known_keys() -> Vec<String> {
    fn walk(prefix: &str, value: &Value, keys: &mut Vec<String>) {
        match value {
            Value::Object(table) => {
                for (name, below) in table {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, below, keys);
                }
            }
            _ => keys.push(prefix.to_owned()),
        }
    }
    let defaults = serde_json::to_value(Config::default()).expect("the defaults are plain data");
    let mut keys = Vec::new();
    walk("", &defaults, &mut keys);
    keys
}

/// What stands at `path`: a key, a table above keys, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Key,
    Table,
    Nothing,
}

/// Looks `path` up among the known keys.
pub(super) fn place(known: &[String], path: &str) -> Place {
    if known.iter().any(|key| key == path) {
        return Place::Key;
    }
    let above = known.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
    if above { Place::Table } else { Place::Nothing }
}

/// The known key, or section, nearest to `path`, when one is near enough to have been meant.
///
/// A key of the right name in the wrong section counts as near: `[api] ports` is taken for `media.ports`.
pub(super) fn nearest<'a>(known: &'a [String], path: &str) -> Option<&'a str> {
    let leaf = path.rsplit('.').next().unwrap_or(path);
    let sections = known.iter().flat_map(|key| key.match_indices('.').map(move |(at, _)| &key[..at]));
    let score = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(candidate, path);
        let candidate_leaf = candidate.rsplit('.').next().unwrap_or(candidate);
        let name = strsim::normalized_damerau_levenshtein(candidate_leaf, leaf);
        // The name weighs more than the section it stands in, but an equal name nearer by is preferred.
        whole.max(0.9 * name + 0.05 * whole)
    };
    known
        .iter()
        .map(String::as_str)
        .chain(sections)
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.55)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}
