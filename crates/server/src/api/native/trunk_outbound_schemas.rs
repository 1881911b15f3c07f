//! What the policy on outbound calls may hold, for the description of the API. Bodies are read by [`super::trunk_outbound`];
//! this says the same in JSON Schema, and nothing is decided by it.

use serde_json::json;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::trunk_outbound::{MOST_LINES, MOST_RULES, MOST_TEXT};

/// Cases of a failover table.
const CASE: &str = "^([3-6][0-9]{2}|[3-6]xx|timeout|unreachable)$";
/// A host name.
const HOST: &str = r"^[A-Za-z0-9_-]{1,30}(\.[A-Za-z0-9_-]{1,30}){0,3}$";
/// A host name, all names below one, an address, or a range of addresses.
const HOST_RULE: &str = r"^((\*\.[A-Za-z0-9_-]{1,30}\.)?[A-Za-z0-9_-]{1,30}(\.[A-Za-z0-9_-]{1,30}){0,3}|[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}|[0-9A-Fa-f:]{2,39}(/[0-9]{1,3})?)$";
/// The first digits of numbers.
const PREFIX: &str = r"^\+?[0-9]{1,15}$";
/// A number, or the word for the one that calls.
const DIVERSION: &str = r"^(number|\+?[0-9]{1,32})$";
/// One line without control characters.
const LINE: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";

/// Body of `PATCH /v1/trunks/{trunk_id}/outbound`.
pub(super) struct NewOutbound;
/// What is done with large requests.
pub(super) struct LargeRequestsWord;
/// A failover table.
pub(super) struct FailoverLines;
/// What is done with a 3xx.
pub(super) struct Redirects;
/// Whom calls are shown to come from.
pub(super) struct Identity;

macro_rules! schemas {
    ($($name:ident => $make:expr),+ $(,)?) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    RefOr::T(Schema::from($make))
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

schemas! {
    NewOutbound => ObjectBuilder::new()
        .property("transport_by_dns", switch("Whether NAPTR records tell the transport to gateways given by a name without a \
            port."))
        .property("large_requests", words(["tcp", "udp"], "Whether requests of more than 1,300 bytes go by TCP; tcp unless set."))
        .property("failover", failover(of([Type::Object, Type::Null])))
        .property("redirects", redirects(of([Type::Object, Type::Null])))
        .property("identity", identity(of([Type::Object, Type::Null]))),
    LargeRequestsWord => of([Type::String]).enum_values(Some(["tcp", "udp"])),
    FailoverLines => failover(of([Type::Object])),
    Redirects => redirects(of([Type::Object])),
    Identity => identity(of([Type::Object])),
}

fn of<const N: usize>(types: [Type; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
}

fn switch(what: &str) -> ObjectBuilder {
    of([Type::Boolean, Type::Null]).description(Some(what))
}

fn words<const N: usize>(words: [&str; N], what: &str) -> ObjectBuilder {
    let known = words.into_iter().map(|word| json!(word)).chain([json!(null)]);
    of([Type::String, Type::Null]).enum_values(Some(known)).description(Some(what))
}

fn text(pattern: &str, what: &str) -> ObjectBuilder {
    of([Type::String, Type::Null]).max_length(Some(MOST_TEXT)).pattern(Some(pattern)).description(Some(what))
}

fn list(item: &str, example: &str, what: &str) -> ArrayBuilder {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(of([Type::String]).pattern(Some(item)).examples([example]))
        .max_items(Some(MOST_RULES))
        .description(Some(what))
}

fn failover(object: ObjectBuilder) -> ObjectBuilder {
    object
        .property_names(Some(of([Type::String]).pattern(Some(CASE))))
        .additional_properties(Some(of([Type::String]).enum_values(Some(["next", "end"]))))
        .max_properties(Some(MOST_LINES))
        .description(Some(
            "The whole table: a status from 300 to 699, a class (3xx to 6xx), timeout or unreachable, and what follows it. A \
             status goes before its class, and both before the defaults.",
        ))
        .examples([json!({"403": "next", "503": "end"})])
}

fn redirects(object: ObjectBuilder) -> ObjectBuilder {
    object
        .property("follow", switch("Whether redirects are followed; false unless set."))
        .property(
            "most",
            of([Type::Integer, Type::Null])
                .minimum(Some(1.0))
                .maximum(Some(10.0))
                .description(Some("Places that one call is redirected to at most; 5 unless set.")),
        )
        .property(
            "hosts",
            list(
                HOST_RULE,
                "*.carrier.example",
                "Hosts that may be called beside the trunk's gateways: names, `*.` and a name, addresses, ranges.",
            ),
        )
        .property(
            "numbers",
            list(PREFIX, "+91", "First digits of numbers that may be called beside the one dialled."),
        )
}

fn identity(object: ObjectBuilder) -> ObjectBuilder {
    object
        .property(
            "from_user",
            words(["number", "username"], "What stands in From: the number (or the caller id), or the trunk's user name."),
        )
        .property("from_host", text(HOST, "The host of From; null: the gateway's on a userpass trunk, else ours."))
        .property("display_name", text(LINE, "The name beside the number."))
        .property(
            "asserted",
            words(
                ["auto", "always", "never", "preferred"],
                "P-Asserted-Identity: where From does not name the number, always, never; or P-Preferred-Identity.",
            ),
        )
        .property(
            "diversion",
            text(DIVERSION, "The number in Diversion: null for none, `number` for the one that calls, or another."),
        )
        .property(
            "privacy",
            words(["none", "id", "anonymous"], "`id`: the carrier is asked to hide the caller; `anonymous`: From hides it too."),
        )
}
