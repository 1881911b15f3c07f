//! Schemas that a derive cannot say: what several fields and parameters have in common, as their readers take it.

use tandem_agent::DialectKind;
use tandem_call::{CallStatus, VerdictCode};
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{ArrayBuilder, RefOr};

use super::auth::SCOPES;

/// One line without control characters.
const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn of_format(format: KnownFormat) -> Schema {
    Schema::Object(text().format(Some(SchemaFormat::KnownFormat(format))).build())
}

/// One of a few words.
fn word_of<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    text().enum_values(Some(words))
}

/// A list of at most `most` items; null is as good as none.
fn list(items: impl Into<RefOr<Schema>>, most: usize) -> RefOr<Schema> {
    let kind = SchemaType::Array(vec![Type::Array, Type::Null]);
    let list = ArrayBuilder::new().schema_type(kind).items(items.into()).max_items(Some(most));
    RefOr::T(Schema::Array(list.build()))
}

/// An IPv4 or IPv6 address, with or without a port.
pub(super) fn address() -> RefOr<Schema> {
    let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let with_port = format!(r"^{octet}(\.{octet}){{3}}:[1-9][0-9]{{0,3}}$");
    let any = AnyOfBuilder::new()
        .item(of_format(KnownFormat::Ipv4))
        .item(of_format(KnownFormat::Ipv6))
        .item(Schema::Object(text().pattern(Some(with_port)).build()))
        .examples([serde_json::json!("192.0.2.9")]);
    RefOr::T(Schema::AnyOf(any.build()))
}

/// Addresses, and ranges of them, that a key may be used from.
pub(super) fn allowed_addresses() -> RefOr<Schema> {
    let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let range = format!(r"^{octet}\.{octet}\.{octet}\.0/24$");
    let any = AnyOfBuilder::new()
        .item(of_format(KnownFormat::Ipv4))
        .item(of_format(KnownFormat::Ipv6))
        .item(Schema::Object(text().pattern(Some(range)).build()));
    list(Schema::AnyOf(any.build()), super::key_rules::MOST_RANGES)
}

/// Scopes of a key.
pub(super) fn scopes() -> RefOr<Schema> {
    list(Schema::Object(word_of(SCOPES.iter().copied()).build()), super::key_rules::MOST_SCOPES)
}

/// Statuses that a webhook is told of.
pub(super) fn told_statuses() -> RefOr<Schema> {
    let words = super::native::TOLD_STATUSES.iter().copied().map(CallStatus::as_str);
    list(Schema::Object(word_of(words).build()), super::native::MOST_EVENTS)
}

/// What came of an INVITE, as a word.
pub(super) fn verdict_code() -> RefOr<Schema> {
    word_of(VerdictCode::ALL.iter().map(|code| code.as_str())).into()
}

/// A protocol spoken to agents.
pub(super) fn dialect() -> RefOr<Schema> {
    word_of(DialectKind::ALL.iter().map(|kind| kind.name())).examples([serde_json::json!("asterisk")]).into()
}

/// Headers of a SIP message by name.
pub(super) fn sip_headers() -> RefOr<Schema> {
    let name = text().max_length(Some(64)).pattern(Some(r"^[A-Za-z0-9.!%*_+`'~-]+$")).build();
    let value = text().max_length(Some(1_024)).pattern(Some(LINE)).build();
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .property_names(Some(name))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::Object(value)))))
        .max_properties(Some(super::native::MOST_HEADERS))
        .into()
}

/// Facts of a call that templates name.
const FACTS: &str = r"\{(execution_id|agent_id|from|to|trunk_id|call_id|header:[Xx]-[A-Za-z0-9-]{1,32})\}";

/// A secret of the account's, by its name.
const PROVIDER: &str = r"\{provider:[A-Za-z0-9_.-]{1,128}\}";

/// Headers that the upgrade request sets itself, or that no agent may be given, by the letters of their names.
const RESERVED_HEADERS: &[&str] =
    &["host", "connection", "upgrade", "content-length", "transfer-encoding", "sec-websocket-.*"];

/// A pattern for `word` in capitals, small letters, or both.
fn of_any_case(word: &str) -> String {
    word.chars()
        .map(|c| match c.is_ascii_alphabetic() {
            true => format!("[{}{}]", c.to_ascii_uppercase(), c),
            false => c.to_string(),
        })
        .collect()
}

fn by_name(name: ObjectBuilder, value: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .property_names(Some(name.build()))
        .additional_properties(Some(AdditionalProperties::RefOr(value.into())))
        .max_properties(Some(super::bolna::MOST_ENTRIES))
        .into()
}

/// Headers of the request for an agent's socket: texts, templates over the call's facts.
pub(super) fn socket_headers() -> RefOr<Schema> {
    let reserved: Vec<String> = RESERVED_HEADERS.iter().map(|name| of_any_case(name)).collect();
    let name = format!("^(?!({})$)[A-Za-z0-9!#$%&'*+.^_`|~-]+$", reserved.join("|"));
    let value = text().pattern(Some(format!(r"^([ -z|~]|{FACTS}|{PROVIDER})*$")));
    by_name(text().max_length(Some(255)).pattern(Some(name)), value)
}

/// Parameters told to an agent: texts, templates over the call's facts, numbers, switches.
pub(super) fn socket_parameters() -> RefOr<Schema> {
    let value = AnyOfBuilder::new()
        .item(text().pattern(Some(format!(r"^([^{{}}\x00]|{FACTS})*$"))))
        .item(ObjectBuilder::new().schema_type(Type::Number))
        .item(ObjectBuilder::new().schema_type(Type::Boolean));
    let name = text().max_length(Some(255)).pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]*$"));
    by_name(name, Schema::AnyOf(value.build()))
}

fn socket_url_text() -> ObjectBuilder {
    let web = format!(r"wss?://[a-z0-9.-]+(:[1-9][0-9]{{0,3}})?(/([A-Za-z0-9/._~?&=%-]|{FACTS})*)?");
    let pattern = format!(r"^({web}|tcp://[a-z0-9.-]+:[1-9][0-9]{{0,3}})$");
    text().max_length(Some(2_048)).pattern(Some(pattern))
}

/// Where an agent's socket is: a template over the call's facts behind the host.
pub(super) fn socket_url() -> RefOr<Schema> {
    socket_url_text().examples([serde_json::json!("wss://agent.example/ws/{execution_id}")]).into()
}

/// The same, where null is as good as none.
pub(super) fn socket_url_or_null() -> RefOr<Schema> {
    socket_url_text().schema_type(SchemaType::Array(vec![Type::String, Type::Null])).into()
}
