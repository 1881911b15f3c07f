//! The `registration` of a trunk, in both of Bolna's families: read, checked on the merged whole, shown, and how it
//! stands.
//!
//! It is one object: what is sent replaces the whole, null takes it away. What it leaves out follows from the trunk: the
//! registrar from the first gateway, the address of record from the digest user name.

use serde::Serialize;
use tandem_call::RegistrationStatus;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

use super::trunk_body::host_and_port;
use super::trunk_schemas::{host, maybe_filled, switch, whole};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::times::zulu;
use crate::store::{StoredRegistration, TrunkSettings};

/// The time asked for where none is given: what most registrars grant.
const EXPIRES: u32 = 3_600;
/// The bounds of it: below a minute registrars refuse, beyond a day a lost one is not noticed.
const EXPIRES_BOUNDS: std::ops::RangeInclusive<i64> = 60..=86_400;

/// What a trunk registers at its carrier.
#[derive(Serialize, ToSchema)]
pub(super) struct SipTrunkRegistration {
    /// Whether it does.
    enabled: bool,
    /// Host, or host and port, of the registrar; null is that of the first gateway.
    #[schema(required, example = "sip.example.com:5060")]
    registrar: Option<String>,
    /// The host of the address of record; null is that of the registrar.
    #[schema(required)]
    domain: Option<String>,
    /// The only realm whose challenges are answered; null is any.
    #[schema(required)]
    realm: Option<String>,
    /// The user of the address of record; null is the digest user name.
    #[schema(required)]
    from_user: Option<String>,
    /// The user of the Contact; null is that of the address of record.
    #[schema(required)]
    contact_user: Option<String>,
    /// The time asked for, in seconds.
    #[schema(minimum = 60, maximum = 86_400)]
    expires: u32,
}

/// The object as it is shown.
pub(super) fn shown(stored: &StoredRegistration) -> SipTrunkRegistration {
    let registrar = stored.registrar.as_ref().map(|host| match stored.port {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    });
    SipTrunkRegistration {
        enabled: stored.enabled,
        registrar,
        domain: stored.domain.clone(),
        realm: stored.realm.clone(),
        from_user: stored.from_user.clone(),
        contact_user: stored.contact_user.clone(),
        expires: stored.expires,
    }
}

/// What the body says of it.
pub(super) fn read(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    if !fields.was_sent("registration") {
        return;
    }
    let before = faults.len();
    let Some(given) = fields.object("registration", faults) else {
        if faults.len() == before {
            settings.registration = None;
        }
        return;
    };
    let place = |name: &str, faults: &mut Faults| {
        let text =
            given.text(name, Text::Line(260), faults).map(str::trim).filter(|text| !text.is_empty())?;
        let read = host_and_port(text);
        if read.is_none() {
            faults.push(
                given.location(name),
                format!("{text:?} was given; give a host name or an IP address, such as \"sip.example.com\""),
            );
        }
        read
    };
    let registrar = place("registrar", faults);
    let domain = place("domain", faults);
    if let Some((host, Some(port))) = &domain {
        faults.push(
            given.location("domain"),
            format!(
                "names port {port}; an address of record has none: give {host:?}, and the port to registrar"
            ),
        );
    }
    let line = |name: &str, faults: &mut Faults| {
        let text = given.text(name, Text::Line(255), faults).map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let expires = given.integer("expires", EXPIRES_BOUNDS, faults);
    settings.registration = Some(StoredRegistration {
        enabled: given.switch("enabled", faults).unwrap_or(true),
        port: registrar.as_ref().and_then(|(_, port)| *port),
        registrar: registrar.map(|(host, _)| host),
        domain: domain.map(|(host, _)| host),
        realm: line("realm", faults),
        from_user: line("from_user", faults),
        contact_user: line("contact_user", faults),
        expires: expires.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(EXPIRES),
    });
}

/// What must hold of the whole: there is a user to register, and somewhere to do so.
pub(super) fn rules(settings: &TrunkSettings, faults: &mut Faults) {
    let Some(wanted) = settings.registration.as_ref().filter(|wanted| wanted.enabled) else { return };
    if faults.touches("registration") {
        return;
    }
    let has_pair = settings.auth_username.is_some() && settings.auth_password.is_some();
    if !has_pair && !faults.touches("auth_username") && !faults.touches("auth_password") {
        faults.contradiction(
            "registration.enabled",
            "is true, and the trunk has no user name and password to register with; set auth_username and \
             auth_password (auth_type \"userpass\"), or set registration to null",
        );
    }
    if wanted.registrar.is_none() && settings.gateways.is_empty() && !faults.touches("gateways") {
        faults.contradiction(
            "registration.registrar",
            "is missing, and the trunk has no gateway to register at; name the carrier's registrar, such as \
             \"sip.example.com\"",
        );
    }
}

/// The same for the description of the API.
pub(super) fn schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property("enabled", switch(Some(true)))
        .property("registrar", host())
        .property("domain", host())
        .property("realm", maybe_filled(255).description(Some("The only realm whose challenges are answered.")))
        .property("from_user", maybe_filled(255).description(Some("Instead of the digest user name.")))
        .property("contact_user", maybe_filled(255).description(Some("What the carrier calls; instead of from_user.")))
        .property("expires", whole(60, 86_400, Some(i64::from(EXPIRES))).description(Some("Seconds asked for.")))
        .description(Some(
            "Keeps the trunk's user registered at its carrier, so that calls come to this node. Needs auth_username and \
             auth_password. Replaced as a whole; null takes it away.",
        ))
}

/// Whether the carrier's registrar holds the trunk, as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct SipTrunkRegistrationStatus {
    /// `pending`: not answered yet. `registered`: the registrar holds it, even if the last refresh failed. `failed`: it does
    /// not. `unregistered`: taken back, for the node is about to stop.
    #[schema(example = "registered")]
    state: &'static str,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
    /// Host and port of the registrar.
    registrar: String,
    /// The address that holds it; null while none does.
    #[schema(required)]
    registrar_address: Option<String>,
    /// Who is registered.
    #[schema(example = "sip:alice@sip.example.com")]
    address_of_record: String,
    /// Where calls are asked for, as the registrar repeats it; null while it holds nothing.
    #[schema(required)]
    contact: Option<String>,
    /// This node's address as the registrar sees it (`received` and `rport`); null if it does not say.
    #[schema(required, example = "198.51.100.7:5060")]
    seen_address: Option<String>,
    /// Until when the registrar holds it; null while it does not.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    /// When it is refreshed, or tried again; null while that is under way.
    #[schema(required, format = DateTime)]
    next_attempt_at: Option<String>,
    /// When the last attempt was over; null before the first.
    #[schema(required, format = DateTime)]
    attempted_at: Option<String>,
    /// The SIP status of the last answer; null without one.
    #[schema(required, minimum = 200, maximum = 699)]
    last_code: Option<u16>,
    /// Milliseconds from the last REGISTER to its answer; null without one.
    #[schema(required, minimum = 0)]
    round_trip_ms: Option<f64>,
    /// Attempts that failed in a row.
    #[schema(minimum = 0)]
    failures: u32,
    /// Why the last attempt failed; null when it did not.
    #[schema(required)]
    reason: Option<String>,
    /// What to do about it, or what to look at though it did not fail; null when there is nothing to do.
    #[schema(required)]
    remedy: Option<String>,
}

impl From<RegistrationStatus> for SipTrunkRegistrationStatus {
    fn from(status: RegistrationStatus) -> Self {
        let time = |unix_ms: u64| zulu(i64::try_from(unix_ms).unwrap_or(i64::MAX));
        Self {
            state: status.state.as_str(),
            since: time(status.since_unix_ms),
            registrar: status.registrar,
            registrar_address: status.registrar_address.map(|address| address.to_string()),
            address_of_record: status.address_of_record,
            contact: status.contact,
            seen_address: status.seen.map(|address| address.to_string()),
            expires_at: status.expires_unix_ms.map(time),
            next_attempt_at: status.next_unix_ms.map(time),
            attempted_at: status.attempted_unix_ms.map(time),
            last_code: status.last_code,
            round_trip_ms: status.round_trip.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3),
            failures: status.failures,
            reason: Some(status.reason).filter(|text| !text.is_empty()),
            remedy: Some(status.remedy).filter(|text| !text.is_empty()),
        }
    }
}
