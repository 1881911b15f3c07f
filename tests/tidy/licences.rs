//! Every dependency's licence is one of `licences.toml`.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::{metadata, workspace};

/// The allow-list file: plain enough to be read line by line.
struct AllowList {
    allowed: BTreeSet<String>,
    exceptions: BTreeMap<String, String>,
}

fn allow_list() -> AllowList {
    let text = std::fs::read_to_string(workspace().join("licences.toml")).expect("licences.toml");
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let (list, exceptions) = text.split_once("[exceptions]").expect("an [exceptions] table");
    let allowed = list.lines().filter(|line| !line.starts_with('#')).filter_map(quoted).collect();
    let exceptions = exceptions
        .lines()
        .filter_map(|line| Some((line.split_once(" = ")?.0.to_owned(), quoted(line)?)))
        .collect();
    AllowList { allowed, exceptions }
}

/// True when the SPDX expression can be met with allowed licences alone.
/// `/` is the old spelling of OR. AND binds tighter than OR (SPDX 2.3, annex D).
fn is_satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut position = 0;
    let result = any_of(&tokens, &mut position, allowed);
    assert_eq!(position, tokens.len(), "unreadable licence expression {expression:?}");
    result
}

fn any_of(tokens: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = all_of(tokens, position, allowed);
    while tokens.get(*position) == Some(&"OR") {
        *position += 1;
        result |= all_of(tokens, position, allowed);
    }
    result
}

fn all_of(tokens: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(tokens, position, allowed);
    while tokens.get(*position) == Some(&"AND") {
        *position += 1;
        result &= one(tokens, position, allowed);
    }
    result
}

fn one(tokens: &[&str], position: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let token = tokens.get(*position).copied().unwrap_or_default();
    *position += 1;
    if token == "(" {
        let result = any_of(tokens, position, allowed);
        assert_eq!(tokens.get(*position), Some(&")"), "a parenthesis is not closed");
        *position += 1;
        return result;
    }
    if tokens.get(*position) == Some(&"WITH") {
        let exception = tokens.get(*position + 1).copied().unwrap_or_default();
        *position += 2;
        return allowed.contains(&format!("{token} WITH {exception}"));
    }
    allowed.contains(token)
}

#[test]
fn every_dependency_carries_an_allowed_licence() {
    let list = allow_list();
    let metadata = metadata();
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_default();
        if !list.exceptions.contains_key(name) && !is_satisfied(licence, &list.allowed) {
            refused.push(format!("{name}: {licence:?}"));
        }
    }
    assert!(refused.is_empty(), "licences outside licences.toml: {refused:#?}");
}

#[test]
fn an_expression_is_read_as_spdx_reads_it() {
    let allowed: BTreeSet<String> = ["MIT", "ISC"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND ISC", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND LGPL-2.1", false),
        ("Apache-2.0 WITH LLVM-exception", false),
    ] {
        if expression.is_empty() {
            assert!(!allowed.contains(expression));
            continue;
        }
        assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn exceptions_are_still_needed() {
    let names: BTreeSet<String> = metadata()["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| package["name"].as_str().expect("a name").to_owned())
        .collect();
    for exception in allow_list().exceptions.keys() {
        assert!(names.contains(exception), "licences.toml excepts {exception}, which nothing uses");
    }
}
