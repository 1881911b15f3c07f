//! The steps of an examination, one after the other; a step that fails leaves out what could not be reached behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tandem_call::location;
use tandem_call::{Gateway, MediaEncryption, RegistrationState, Trunk};
use tandem_media::Codec;
use tandem_sip::auth::Answerer;
use tandem_sip::{HeaderName, Response, Transport};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::probe::{self, Question};
use super::{Check, Doctor, Patient, Record, Step, Verdict};
use crate::clock;
use crate::secrets::random;
use crate::tools::caller::wire::Wire;
use crate::tools::caller::{self, CallPlan, Outcome};
use crate::tools::measure;

/// How long each step over the network may take, but the call.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long the echo call rings at most, and how long it lasts.
const RINGING: Duration = Duration::from_secs(45);
const CALL: Duration = Duration::from_secs(6);
/// What is played, in milliseconds.
const MELODY_MS: usize = 3_000;
/// Gateways examined: beyond these a trunk's list is no more than spare ones.
const GATEWAYS: usize = 8;

/// A gateway or registrar as the trunk has it.
struct Wanted {
    transport: Transport,
    host: String,
    port: Option<u16>,
}

/// Where a gateway or registrar was reached.
#[derive(Clone)]
struct Place {
    host: String,
    transport: Transport,
    remote: SocketAddr,
}

/// A step under way.
struct Begun {
    check: Check,
    target: String,
    unix_ms: u64,
    at: Instant,
}

impl Begun {
    fn new(check: Check, target: impl Into<String>) -> Self {
        Self { check, target: target.into(), unix_ms: clock::unix_ms(), at: clock::now() }
    }

    fn ends(self, verdict: Verdict, detail: impl Into<String>, remedy: impl Into<String>) -> Step {
        Step {
            check: self.check,
            target: self.target,
            verdict,
            started_unix_ms: self.unix_ms,
            took: self.at.elapsed(),
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }

    fn passes(self, detail: impl Into<String>) -> Step {
        self.ends(Verdict::Passed, detail, "")
    }

    fn fails(self, detail: impl Into<String>, remedy: impl Into<String>) -> Step {
        self.ends(Verdict::Failed, detail, remedy)
    }

    fn leaves_out(self, why: impl Into<String>) -> Step {
        self.ends(Verdict::Skipped, why, "")
    }
}

/// Examines the trunk, and writes each step down as it is over.
pub(super) async fn run(doctor: &Doctor, patient: &Patient, record: &Record) {
    let trunk = &patient.trunk;
    let mut gateways: Vec<&Gateway> = trunk.gateways.iter().collect();
    gateways.sort_by_key(|gateway| gateway.priority);
    let mut reached: Option<(Gateway, Place)> = None;
    for gateway in gateways.into_iter().take(GATEWAYS) {
        let wanted = Wanted {
            transport: gateway.transport.unwrap_or(trunk.transport),
            host: gateway.address.clone(),
            port: gateway.port,
        };
        let Some(place) = way(doctor, &wanted, record).await else { continue };
        let is_there = options(doctor, trunk, &wanted, &place, record).await;
        if is_there && reached.is_none() {
            reached = Some((gateway.clone(), place));
        }
    }
    register(doctor, patient, record).await;
    call(doctor, patient, reached, record).await;
}

/// A host and its port as a trunk has them.
fn name(wanted: &Wanted) -> String {
    wanted.port.map_or_else(|| wanted.host.clone(), |port| format!("{}:{port}", wanted.host))
}

/// DNS, TCP and TLS: where it is and that it can be reached.
async fn way(doctor: &Doctor, wanted: &Wanted, record: &Record) -> Option<Place> {
    let begun = Begun::new(Check::Dns, name(wanted));
    let places = match places(doctor, wanted).await {
        Ok(places) => places,
        Err(why) => {
            let remedy = "Check the name for a slip, and that this node's resolver knows it; `dig` helps.";
            record.note(begun.fails(why, remedy));
            return None;
        }
    };
    let told: Vec<String> =
        places.iter().map(|(transport, address)| format!("{} {address}", transport.via_name())).collect();
    record.note(begun.passes(told.join(", ")));
    let (transport, remote) = *places.first()?;
    let place = Place { host: wanted.host.clone(), transport, remote };
    if !transport.is_reliable() {
        return Some(place);
    }
    let begun = Begun::new(Check::Connect, remote.to_string());
    match timeout(PATIENCE, TcpStream::connect(remote)).await {
        Ok(Ok(stream)) => {
            let from = stream.local_addr().map_or_else(|_| String::new(), |local| format!(" from {local}"));
            record.note(begun.passes(format!("TCP connects{from}")));
        }
        Ok(Err(error)) => {
            let remedy = "Check port and transport, and that no firewall is between.";
            record.note(begun.fails(format!("TCP does not connect: {error}"), remedy));
            return None;
        }
        Err(_) => {
            let remedy = "Check port and transport: nothing answers, which is what firewalls do.";
            record.note(begun.fails(format!("no answer within {} seconds", PATIENCE.as_secs()), remedy));
            return None;
        }
    }
    if transport != Transport::Tls {
        return Some(place);
    }
    let begun = Begun::new(Check::Tls, format!("{} at {remote}", place.host));
    match timeout(PATIENCE, Wire::open(transport, remote, &place.host, &doctor.tls)).await {
        Ok(Ok(_)) => record.note(begun.passes(format!("its certificate is good for {}", place.host))),
        Ok(Err(error)) => {
            let remedy = format!(
                "The certificate has to bear the name {} and come from an authority that this machine or sip.tls.gateway_ca \
                 trusts; where the carrier asks for one, sip.tls.certificate is shown.",
                place.host
            );
            record.note(begun.fails(format!("TLS fails: {error}"), remedy));
            return None;
        }
        Err(_) => {
            let remedy =
                "The port takes TCP and no TLS: check that it is the carrier's TLS port, usually 5061.";
            record.note(begun.fails(format!("no TLS within {} seconds", PATIENCE.as_secs()), remedy));
            return None;
        }
    }
    Some(place)
}

/// All addresses that it may be reached at, the first to be tried first.
async fn places(doctor: &Doctor, wanted: &Wanted) -> Result<Vec<(Transport, SocketAddr)>, String> {
    let Wanted { transport, host, port } = wanted;
    let wanted = location::Wanted { transport: Some(*transport), host: host.clone(), port: *port };
    let found =
        doctor.resolver.find(wanted, PATIENCE).await.map_err(|not_found| not_found.why().to_owned())?;
    Ok(found.draw(&mut ChaCha12Rng::from_seed(random())))
}

/// Whether it answers OPTIONS; any final response is a sign of life.
async fn options(doctor: &Doctor, trunk: &Trunk, wanted: &Wanted, place: &Place, record: &Record) -> bool {
    let begun = Begun::new(Check::Options, name(wanted));
    let host = uri_host(&wanted.host);
    let parameter = transport_parameter(place.transport);
    let port = wanted.port.map_or_else(String::new, |port| format!(":{port}"));
    let question = |local: SocketAddr| Question {
        method: "OPTIONS",
        uri: format!("sip:{host}{port}{parameter}"),
        from: format!("sip:{}", uri_host(&local.ip().to_string())),
        to: format!("sip:{host}"),
        credentials: answerer(trunk),
    };
    match ask(doctor, place, question).await {
        Ok(response) => {
            record.note(begun.passes(format!("it answers {}", status_line(&response))));
            true
        }
        Err(error) => {
            let remedy = "Many carriers answer only addresses that they know: have this node's address admitted. Else check \
                          address, port and transport.";
            record.note(begun.fails(format!("{error:#}"), remedy));
            false
        }
    }
}

/// Whether the registrar takes the user name and password, and how the trunk's own registration stands.
async fn register(doctor: &Doctor, patient: &Patient, record: &Record) {
    let trunk = &patient.trunk;
    let Some(wish) = &trunk.registration else {
        let begun = Begun::new(Check::Register, trunk.name.as_str());
        return record.note(begun.leaves_out("the trunk registers nothing"));
    };
    let wanted = Wanted { transport: wish.transport, host: wish.registrar.clone(), port: wish.port };
    let target = name(&wanted);
    if let Some(place) = way(doctor, &wanted, record).await {
        let begun = Begun::new(Check::Register, target.clone());
        let address = format!("sip:{}@{}", wish.user, uri_host(&wish.domain));
        let question = |_| Question {
            method: "REGISTER",
            uri: format!("sip:{}", uri_host(&wish.domain)),
            from: address.clone(),
            to: address.clone(),
            credentials: answerer(trunk).or_else(|| {
                Some(Answerer::new(wish.credential.username.clone(), wish.credential.password.clone()))
            }),
        };
        record.note(match ask(doctor, &place, question).await {
            Ok(response) => registered(begun, &response),
            Err(error) => begun.fails(
                format!("{error:#}"),
                "Check registration.registrar, its port and the trunk's transport; is there a registrar at all?",
            ),
        });
    }
    let begun = Begun::new(Check::Registration, target);
    record.note(match &patient.registration {
        None => begun.leaves_out("it was not begun yet"),
        Some(status) if status.state == RegistrationState::Registered => {
            let seen = status.seen.map_or_else(String::new, |seen| format!(", seen at {seen}"));
            let contact = status.contact.clone().unwrap_or_default();
            begun.ends(Verdict::Passed, format!("the registrar holds {contact}{seen}"), status.remedy.clone())
        }
        Some(status) if status.state == RegistrationState::Failed => {
            begun.fails(status.reason.clone(), status.remedy.clone())
        }
        Some(status) => begun.leaves_out(format!("it is {}", status.state.as_str())),
    });
}

fn registered(begun: Begun, response: &Response) -> Step {
    let told = status_line(response);
    match response.status() {
        200..=299 => {
            let contacts = response.headers(HeaderName::Contact).count();
            begun.passes(format!("it takes the user name and password, and holds {contacts} contacts of the user"))
        }
        401 | 407 => begun.fails(
            format!("it does not accept the user name and password: {told}"),
            "Set auth_username and auth_password to what the carrier gave you.",
        ),
        403 => begun.fails(
            format!("it answers {told}"),
            "The carrier forbids it: check the user, registration.domain, and that it may register from this address.",
        ),
        404 | 410 | 604 => begun.fails(
            format!("it answers {told}"),
            "The carrier does not know the user: check registration.from_user and registration.domain.",
        ),
        405 | 501 => begun.fails(
            format!("it answers {told}"),
            "There is no registrar at this address: check registration.registrar.",
        ),
        _ => begun.fails(format!("it answers {told}"), "Ask the carrier what it means by this answer to REGISTER."),
    }
}

/// Calls the number by the first gateway that answered, plays a melody, and listens for it to come back.
async fn call(doctor: &Doctor, patient: &Patient, reached: Option<(Gateway, Place)>, record: &Record) {
    let Some((number, from)) = &patient.call else { return };
    let begun = Begun::new(Check::Call, number.clone());
    let trunk = &patient.trunk;
    let Some((gateway, place)) = reached else {
        return record.note(begun.leaves_out("no gateway answered"));
    };
    let host = uri_host(&gateway.address);
    let digits = number.trim_start_matches('+');
    let plus = if trunk.outbound_leading_plus { "+" } else { "" };
    let port = gateway.port.map(|port| format!(":{port}")).unwrap_or_default();
    let played: Arc<[i16]> = measure::melody(MELODY_MS).into();
    let credential = trunk.auth.credentials().first();
    let plan = CallPlan {
        uri: format!("sip:{plus}{digits}@{host}{port}{}", transport_parameter(place.transport)),
        from: Some(format!("sip:{}@{host}", trunk.caller_id.as_deref().unwrap_or(from))),
        transport: place.transport,
        srtp: trunk.media_encryption == MediaEncryption::Sdes
            && !trunk.media_encryption_optimistic
            && place.transport == Transport::Tls,
        authority: None,
        credentials: credential.map(|one| (one.username.clone(), one.password.clone())),
        codecs: if trunk.codecs.is_empty() { vec![Codec::PCMU, Codec::PCMA] } else { trunk.codecs.clone() },
        play: Arc::clone(&played),
        digits: String::new(),
        duration: CALL,
    };
    let (notices, mut told) = mpsc::channel(64);
    let listening = tokio::spawn(async move { while told.recv().await.is_some() {} });
    let outcome = timeout(RINGING + CALL, Box::pin(caller::place_with(plan, &doctor.tls, notices))).await;
    listening.abort();
    match outcome {
        Ok(Ok(outcome)) => {
            let answered = outcome.answered_after.is_some();
            record.note(called(begun, &outcome));
            if answered {
                let number = number.clone();
                // Looking for one signal in another takes a processor for a while: not one that calls wait for.
                let compared = tokio::task::spawn_blocking(move || heard(&number, &played, &outcome)).await;
                if let Ok(step) = compared {
                    record.note(step);
                }
            }
        }
        Ok(Err(error)) => {
            record.note(
                begun.fails(format!("{error:#}"), "Look at the steps before: the gateway is not reached."),
            );
        }
        Err(_) => record.note(begun.fails(
            format!("nobody answered within {} seconds", RINGING.as_secs()),
            "Give a number that answers by itself, such as the carrier's echo test.",
        )),
    }
}

fn called(begun: Begun, outcome: &Outcome) -> Step {
    match outcome.answered_after {
        Some(after) => begun.passes(format!("answered after {} ms", after.as_millis())),
        None => begun.fails(
            outcome.ending.clone(),
            "Look at the status: 401, 403 and 407 are about who you are, 404 and 484 about how the number is written \
             (outbound_leading_plus_enabled), 488 about the codec.",
        ),
    }
}

fn heard(number: &str, played: &[i16], outcome: &Outcome) -> Step {
    let begun = Begun::new(Check::Audio, number.to_owned());
    let received = outcome.statistics.as_ref().map_or(0, |statistics| statistics.packets_received);
    if received == 0 {
        return begun.fails(
            "no audio comes from the carrier",
            "Open the RTP ports (media.ports) for UDP, and check media.public_address if this node is behind NAT.",
        );
    }
    match measure::compare(played, &outcome.heard) {
        Some(echo) => begun.passes(format!(
            "both ways: what was played came back after {:.0} ms at {:+.1} dB, {:.1} % of it lost",
            echo.delay_ms,
            echo.level_change_db,
            echo.lost_share() * 100.0
        )),
        None => begun.fails(
            format!("{received} packets came from the carrier, and what was played did not come back"),
            "If the number is one that echoes, our audio does not reach the carrier: let UDP out from media.ports, and check \
             media.public_address. Else give a number that echoes.",
        ),
    }
}

/// Opens a way of its own and asks.
async fn ask(
    doctor: &Doctor,
    place: &Place,
    question: impl FnOnce(SocketAddr) -> Question,
) -> anyhow::Result<Response> {
    let opening = Wire::open(place.transport, place.remote, &place.host, &doctor.tls);
    let mut wire = timeout(PATIENCE, opening).await??;
    let question = question(wire.flow().local);
    probe::ask(&mut wire, question, PATIENCE).await
}

fn answerer(trunk: &Trunk) -> Option<Answerer> {
    let credential = trunk.auth.credentials().first()?;
    let answerer = Answerer::new(credential.username.clone(), credential.password.clone());
    Some(match trunk.registration.as_ref().and_then(|wish| wish.realm.clone()) {
        Some(realm) => answerer.only_for(realm),
        None => answerer,
    })
}

fn status_line(response: &Response) -> String {
    format!("{} {}", response.status(), String::from_utf8_lossy(response.reason())).trim().to_owned()
}

fn transport_parameter(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
        Transport::Tls => ";transport=tls",
    }
}

/// A host as it stands in a URI: IPv6 in brackets.
fn uri_host(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() }
}
