//! The layers and their errors: each names the key, where it was written, what was given and what would do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::unknown::{self, Place};
use super::{Config, validate};

const PREFIX: &str = "TANDEM__";

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:{}", list(problems))]
pub struct ConfigError {
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, or the file's name when the file itself cannot be read.
    pub key: String,
    /// Where it was written: `tandem.toml line 7`, or `environment variable TANDEM__SIP__UDP`.
    pub origin: String,
    /// What was given and what would do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin.is_empty() {
            write!(f, "{}: {}", self.key, self.message)
        } else {
            write!(f, "{} ({}): {}", self.key, self.origin, self.message)
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl Config {
    /// Reads the file, if one is given, and this process's environment over the defaults.
    ///
    /// # Errors
    /// Every problem found, not the first alone.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        // A variable that is not UTF-8 cannot be one of ours: the keys and all their values are text.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_with(file, environment)
    }

    /// As [`Config::load`], with the environment given.
    ///
    /// # Errors
    /// Every problem found, not the first alone.
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            None => None,
            Some(path) => Some((path.to_path_buf(), read(path)?)),
        };
        Self::from_layers(text.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), environment)
    }

    fn from_layers(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let known = unknown::known_keys();
        let mut problems = Vec::new();
        let file = match file {
            None => FileLayer::default(),
            Some((path, text)) => FileLayer::read(path, text, &known, &mut problems),
        };
        let environment = EnvironmentLayer::read(environment, &known, &mut problems);
        let figment = Figment::from(Serialized::defaults(Self::default()))
            .merge(Serialized::defaults(&file.table))
            .merge(&environment);
        let origin = |key: &str| environment.origin(key).unwrap_or_else(|| file.origin(key));
        let reader = Reader { figment: &figment, origin: &origin };
        let config = Self {
            node: reader.section("node", &mut problems),
            sip: reader.section("sip", &mut problems),
            media: reader.section("media", &mut problems),
            recording: reader.section("recording", &mut problems),
            api: reader.section("api", &mut problems),
            store: reader.section("store", &mut problems),
            security: reader.section("security", &mut problems),
            limits: reader.section("limits", &mut problems),
            billing: reader.section("billing", &mut problems),
            telemetry: reader.section("telemetry", &mut problems),
        };
        if problems.is_empty() {
            for (key, message) in validate::faults(&config) {
                problems.push(Problem { key: key.to_owned(), origin: origin(key), message });
            }
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError {
        problems: vec![Problem {
            key: path.display().to_string(),
            origin: String::new(),
            message: format!("cannot be read: {error}; give --config the path of a TOML file"),
        }],
    })
}

/// The TOML file: its values, and the line each key stands in.
#[derive(Default)]
struct FileLayer {
    path: PathBuf,
    table: toml::Table,
    lines: BTreeMap<String, usize>,
}

impl FileLayer {
    fn read(path: &Path, text: &str, known: &[String], problems: &mut Vec<Problem>) -> Self {
        let mut layer = Self { path: path.to_path_buf(), ..Self::default() };
        let parsed = DeTable::parse(text).and_then(|spans| Ok((spans, text.parse::<toml::Table>()?)));
        let (spans, table) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let line = error.span().map(|span| line_of(text, span.start));
                problems.push(Problem {
                    key: path.display().to_string(),
                    origin: line.map(|line| format!("line {line}")).unwrap_or_default(),
                    message: format!("is not TOML: {}", error.message()),
                });
                return layer;
            }
        };
        layer.walk("", spans.get_ref(), text, known, problems);
        layer.table = table;
        layer
    }

    fn walk(
        &mut self,
        above: &str,
        table: &DeTable<'_>,
        text: &str,
        known: &[String],
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in table {
            let name_text: &str = name.get_ref();
            let key = if above.is_empty() { name_text.to_owned() } else { format!("{above}.{name_text}") };
            self.lines.insert(key.clone(), line_of(text, name.span().start));
            match (unknown::place(known, &key), value.get_ref()) {
                (Place::Nothing, _) => problems.push(unknown_key(&key, self.origin(&key), known, |key| {
                    match key.rsplit_once('.') {
                        Some((section, leaf)) => format!("`{leaf}` in [{section}]"),
                        None => format!("[{key}]"),
                    }
                })),
                (Place::Table, DeValue::Table(below)) => self.walk(&key, below, text, known, problems),
                // A table where a value belongs, or the other way round, is told when the section is read.
                (Place::Table | Place::Key, _) => {}
            }
        }
    }

    fn origin(&self, key: &str) -> String {
        match self.lines.get(key) {
            Some(line) => format!("{} line {line}", self.path.display()),
            None => String::new(),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn unknown_key(key: &str, origin: String, known: &[String], spelled: impl Fn(&str) -> String) -> Problem {
    let message = match unknown::nearest(known, key) {
        Some(near) => format!("unknown key; the nearest known one is {}", spelled(near)),
        None => "unknown key; config/tandem.toml lists every key there is".to_owned(),
    };
    Problem { key: key.to_owned(), origin, message }
}

/// The variables that begin with `TANDEM__`, as one tree.
#[derive(Default)]
struct EnvironmentLayer {
    tree: Dict,
    names: BTreeMap<String, String>,
}

impl EnvironmentLayer {
    fn read(
        environment: impl IntoIterator<Item = (String, String)>,
        known: &[String],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let defaults = serde_json::to_value(Config::default()).expect("the defaults are plain data");
        let mut layer = Self::default();
        for (name, text) in environment {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let key = path.to_ascii_lowercase().replace("__", ".");
            let origin = format!("environment variable {name}");
            match unknown::place(known, &key) {
                Place::Nothing => problems.push(unknown_key(&key, origin, known, variable)),
                Place::Table => problems.push(Problem {
                    message: format!("is a section; name one of its keys, as {}__KEY", variable(&key)),
                    origin,
                    key,
                }),
                Place::Key => {
                    let pointer = format!("/{}", key.replace('.', "/"));
                    insert(&mut layer.tree, &key, typed(&text, defaults.pointer(&pointer)));
                    layer.names.insert(key, name);
                }
            }
        }
        layer
    }

    fn origin(&self, key: &str) -> Option<String> {
        self.names.get(key).map(|name| format!("environment variable {name}"))
    }
}

impl Provider for EnvironmentLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment")
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        Ok(figment::value::Map::from([(Profile::Default, self.tree.clone())]))
    }
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Reads a variable's text by the type of the default: text stays text even when it looks like a number,
/// and a list may be written bare, with commas.
fn typed(text: &str, default: Option<&serde_json::Value>) -> Value {
    match default {
        Some(serde_json::Value::String(_) | serde_json::Value::Null) => Value::from(text),
        Some(serde_json::Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let parts: Vec<Value> =
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect();
            Value::from(parts)
        }
        _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
    }
}

fn insert(tree: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let below = tree.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, below) = below {
                insert(below, rest, value);
            }
        }
    }
}

struct Reader<'a> {
    figment: &'a Figment,
    origin: &'a dyn Fn(&str) -> String,
}

impl Reader<'_> {
    /// Reads one section; its faults join `problems` and its defaults stand in for it.
    fn section<T: DeserializeOwned + Default>(&self, name: &str, problems: &mut Vec<Problem>) -> T {
        match self.figment.extract_inner(name) {
            Ok(section) => section,
            Err(error) => {
                for fault in error {
                    // An inner extraction puts the section's own name behind the key's, not before it.
                    let below = fault.path.iter().filter(|part| *part != name).map(String::as_str);
                    let key = std::iter::once(name).chain(below).collect::<Vec<_>>().join(".");
                    let key = key.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()).to_owned();
                    let origin = (self.origin)(&key);
                    problems.push(Problem { key, origin, message: explain(&fault.kind) });
                }
                T::default()
            }
        }
    }
}

fn explain(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.clone(),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("{} will not do; give {}", given(actual), wanted(expected))
        }
        Kind::UnknownVariant(given, known) => {
            let near = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, given).total_cmp(&strsim::jaro_winkler(b, given)));
            let near = near.map(|near| format!("; the nearest is \"{near}\"")).unwrap_or_default();
            format!("\"{given}\" will not do; give one of {}{near}", known.join(", "))
        }
        other => other.to_string(),
    }
}

fn given(actual: &Actual) -> String {
    match actual {
        Actual::Str(text) => format!("the text {text:?}"),
        Actual::Unsigned(number) => format!("the number {number}"),
        Actual::Signed(number) => format!("the number {number}"),
        Actual::Float(number) => format!("the number {number}"),
        Actual::Bool(value) => format!("{value}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn wanted(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_layers(Some((Path::new("tandem.toml"), text)), environment)
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, environment: &[(&str, &str)], parts: &[&str]) {
        let error = load(text, environment).expect_err("this configuration has a fault");
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing in:\n{error}");
        }
    }

    #[test]
    fn without_a_file_the_defaults_stand() {
        let config = Config::load_with(None, []).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.sip.udp, ["0.0.0.0:5060", "[::]:5060"].map(|text| text.parse().unwrap()));
        assert_eq!(config.api.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.media.ports.to_string(), "20000-29999");
    }

    #[test]
    fn the_environment_stands_above_the_file_and_the_file_above_the_defaults() {
        let text = "[node]\nname = \"a\"\n[sip]\nudp = [\"127.0.0.1:5070\"]\n[limits]\ncalls = 7\n";
        let config = load(
            text,
            &[
                ("TANDEM__SIP__UDP", "127.0.0.1:5080, [::1]:5080"),
                ("TANDEM__SIP__TCP", "[\"127.0.0.1:5081\"]"),
                ("TANDEM__NODE__NAME", "7"),
                ("TANDEM__LIMITS__DRAIN_SECONDS", "9"),
                ("TANDEM_API_KEY", "not a configuration key"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(config.sip.udp.len(), 2);
        assert_eq!(config.sip.udp[1], "[::1]:5080".parse().unwrap());
        assert_eq!(config.sip.tcp, ["127.0.0.1:5081".parse().unwrap()]);
        assert_eq!(config.node_name(), "7");
        assert_eq!(config.limits.calls, 7);
        assert_eq!(config.limits.drain_seconds, 9);
        assert_eq!(config.limits.connections, Config::default().limits.connections);
    }

    #[test]
    fn an_empty_list_in_the_environment_turns_a_listener_off() {
        let config = load("", &[("TANDEM__SIP__TCP", "")]).unwrap();
        assert_eq!(config.sip.tcp, []);
    }

    #[test]
    fn an_unknown_key_names_its_line_and_its_nearest_neighbour() {
        refused(
            "[sip]\nudp = [\"0.0.0.0:5060\"]\npublic_adress = \"203.0.113.7\"\n",
            &[],
            &["sip.public_adress", "tandem.toml line 3", "nearest known one is `public_address` in [sip]"],
        );
    }

    #[test]
    fn a_key_in_the_wrong_section_is_led_home() {
        refused("[api]\nports = \"20000-20100\"\n", &[], &["api.ports", "line 2", "`ports` in [media]"]);
    }

    #[test]
    fn an_unknown_section_names_its_nearest_neighbour() {
        refused("[medai]\nports = \"20000-20100\"\n", &[], &["medai", "line 1", "[media]"]);
    }

    #[test]
    fn an_unknown_variable_names_the_variable_that_was_meant() {
        refused(
            "",
            &[("TANDEM__SIP__UPD", "0.0.0.0:5060")],
            &["environment variable TANDEM__SIP__UPD", "TANDEM__SIP__UDP"],
        );
    }

    #[test]
    fn a_key_like_no_other_points_at_the_list() {
        refused("[sip]\nzzzzzzzz = 1\n", &[], &["sip.zzzzzzzz", "config/tandem.toml lists every key"]);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        refused(
            "[sip]\nudp = [\"5060\"]\n[api]\nlisten = \"localhost\"\n[limits]\ncals = 1\n",
            &[("TANDEM__MEDIA__PORTS", "9-7")],
            &["sip.udp", "api.listen", "limits.cals", "media.ports", "TANDEM__MEDIA__PORTS"],
        );
    }

    #[test]
    fn each_wrong_value_says_what_was_given_and_what_would_do() {
        let cases: &[(&str, &[&str])] = &[
            ("[sip]\nudp = [\"0.0.0.0\"]", &["sip.udp", "line 2", "\"0.0.0.0\"", "port is missing"]),
            ("[sip]\nudp = 5060", &["sip.udp", "5060", "a list of addresses"]),
            ("[sip]\nudp = [\"5060\"]", &["the address is missing", "\"0.0.0.0:5060\""]),
            ("[sip]\ntls = [\"0.0.0.0:5061\"]", &["sip.tls", "[sip.tls] with listen"]),
            (
                "[sip]\npublic_address = \"example.com\"",
                &["sip.public_address", "\"example.com\"", "203.0.113.7"],
            ),
            ("[sip]\npublic_address = \"0.0.0.0\"", &["means every address"]),
            ("[media]\nports = \"20000\"", &["media.ports", "\"20000-29999\""]),
            ("[media]\nports = 20000", &["media.ports", "20000", "text in quotes"]),
            ("[media]\nports = \"80-90\"", &["below 1024"]),
            ("[media]\nports = \"20001-20002\"", &["no pair of ports"]),
            ("[limits]\ncalls = \"many\"", &["limits.calls", "\"many\"", "a whole number"]),
            ("[limits]\ncalls = -1", &["limits.calls", "-1", "a whole number"]),
            ("[limits]\ncalls = 0", &["limits.calls", "0", "1 or more"]),
            ("[telemetry]\nformat = \"jsn\"", &["telemetry.format", "plain, json", "nearest is \"json\""]),
            ("[telemetry]\nlog = \"inf=o=x\"", &["telemetry.log", "info,tandem_sip=debug"]),
            ("[store]\nurl = \"mysql://x\"", &["store.url", "sqlite:", "postgres://"]),
            ("[api]\nauth_failure_status = 500", &["api.auth_failure_status", "500", "403 or 401"]),
            ("[api]\npublic_url = \"voice.example\"", &["api.public_url", "https://"]),
            ("[sip.tls]\nlisten = [\"0.0.0.0:5061\"]", &["sip.tls.certificate", "PEM"]),
            ("[sip.tls]\ncertificate = \"a.pem\"", &["sip.tls.private_key", "go together"]),
            ("[sip]\nudp = []\ntcp = []", &["sip.udp", "no listener"]),
            ("[media]\nports = \"5000-5100\"", &["media.ports", "5060", "sip.udp"]),
            ("[sip]\nudp = [\"0.0.0.0:5060\"", &["tandem.toml", "is not TOML"]),
            ("sip = 1", &["sip", "the number 1", "a table"]),
        ];
        for (text, parts) in cases {
            refused(text, &[], parts);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load_with(Some(Path::new("/nonexistent/tandem.toml")), []).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/tandem.toml"), "{error}");
    }

    #[test]
    fn the_example_file_holds_every_key_with_its_default() {
        let text = include_str!("../../../../config/tandem.toml");
        assert_eq!(load(text, &[]).unwrap(), Config::default());
        for key in unknown::known_keys() {
            let (section, leaf) = key.rsplit_once('.').unwrap();
            let body =
                text.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_else(|| panic!("[{section}]"));
            let body = body.split("\n[").next().unwrap();
            let stands = body.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.strip_prefix(leaf).is_some_and(|rest| rest.trim_start().starts_with('='))
            });
            assert!(stands, "config/tandem.toml lacks {key}");
        }
    }

    #[test]
    fn the_development_file_loads() {
        load(include_str!("../../../../config/dev.toml"), &[]).unwrap();
    }
}
