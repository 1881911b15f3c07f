//! The examples of the vendor's guide, run in its order against a fresh server: only host, key and identifiers are
//! other ones, and each answer has the documented status and body. The examples are data
//! (`tests/data/bolna_guide.txt`), commands as one types them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::client::{Answer, Server};

const HOST: &str = "https://api.bolna.ai";
const KEY: &str = "bn-xxxxxxxxxxxxxxxx";

#[tokio::test]
async fn every_example_of_the_guide_is_answered_as_documented() {
    let ran = run(include_str!("../data/bolna_guide.txt")).await;
    assert!(ran >= 15, "only {ran} examples were found");
}

#[tokio::test]
async fn every_error_of_the_guide_is_answered_as_documented() {
    let ran = run(include_str!("../data/bolna_errors.txt")).await;
    assert!(ran >= 12, "only {ran} examples were found");
}

/// Runs the examples of a file; how many there were.
async fn run(file: &str) -> usize {
    let server = Server::start().await;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let examples: Vec<Example> = examples(file);
    for example in &examples {
        for given in &example.given {
            prepare(&server, given, &mut known).await;
        }
        let answer = send(&server, &renamed(&example.command, &known)).await;
        assert_eq!(answer.status.as_u16(), example.status, "{}: {}", example.title, answer.text);
        let expected: Value = serde_json::from_str(&renamed(&example.body, &known)).unwrap();
        if let Err(difference) = agrees(&expected, &answer.body, "") {
            panic!("{}: {difference}\nin {}", example.title, answer.text);
        }
        for (name, pointer) in &example.keep {
            let id = answer.body.pointer(pointer).and_then(Value::as_str).unwrap();
            known.insert(name.clone(), id.to_owned());
        }
    }
    examples.len()
}

/// One example of a file.
#[derive(Default)]
struct Example {
    title: String,
    given: Vec<String>,
    command: String,
    status: u16,
    body: String,
    keep: Vec<(String, String)>,
}

fn examples(file: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in file.lines().filter(|line| !line.starts_with("# ") && *line != "#") {
        if let Some(title) = line.strip_prefix("## ") {
            examples.push(Example { title: title.to_owned(), ..Example::default() });
            continue;
        }
        let Some(example) = examples.last_mut() else { continue };
        if let Some(given) = line.strip_prefix("given ") {
            example.given.push(given.to_owned());
        } else if let Some(kept) = line.strip_prefix("keep ") {
            let (name, pointer) = kept.split_once(" = ").unwrap();
            example.keep.push((name.to_owned(), pointer.to_owned()));
        } else if let Some(status) = line.strip_prefix("=> ") {
            example.status = status.parse().unwrap();
        } else {
            let into = if example.status == 0 { &mut example.command } else { &mut example.body };
            into.push_str(line);
            into.push('\n');
        }
    }
    examples
}

/// What the guide expects to be there: an agent, a trunk, a number.
async fn prepare(server: &Server, given: &str, known: &mut BTreeMap<String, String>) {
    let words: Vec<&str> = given.split(' ').collect();
    let (name, id) = match words.as_slice() {
        ["agent", name] => (name, format!("agt-{}", server.agent().await)),
        // The guide has two names for one thing.
        ["same", name, "=", known_as] => (name, known[*known_as].clone()),
        ["trunk", name] => (name, server.trunk(name).await),
        ["number", name, "=", number, "on", trunk] => (name, server.number(&known[*trunk], number).await),
        _ => panic!("{given} is not understood"),
    };
    known.insert((*name).to_owned(), id);
}

/// Identifiers of the guide stand for those that the server gave.
fn renamed(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
}

/// Runs a command line of curl.
async fn send(server: &Server, command: &str) -> Answer {
    let words = shell_words(command);
    assert_eq!(words[0], "curl");
    let (mut method, mut url, mut data, mut headers) = (None, None, None, Vec::new());
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let mut argument = || rest.next().unwrap().clone();
        match word.as_str() {
            "-X" | "--request" => method = Some(argument()),
            "-H" | "--header" => headers.push(argument()),
            "-d" | "--data" => data = Some(argument()),
            "--url" => url = Some(argument()),
            _ => url = Some(word.clone()),
        }
    }
    let url = url.unwrap();
    let path = url.strip_prefix(HOST).unwrap_or_else(|| panic!("{url} is of another host"));
    let method = method.unwrap_or_else(|| if data.is_some() { "POST" } else { "GET" }.to_owned());
    let mut request = Request::builder().method(method.as_str()).uri(path);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value.replace(KEY, &server.key));
    }
    server.raw(request.body(data.map_or_else(Body::empty, Body::from)).unwrap()).await
}

/// The words of a command, as a shell parts them: quotes of both kinds, lines that go on.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(character);
            }
            (None, '\\') => {
                // A line that goes on; nothing else is escaped in these examples.
                assert_eq!(characters.next(), Some('\n'));
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Whether the answer holds what was expected: objects may hold more, lists may not.
fn agrees(expected: &Value, found: &Value, place: &str) -> Result<(), String> {
    let differs = || Err(format!("{place} is {found}, not {expected}"));
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().try_for_each(|(name, value)| {
            let place = format!("{place}/{name}");
            found
                .get(name)
                .map_or_else(|| Err(format!("{place} is missing")), |found| agrees(value, found, &place))
        }),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => expected
            .iter()
            .zip(found)
            .enumerate()
            .try_for_each(|(at, (expected, found))| agrees(expected, found, &format!("{place}/{at}"))),
        (Value::String(mark), Value::String(text)) => {
            let agrees = match mark.as_str() {
                "<any>" | "<id>" => !text.is_empty(),
                "<time>" => text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T',
                _ => mark == text,
            };
            if agrees { Ok(()) } else { differs() }
        }
        _ if expected == found => Ok(()),
        _ => differs(),
    }
}

#[test]
fn commands_are_parted_as_a_shell_parts_them() {
    assert_eq!(
        shell_words("curl -X POST \\\n  \"https://x/y?a=b\" -d '{\"k\": \"v w\"}'"),
        ["curl", "-X", "POST", "https://x/y?a=b", "-d", "{\"k\": \"v w\"}"]
    );
}

#[test]
fn an_answer_that_lacks_something_does_not_agree() {
    let found = json!({"a": [1, 2], "t": "2025-01-15T10:00:00Z", "more": true});
    assert_eq!(agrees(&json!({"a": [1, 2], "t": "<time>"}), &found, ""), Ok(()));
    for wrong in [json!({"b": 1}), json!({"a": [1]}), json!({"t": "<time>x"}), json!({"more": false})] {
        assert!(agrees(&wrong, &found, "").is_err(), "{wrong}");
    }
}
