//! What a customer asks about routing: `/v1/route-test` (what would become of this INVITE), `/v1/numbers/{number}`
//! (which trunk has it), `/v1/connection` (what to whitelist and where to send).
//!
//! A route test takes nothing and sends nothing. It tells of the caller's own account alone: a number of somebody
//! else's is answered as one that nobody has.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use tandem_call::{AccountId, DryRun, Verdict, VerdictCode};
use tandem_sip::Transport;
use tokio::sync::oneshot;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::verdicts::ShownVerdict;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::{App, CallCommand, RouteTest, schemas};
use crate::ids;

/// The port a source is taken to have when none is given.
const USUAL_PORT: u16 = 5060;

/// Longest header, Request-URI or address of record.
const MOST_LINE: usize = 1_024;

/// Most further headers.
pub(in crate::api) const MOST_HEADERS: usize = 64;

/// Longest SDP.
const MOST_SDP: usize = 16 * 1024;

/// An offer as most carriers send it, for a question that brings none.
const USUAL_OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// Headers that the question makes itself.
const OWN_HEADERS: &[&str] = &[
    "via",
    "v",
    "from",
    "f",
    "to",
    "t",
    "call-id",
    "i",
    "cseq",
    "contact",
    "m",
    "content-length",
    "l",
    "max-forwards",
    "content-type",
    "c",
    "authorization",
    "proxy-authorization",
];

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(route_test)).routes(routes!(number)).routes(routes!(connection))
}

/// An INVITE that never came.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct RouteTestBody {
    /// The address it would come from, with or without a port.
    #[schema(schema_with = schemas::address)]
    source: String,
    /// By which transport: `udp`, `tcp` or `tls`; without it: `udp`.
    #[schema(required = false, inline)]
    transport: Option<TransportWord>,
    /// Its Request-URI.
    #[schema(
        min_length = 1,
        max_length = 1024,
        pattern = r"^[!-9;-~]+:[!-~]*$",
        example = "sip:+14155550100@voice.example"
    )]
    request_uri: String,
    /// Its To header; without it: the Request-URI.
    #[schema(max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    to: Option<String>,
    /// Its From header; without it: an anonymous one.
    #[schema(max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    from: Option<String>,
    /// Further headers by name.
    #[schema(required = false, schema_with = schemas::sip_headers)]
    headers: Option<std::collections::BTreeMap<String, String>>,
    /// Its SDP; without it: PCMU and PCMA over plain RTP. An empty text means an INVITE without an offer.
    #[schema(max_length = 16384, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$", required = false)]
    sdp: Option<String>,
    /// A trunk of the account whose credentials it would carry.
    #[schema(max_length = 1024, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    authenticated_as: Option<String>,
}

/// A transport of SIP.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
enum TransportWord {
    Udp,
    Tcp,
    Tls,
}

/// Which trunk has a number.
#[derive(Serialize, ToSchema)]
struct NumberPlace {
    /// The number as its owner wrote it.
    phone_number: String,
    /// Its identifier.
    phone_number_id: String,
    /// The trunk it is on.
    trunk_id: String,
    /// The agent that answers.
    #[schema(required)]
    agent_id: Option<String>,
    /// Whether it is switched on.
    is_active: bool,
}

/// The trunks of the account that have a number: an active one at most, and others that are switched off.
#[derive(Serialize, ToSchema)]
struct NumberPlaces {
    /// One for each trunk.
    data: Vec<NumberPlace>,
}

/// What a customer needs to connect.
#[derive(Serialize, ToSchema)]
struct Connection {
    /// The node that answers.
    node: String,
    /// Where it takes SIP.
    signalling: Vec<Listener>,
    /// Where its audio comes from and goes to.
    media: MediaPlace,
    /// SHA-256 of the certificate it shows over TLS, hex with colons; null without TLS.
    #[schema(required)]
    tls_certificate_sha256: Option<String>,
    /// Codecs it speaks.
    codecs: Vec<&'static str>,
}

/// A SIP listener.
#[derive(Serialize, ToSchema)]
struct Listener {
    /// `udp`, `tcp` or `tls`.
    transport: &'static str,
    /// The address that customers use; `0.0.0.0` where the node does not know it.
    address: String,
    /// The port.
    port: u16,
}

/// Where audio flows.
#[derive(Serialize, ToSchema)]
struct MediaPlace {
    /// The address that SDP names; null where it is that of the interface a call comes in by.
    #[schema(required)]
    address: Option<String>,
    /// The first UDP port.
    first_port: u16,
    /// The last UDP port.
    last_port: u16,
}

pub(super) fn source_of(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, USUAL_PORT)))
}

/// Text that stands in one line of a SIP message.
fn line(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    fields
        .text(name, Text::Line(MOST_LINE), faults)
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

fn headers_of(fields: &Fields<'_>, faults: &mut Faults) -> String {
    let Some(headers) = fields.object("headers", faults) else { return String::new() };
    let mut text = String::new();
    if headers.entries().count() > MOST_HEADERS {
        faults.push(
            "headers",
            format!("more than {MOST_HEADERS} were given; leave out those that do not matter"),
        );
        return text;
    }
    for (name, _) in headers.entries() {
        let location = format!("headers.{name}");
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_token) {
            faults.push(location, "is no header's name; give one such as X-Customer");
        } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let headline = "A header is the test's own";
            let message = "is made by the test itself; leave it out";
            faults.constant(StatusCode::UNPROCESSABLE_ENTITY, headline, location, message);
        } else if headers.value(name).is_none() {
            faults.push(location, "null was given; give text in quotes, or leave the header out");
        } else if let Some(value) = headers.text(name, Text::Line(MOST_LINE), faults) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text
}

/// What the body asks, as an INVITE on the wire.
fn question(object: &serde_json::Map<String, serde_json::Value>, faults: &mut Faults) -> Option<DryRun> {
    let fields = Fields::new(object, "");
    let source = fields.text("source", Text::Line(64), faults).and_then(|text| {
        let source = source_of(text);
        if source.is_none() {
            faults.push(
                "source",
                format!("{text:?} was given; give an address such as 192.0.2.9 or 192.0.2.9:5060"),
            );
        }
        source
    });
    if source.is_none() && !faults.touches("source") {
        faults.push("source", "is missing; give the address that the INVITE would come from");
    }
    let words = ["udp", "tcp", "tls"];
    let read = |word: &str| match word {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        "tls" => Some(Transport::Tls),
        _ => None,
    };
    let transport = fields.word("transport", &words, read, faults).unwrap_or(Transport::Udp);
    let request_uri = line(&fields, "request_uri", faults);
    if request_uri.as_ref().is_some_and(|uri| uri.contains(char::is_whitespace) || !uri.contains(':')) {
        faults.push("request_uri", "is no URI; give one such as sip:+14155550100@voice.example");
    } else if request_uri.is_none() && !faults.touches("request_uri") {
        faults.push("request_uri", "is missing or empty; give one such as sip:+14155550100@voice.example");
    }
    let to = line(&fields, "to", faults);
    let from = line(&fields, "from", faults);
    let headers = headers_of(&fields, faults);
    let sdp = fields
        .text("sdp", Text::Lines(MOST_SDP), faults)
        .map(|sdp| sdp.replace("\r\n", "\n").replace('\n', "\r\n"));
    let proven = line(&fields, "authenticated_as", faults);
    let (source, request_uri) = (source?, request_uri?);
    let tag = |value: String| if value.contains(";tag=") { value } else { format!("{value};tag=route-test") };
    let bracketed = |value: String| if value.contains('<') { value } else { format!("<{value}>") };
    let to = bracketed(to.unwrap_or_else(|| request_uri.clone()));
    let from = tag(bracketed(from.unwrap_or_else(|| "sip:anonymous@anonymous.invalid".to_owned())));
    let sdp = sdp.unwrap_or_else(|| USUAL_OFFER.to_owned());
    let content_type = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let branch = ids::uuid();
    let message = format!(
        "INVITE {request_uri} SIP/2.0\r\nVia: SIP/2.0/{via} {source};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {branch}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:route-test@{source}>\r\n{headers}{content_type}Content-Length: {length}\r\n\r\n{sdp}",
        via = transport.uri_name().to_ascii_uppercase(),
        length = sdp.len(),
    );
    Some(DryRun { message: Bytes::from(message), source, transport, proven: proven.map(Into::into) })
}

/// What would become of an INVITE, by the code that decides on those that come: routing, the protocol's rules, and
/// the limits as they stand now.
#[utoipa::path(post, path = "/v1/route-test", tag = "routing", request_body = RouteTestBody,
    responses((status = 200, body = ShownVerdict), Refusals, Missing, BadBody))]
async fn route_test(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Json<ShownVerdict>> {
    caller.may("trunks:read")?;
    let mut faults = Faults::default();
    let asked = question(&object, &mut faults);
    faults.finish()?;
    let asked = asked.expect("a body without faults is a question");
    if let Some(trunk) = &asked.proven {
        app.store().trunk(&caller.account, trunk.as_str()).await.map_err(|error| {
            let error = ApiError::from(error);
            if error.status == StatusCode::NOT_FOUND {
                return ApiError::not_found("Trunk not found")
                    .at("authenticated_as", "no trunk of this account has this id");
            }
            error
        })?;
    }
    // By the whole table, as whoever is refused is.
    app.table().await?;
    let (answer, answered) = oneshot::channel();
    app.command(CallCommand::RouteTest(RouteTest::new(asked, answer)))?;
    let verdict = answered.await.map_err(|_| ApiError::unavailable("The node is stopping"))?;
    let verdict = verdict.map_err(|why| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("That is no INVITE: {why}"))
            .at("request_uri", format!("the message that the fields make cannot be read: {why}"))
    })?;
    Ok(Json(ShownVerdict::of(own_view(verdict, &caller))))
}

/// What this account may know of a verdict: of another's number, no more than of one that nobody has.
fn own_view(mut verdict: Verdict, caller: &Caller) -> Verdict {
    let own = AccountId::from(caller.account.as_str());
    let is_foreign = verdict.account.as_ref().is_some_and(|account| *account != own);
    if is_foreign && !caller.is_operator() {
        verdict.conclude(VerdictCode::NumberUnknown);
        verdict.trunk = None;
        verdict.number = None;
        verdict.agent = None;
        verdict.trace.clear();
        verdict.near_misses.clear();
    }
    verdict
}

/// Which trunk of the account has a number, with or without `+`.
#[utoipa::path(get, path = "/v1/numbers/{number}", tag = "routing",
    params(("number" = String, Path, description = "The number, such as +14155550100", example = "+14155550100")),
    responses((status = 200, body = NumberPlaces), Refusals, Missing))]
async fn number(
    State(app): State<App>,
    caller: Caller,
    Path(number): Path<String>,
) -> ApiResult<Json<NumberPlaces>> {
    caller.may("trunks:read")?;
    let found = app.store().numbers_called(&caller.account, &number).await?;
    if found.is_empty() {
        return Err(ApiError::not_found("Number not found")
            .at("number", "no trunk of this account has this number; a leading + makes no difference"));
    }
    let place = |number: crate::store::StoredNumber| NumberPlace {
        phone_number: number.number.phone_number,
        phone_number_id: number.id,
        trunk_id: number.trunk,
        agent_id: number.agent,
        is_active: number.number.is_active,
    };
    Ok(Json(NumberPlaces { data: found.into_iter().map(place).collect() }))
}

/// What a customer needs to connect: addresses, ports, transports, media ports, the certificate's fingerprint.
#[utoipa::path(get, path = "/v1/connection", tag = "routing", responses((status = 200, body = Connection), Refusals))]
async fn connection(State(app): State<App>, caller: Caller) -> ApiResult<Json<Connection>> {
    caller.may("trunks:read")?;
    let config = app.config();
    let public = config.sip.public_address;
    let listener = |transport: &'static str, address: &SocketAddr| Listener {
        transport,
        address: public.unwrap_or(address.ip()).to_string(),
        port: address.port(),
    };
    let udp = config.sip.udp.iter().map(|address| listener("udp", address));
    let tcp = config.sip.tcp.iter().map(|address| listener("tcp", address));
    let tls = config.sip.tls.listen.iter().map(|address| listener("tls", address));
    let ports = config.media.ports;
    Ok(Json(Connection {
        node: config.node_name(),
        signalling: udp.chain(tcp).chain(tls).collect(),
        media: MediaPlace {
            address: config.media_address().map(|address| address.to_string()),
            first_port: ports.first,
            last_port: ports.last,
        },
        tls_certificate_sha256: fingerprint(config).await,
        codecs: vec!["PCMU", "PCMA"],
    }))
}

/// SHA-256 of the first certificate of the configured file.
async fn fingerprint(config: &crate::config::Config) -> Option<String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use sha2::{Digest as _, Sha256};
    let path = config.sip.tls.certificate.as_ref().filter(|_| !config.sip.tls.listen.is_empty())?;
    let pem = tokio::fs::read(path).await.ok()?;
    let first = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
    let digest = Sha256::digest(first.as_ref());
    Some(digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}
