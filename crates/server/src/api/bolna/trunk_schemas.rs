//! What bodies of trunks and numbers may hold, for the description of the API: both of Bolna's families.
//!
//! Bodies are read by [`super::trunk_body`] and [`super::carrier_body`]; this says the same in JSON Schema, and
//! nothing is decided by it. Texts are narrower here than what is read: a gateway may also be written as a `sip:`
//! URI or with its port.

use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AllOfBuilder, AnyOfBuilder, Array, ArrayBuilder, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::carrier_body::{MOST_GATEWAYS, PRESETS};
use super::{registration, trunk_body};
use crate::store::{AuthType, MediaEncryption, TransportKind};

/// One line without control characters.
const LINE: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";
/// One that is more than blanks.
const FILLED: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$";
/// Lines.
const LINES: &str = r"^[^\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F]*$";
/// A host name or an IPv4 address.
const HOST: &str = concat!(
    r"^(([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){0,3}[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
    r"|((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]))$"
);
/// A number as most write it.
const DIALLED: &str = r"^[!-$&-9<-?A-~]*[0-9A-Za-z*#][!-$&-9<-?A-~]*$";
/// Strict E.164, as `e164_check_enabled` asks for it.
const E164: &str = r"^\+[1-9][0-9]{1,14}$";
/// A number of the new family.
const E164_LONG: &str = r"^\+[1-9][0-9]{6,14}$";

/// Body of `POST /sip-trunks/trunks`.
pub(super) struct NewSipTrunk;
/// Body of `PATCH /sip-trunks/trunks/{trunk_id}`.
pub(super) struct ChangeSipTrunk;
/// Body of `POST /sip-trunks/trunks/{trunk_id}/numbers`.
pub(super) struct NewSipTrunkNumber;
/// Body of `POST /trunk/trunks`.
pub(super) struct NewCarrierTrunk;
/// Body of `PATCH /trunk/trunks/{trunk_id}`.
pub(super) struct ChangeCarrierTrunk;
/// Body of `POST /trunk/trunks/{trunk_id}/gateways`.
pub(super) struct NewCarrierGateway;
/// Body of `POST /trunk/trunks/{trunk_id}/ip-acls`.
pub(super) struct NewCarrierIpAcl;
/// Body of `POST /trunk/trunks/{trunk_id}/numbers`.
pub(super) struct NewCarrierNumber;
/// Body of `PATCH /trunk/numbers/{number_id}`.
pub(super) struct ChangeCarrierNumber;

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
    NewSipTrunk => new_sip_trunk(),
    ChangeSipTrunk => sip_trunk_settings(common_settings(ObjectBuilder::new()))
        .property("name", filled(255).description(Some("The owner's name for it.")))
        .property("is_active", switch(None).description(Some("Switches the trunk on or off; calls that are up go on.")))
        .property("gateways", list(gateway(), 1, trunk_body::MOST_GATEWAYS)
            .description(Some("The whole new list.")))
        .property("ip_identifiers", list(identifier(), 0, trunk_body::MOST_IDENTIFIERS)
            .description(Some("The whole new list.")))
        .property("auth_username", maybe_filled(255).description(Some("New user name of a userpass trunk.")))
        .property("auth_password", maybe_filled(255).description(Some("New password of a userpass trunk.")))
        .build(),
    NewSipTrunkNumber => sip_trunk_number(),
    NewCarrierTrunk => new_carrier_trunk(),
    ChangeCarrierTrunk => carrier_settings()
        .property("name", maybe_filled(100).description(Some("The owner's name for it.")))
        .property("is_active", switch(None).description(Some("Switches the trunk on or off; calls that are up go on.")))
        .build(),
    NewCarrierGateway => carrier_gateway(),
    NewCarrierIpAcl => ObjectBuilder::new().property("cidr", range()).required("cidr").build(),
    NewCarrierNumber => carrier_number(),
    ChangeCarrierNumber => ObjectBuilder::new()
        .property("agent_id", line(128).description(Some("Who answers it; null, or nothing at all, for nobody.")))
        .build(),
}

fn of<const N: usize>(types: [Type; N]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
}

/// A line that may be absent, null or empty.
fn line(most: usize) -> ObjectBuilder {
    of([Type::String, Type::Null]).max_length(Some(most)).pattern(Some(LINE))
}

fn filled(most: usize) -> ObjectBuilder {
    of([Type::String]).min_length(Some(1)).max_length(Some(most)).pattern(Some(FILLED))
}

pub(super) fn maybe_filled(most: usize) -> ObjectBuilder {
    of([Type::String, Type::Null]).min_length(Some(1)).max_length(Some(most)).pattern(Some(FILLED))
}

pub(super) fn switch(default: Option<bool>) -> ObjectBuilder {
    of([Type::Boolean, Type::Null]).default(default.map(Value::from))
}

pub(super) fn whole(least: i64, most: i64, default: Option<i64>) -> ObjectBuilder {
    of([Type::Integer, Type::Null])
        .minimum(Some(least as f64))
        .maximum(Some(most as f64))
        .default(default.map(Value::from))
}

/// One of a few words, or null.
fn word(words: &[&str], default: Option<&str>) -> ObjectBuilder {
    of([Type::String, Type::Null])
        .enum_values(Some(words.iter().map(|word| json!(word)).chain([Value::Null])))
        .default(default.map(Value::from))
}

/// One word and nothing else.
fn only(word: &str) -> ObjectBuilder {
    of([Type::String]).enum_values(Some([json!(word)]))
}

fn list(item: impl Into<RefOr<Schema>>, least: usize, most: usize) -> ArrayBuilder {
    let array: Array = Array::new(item);
    ArrayBuilder::from(array)
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .min_items((least > 0).then_some(least))
        .max_items(Some(most))
}

/// A list that must be there.
fn required_list(item: impl Into<RefOr<Schema>>, most: usize) -> ArrayBuilder {
    let array: Array = Array::new(item);
    ArrayBuilder::from(array).min_items(Some(1)).max_items(Some(most))
}

pub(super) fn host() -> Schema {
    AnyOfBuilder::new()
        .item(of([Type::String]).pattern(Some(HOST)).max_length(Some(253)))
        .item(of([Type::String]).format(Some(SchemaFormat::Custom("ipv6".to_owned()))))
        .description(Some("A host name or an IP address; a sip: URI or host:port is read too."))
        .into()
}

/// Addresses and ranges without host bits, each prefix length by its own octets.
fn range() -> Schema {
    const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let mut forms = vec![format!("{OCTET}(\\.{OCTET}){{3}}(/32)?")];
    for prefix in 8_usize..32 {
        let (whole, bits) = (prefix / 8, prefix % 8);
        let mut octets = vec![OCTET.to_owned(); whole];
        if bits > 0 {
            let step = 256 >> bits;
            let multiples: Vec<String> = (0..256).step_by(step).map(|octet| octet.to_string()).collect();
            octets.push(format!("({})", multiples.join("|")));
        }
        octets.resize(4, "0".to_owned());
        forms.push(format!("{}/{prefix}", octets.join("\\.")));
    }
    let v4 = format!("^({})$", forms.join("|"));
    AnyOfBuilder::new()
        .item(of([Type::String]).pattern(Some(v4)))
        .item(of([Type::String]).format(Some(SchemaFormat::Custom("ipv6".to_owned()))))
        .item(of([Type::String]).pattern(Some("^[23][0-9a-f]{3}:[0-9a-f]{1,4}::/32$")))
        .item(of([Type::String]).pattern(Some("^[23][0-9a-f]{3}(:[0-9a-f]{1,4}){2}::/48$")))
        .item(of([Type::String]).pattern(Some("^[23][0-9a-f]{3}(:[0-9a-f]{1,4}){3}::/64$")))
        .examples([json!("203.0.113.0/24")])
        .description(Some("An address, or a range of /8 or longer (IPv6: /16) without host bits."))
        .into()
}

fn gateway() -> Schema {
    ObjectBuilder::new()
        .property("gateway_address", host())
        .property("port", whole(1, 65_535, Some(5060)))
        .property("service_records", service_records())
        .property("priority", whole(0, 65_535, Some(1)).description(Some("Lower goes first.")))
        .required("gateway_address")
        .into()
}

fn service_records() -> ObjectBuilder {
    let what = "Whether the gateway is found by the SRV records of its name (RFC 3263); left out: unless a port is given. \
        Not for an IP address.";
    of([Type::Boolean, Type::Null]).description(Some(what))
}

fn identifier() -> Schema {
    ObjectBuilder::new().property("ip_address", range()).required("ip_address").into()
}

fn limits(object: ObjectBuilder, channels: Option<i64>) -> ObjectBuilder {
    object
        .property("registration", registration::schema())
        .property(
            "channels",
            whole(1, 1_000, channels).description(Some("Concurrent calls, in and out together.")),
        )
        .property(
            "channels_in",
            whole(1, 1_000, None).description(Some("Concurrent calls from the carrier.")),
        )
        .property("channels_out", whole(1, 1_000, None).description(Some("Concurrent calls to the carrier.")))
        .property(
            "calls_per_second",
            of([Type::Number, Type::Null]).minimum(Some(0.001)).maximum(Some(1_000.0)).description(Some(
                "New calls per second, from the carrier and to it counted apart; kept to three decimals.",
            )),
        )
}

/// Fields that a new trunk of the legacy family and a change of one have in common.
fn common_settings(object: ObjectBuilder) -> ObjectBuilder {
    limits(object, None)
        .property("description", of([Type::String, Type::Null]).max_length(Some(4_096)).pattern(Some(LINES)))
        .property(
            "outbound_enabled",
            switch(Some(true)).description(Some("Whether calls may be placed by it.")),
        )
        .property(
            "outbound_leading_plus_enabled",
            switch(Some(true)).description(Some("Whether dialled numbers get a +.")),
        )
        .property(
            "inbound_enabled",
            switch(Some(false)).description(Some("Whether it takes calls from the carrier.")),
        )
}

fn sip_trunk_settings(object: ObjectBuilder) -> ObjectBuilder {
    object
        .property("allow", line(255).default(Some(json!("ulaw,alaw"))))
        .property("disallow", line(255).default(Some(json!("all"))))
        .property("transport", word(TransportKind::WORDS, Some("transport-udp")))
        .property("direct_media", switch(Some(false)))
        .property("rtp_symmetric", switch(Some(true)))
        .property("force_rport", switch(Some(true)))
        .property("ice_support", switch(Some(true)))
        .property("media_encryption", encryption())
        .property("media_encryption_optimistic", switch(Some(false)))
        .property(
            "qualify_frequency",
            whole(0, 86_400, Some(60)).description(Some("Seconds between OPTIONS; 0 is never.")),
        )
}

/// `false` is what clients generated from the vendor's YAML send for its bare `no`.
fn encryption() -> Schema {
    let words = MediaEncryption::WORDS.iter().map(|word| json!(word));
    of([Type::String, Type::Boolean, Type::Null])
        .enum_values(Some(words.chain([json!(false), Value::Null])))
        .default(Some(json!("no")))
        .into()
}

fn new_sip_trunk() -> Schema {
    let all = sip_trunk_settings(common_settings(ObjectBuilder::new()))
        .property("name", filled(255).description(Some("Unique in the account.")))
        .property("provider", filled(255).description(Some("The carrier; has no effect on calls.")))
        .property(
            "auth_type",
            of([Type::String]).enum_values(Some(AuthType::WORDS.iter().map(|word| json!(word)))),
        )
        .property("auth_username", line(255))
        .property("auth_password", line(255).write_only(true))
        .property("gateways", required_list(gateway(), trunk_body::MOST_GATEWAYS))
        .property("ip_identifiers", list(identifier(), 0, trunk_body::MOST_IDENTIFIERS))
        .property("phone_numbers", list(sip_trunk_number(), 0, trunk_body::MOST_NUMBERS))
        .required("name")
        .required("provider")
        .required("auth_type")
        .required("gateways");
    let by_digest = ObjectBuilder::new()
        .property("auth_type", only("userpass"))
        .property("auth_username", filled(255))
        .property("auth_password", filled(255))
        .required("auth_username")
        .required("auth_password");
    let by_address = ObjectBuilder::new()
        .property("auth_type", only("ip-based"))
        .property("ip_identifiers", required_list(identifier(), trunk_body::MOST_IDENTIFIERS))
        .required("ip_identifiers");
    let plain = ObjectBuilder::new().property(
        "media_encryption",
        of([Type::String, Type::Boolean, Type::Null]).enum_values(Some([
            json!("no"),
            json!(false),
            Value::Null,
        ])),
    );
    let encrypted = ObjectBuilder::new()
        .property("media_encryption", only("sdes"))
        .property("transport", only("transport-tls"))
        .required("media_encryption")
        .required("transport");
    AllOfBuilder::new()
        .item(all)
        .item(AnyOfBuilder::new().item(by_digest).item(by_address))
        .item(AnyOfBuilder::new().item(plain).item(encrypted))
        .into()
}

fn sip_trunk_number() -> Schema {
    let loose = ObjectBuilder::new().property(
        "e164_check_enabled",
        of([Type::Boolean, Type::Null]).enum_values(Some([json!(false), Value::Null])),
    );
    let strict = ObjectBuilder::new()
        .property("e164_check_enabled", of([Type::Boolean]).enum_values(Some([json!(true)])))
        .property("phone_number", of([Type::String]).pattern(Some(E164)))
        .required("e164_check_enabled");
    AllOfBuilder::new()
        .item(
            ObjectBuilder::new()
                .property(
                    "phone_number",
                    of([Type::String])
                        .max_length(Some(64))
                        .pattern(Some(DIALLED))
                        .description(Some("With or without +; kept as it is written.")),
                )
                .property("name", line(255))
                .property("e164_check_enabled", switch(Some(false)))
                .property("is_active", switch(Some(true)))
                .required("phone_number"),
        )
        .item(AnyOfBuilder::new().item(loose).item(strict))
        .into()
}

fn carrier_settings() -> ObjectBuilder {
    let codec = of([Type::String]).enum_values(Some(["PCMU", "PCMA", "G722"]));
    limits(ObjectBuilder::new(), Some(10))
        .property("description", of([Type::String, Type::Null]).max_length(Some(500)).pattern(Some(LINES)))
        .property("preset", word(PRESETS, Some("custom")).description(Some("The carrier; a label.")))
        .property("inbound_enabled", switch(Some(true)))
        .property("outbound_enabled", switch(Some(true)))
        .property(
            "default_inbound_agent_id",
            line(128).description(Some("Who answers a number that has no agent of its own.")),
        )
        .property(
            "auth_username",
            line(255).description(Some("Set, and cleared with null, together with the password.")),
        )
        .property("auth_password", line(255).write_only(true))
        .property("transport", word(&["udp", "tcp"], Some("udp")))
        .property("outbound_leading_plus_enabled", switch(Some(true)))
        .property("codecs", list(codec, 1, 3).unique_items(true).description(Some("The preferred first.")))
}

fn new_carrier_trunk() -> Schema {
    let pair = ObjectBuilder::new()
        .property("auth_username", filled(255))
        .property("auth_password", filled(255))
        .required("auth_username")
        .required("auth_password");
    let none = ObjectBuilder::new()
        .property("auth_username", of([Type::Null]))
        .property("auth_password", of([Type::Null]));
    AllOfBuilder::new()
        .item(
            carrier_settings()
                .property("name", filled(100).description(Some("Unique in the account.")))
                .property("gateways", list(carrier_gateway(), 0, MOST_GATEWAYS))
                .property("ip_acls", list(range_entry(), 0, trunk_body::MOST_IDENTIFIERS))
                .required("name"),
        )
        .item(AnyOfBuilder::new().item(pair).item(none))
        .into()
}

fn range_entry() -> Schema {
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().property("cidr", range()).required("cidr"))
        .item(range())
        .into()
}

fn carrier_gateway() -> Schema {
    ObjectBuilder::new()
        .property("host", host())
        .property("port", whole(1, 65_535, Some(5060)))
        .property("service_records", service_records())
        .property("priority", whole(0, 65_535, Some(1)).description(Some("Lower goes first.")))
        .required("host")
        .into()
}

fn carrier_number() -> Schema {
    ObjectBuilder::new()
        .property("e164", of([Type::String]).pattern(Some(E164_LONG)).examples(["+919876543210"]))
        .property(
            "destination_key",
            of([Type::String])
                .min_length(Some(1))
                .max_length(Some(64))
                .pattern(Some("^[!-$&-*,-9<-?A-~][!-$&-9<-?A-~]*$"))
                .examples(["919876543210"])
                .description(Some("How the carrier writes it in the Request-URI, without +.")),
        )
        .property("agent_id", line(128).description(Some("Who answers it.")))
        .required("e164")
        .required("destination_key")
        .into()
}
