//! Registrations: kept, refused, changed, taken back; and the calls that come by them. RFC 3261 section 10.2, and what
//! ETSI TS 102 027-2 asks of a client of registrars (RG_RT).

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use std::sync::Arc;
use std::time::Duration;

use tandem_call::{
    Check, Credential, DryRun, EngineConfig, Input, Registration, RegistrationState, RegistrationStatus,
    RoutingTable, Trunk, TrunkAuth, VerdictCode,
};
use tandem_sip::{Flow, Transport};

use crate::desk::{Caller, Desk, LOCAL, house_with};

/// The registrar, in no trunk's ranges.
const REGISTRAR: &str = "198.51.100.5:5060";
/// 64*T1: when a REGISTER is given up (RFC 3261 section 17.1.2.2).
const GIVEN_UP: Duration = Duration::from_secs(32);
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn wish() -> Registration {
    Registration {
        registrar: "198.51.100.5".to_owned(),
        port: None,
        transport: Transport::Udp,
        domain: "carrier.example".to_owned(),
        realm: None,
        user: "alice".to_owned(),
        contact_user: "alice".to_owned(),
        expires_s: 3600,
        credential: Credential { username: "alice".to_owned(), password: "secret".to_owned() },
    }
}

/// A house whose trunk `ta` proves itself by digest and registers.
fn house(change: impl FnOnce(&mut Trunk)) -> RoutingTable {
    house_with(|trunks| {
        trunks[0].auth = TrunkAuth::user_pass("alice", "secret");
        trunks[0].sources.clear();
        trunks[0].registration = Some(wish());
        change(&mut trunks[0]);
    })
}

fn desk() -> Desk {
    desk_with(|_| {})
}

fn desk_with(change: impl FnOnce(&mut Trunk)) -> Desk {
    let mut desk = Desk::with(EngineConfig::default(), house(change));
    desk.input(Input::TrunksChanged(vec!["ta".into()]));
    desk.advance(Duration::from_millis(1));
    desk
}

/// The trunk `ta` is changed, and the engine told.
fn change(desk: &mut Desk, change: impl FnOnce(&mut Trunk)) {
    desk.input(Input::Routing(Arc::new(house(change))));
    desk.input(Input::TrunksChanged(vec!["ta".into()]));
    // Attempts are 20 ms apart.
    desk.advance(Duration::from_millis(21));
}

fn registers(desk: &Desk) -> Vec<&String> {
    desk.sent.iter().filter(|text| text.starts_with("REGISTER ")).collect()
}

fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let lines = message.lines().take_while(|line| !line.is_empty());
    let mut found = lines.filter_map(|line| line.split_once(": ")).filter(|(known, _)| *known == name);
    found.next().map(|(_, value)| value).unwrap_or_default()
}

fn cseq(message: &str) -> u32 {
    header(message, "CSeq").split(' ').next().unwrap().parse().unwrap()
}

/// Answers the latest REGISTER; `headers` each end their line.
fn answer(desk: &mut Desk, status: &str, headers: &str) {
    answer_seen(desk, status, headers, "");
}

fn answer_seen(desk: &mut Desk, status: &str, headers: &str, via: &str) {
    let request = desk.last("REGISTER sip:");
    let copied = ["From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(&request, name)));
    let response = format!(
        "SIP/2.0 {status}\r\nVia: {}\r\n{}To: {};tag=far\r\n{headers}Content-Length: 0\r\n\r\n",
        if via.is_empty() {
            header(&request, "Via").to_owned()
        } else {
            header(&request, "Via").replace(";rport", via)
        },
        copied.concat(),
        header(&request, "To"),
    );
    desk.receive(REGISTRAR, &response);
}

/// Grants the latest REGISTER this many seconds.
fn grant(desk: &mut Desk, seconds: u64) {
    let contact =
        header(&desk.last("REGISTER sip:"), "Contact").split(";expires=").next().unwrap().to_owned();
    answer(desk, "200 OK", &format!("Contact: {contact};expires={seconds}\r\n"));
}

fn challenge(nonce: &str) -> String {
    format!(
        "WWW-Authenticate: Digest realm=\"carrier.example\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256\r\n"
    )
}

fn status(desk: &Desk) -> RegistrationStatus {
    desk.registrations[&"ta".into()].clone().unwrap()
}

fn state(desk: &Desk) -> RegistrationState {
    status(desk).state
}

/// Until when nothing is sent any more, at most.
fn wait_for_register(desk: &mut Desk, most: Duration) -> Duration {
    let (before, end) = (registers(desk).len(), desk.now + most);
    let from = desk.now;
    while registers(desk).len() == before {
        let (at, _) = desk.engine.poll_timeout().filter(|(at, _)| *at <= end).unwrap();
        desk.now = at;
        desk.input(Input::Timeout);
    }
    desk.now - from
}

/// RFC 3261 section 10.2: a whole REGISTER. The Contact names the binding.
#[test]
fn a_trunk_registers_its_user_with_a_contact_that_names_it() {
    let desk = desk();
    let register = desk.last("REGISTER");
    assert_eq!(register.lines().next().unwrap(), "REGISTER sip:carrier.example SIP/2.0");
    assert_eq!(header(&register, "To"), "<sip:alice@carrier.example>");
    assert!(header(&register, "From").starts_with("<sip:alice@carrier.example>;tag="));
    assert_eq!(header(&register, "Contact"), format!("<sip:alice@{LOCAL};line=ta>;expires=3600"));
    assert_eq!((header(&register, "Expires"), cseq(&register)), ("3600", 1));
    assert!(header(&register, "Via").contains(";rport"));
    assert_eq!((header(&register, "Authorization"), header(&register, "Max-Forwards")), ("", "70"));
    assert_eq!(state(&desk), RegistrationState::Pending);
}

/// RG_RT: refreshed before the granted expiry, which goes before what was asked for, within one Call-ID and with rising
/// CSeq.
#[test]
fn a_registration_is_refreshed_before_what_was_granted_is_over() {
    for granted in [4, 30, 60, 600, 3600] {
        let mut desk = desk();
        let (mut last, first) = (0, desk.last("REGISTER"));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let register = desk.last("REGISTER");
            assert!(cseq(&register) > last, "CSeq rises");
            last = cseq(&register);
            assert_eq!(header(&register, "Call-ID"), header(&first, "Call-ID"));
            assert_eq!(header(&register, "Contact"), header(&first, "Contact"));
            grant(&mut desk, granted);
            let known = status(&desk);
            assert_eq!((known.state, known.last_code), (RegistrationState::Registered, Some(200)));
            pauses.push(wait_for_register(&mut desk, Duration::from_secs(granted)));
        }
        let (least, most) = (Duration::from_secs(granted) / 2, Duration::from_secs(granted) * 3 / 4);
        assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{granted}: {pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "what began together does not stay together");
    }
}

/// RFC 3261 section 10.2.8 and RG_RT: 423 is obeyed, at once and from then on.
#[test]
fn a_registrar_that_wants_longer_is_asked_for_longer() {
    let mut desk = desk();
    answer(&mut desk, "423 Interval Too Brief", "Min-Expires: 7200\r\n");
    let again = desk.last("REGISTER");
    assert_eq!((header(&again, "Expires"), cseq(&again)), ("7200", 2));
    grant(&mut desk, 7200);
    wait_for_register(&mut desk, 2 * HOUR);
    assert_eq!(header(&desk.last("REGISTER"), "Expires"), "7200");
    // One that asks for more and more goes round in circles.
    let before = registers(&desk).len();
    for seconds in [8000, 9000, 10_000, 11_000, 12_000] {
        answer(&mut desk, "423 Interval Too Brief", &format!("Min-Expires: {seconds}\r\n"));
    }
    assert_eq!(registers(&desk).len() - before, 3);
    assert!(status(&desk).remedy.contains("registration.expires"), "{:?}", status(&desk));
}

/// RFC 3261 section 22, RFC 7616 section 3.4: a challenge is answered once, its nonce serves the refreshes with rising
/// counts, and a fresh one is taken after success, whether the old one is called stale or not.
#[test]
fn challenges_are_answered_and_nonces_serve_refreshes() {
    let mut desk = desk();
    answer(&mut desk, "401 Unauthorized", &challenge("one"));
    let second = desk.last("REGISTER");
    let told = header(&second, "Authorization");
    assert!(told.contains("nonce=\"one\"") && told.contains("nc=00000001"), "{told}");
    assert!(told.contains("uri=\"sip:carrier.example\"") && told.contains("algorithm=SHA-256"), "{told}");
    grant(&mut desk, 60);
    wait_for_register(&mut desk, HOUR);
    let refresh = desk.last("REGISTER");
    let told = header(&refresh, "Authorization");
    assert!(told.contains("nonce=\"one\"") && told.contains("nc=00000002"), "{told}");
    answer(&mut desk, "401 Unauthorized", &challenge("two"));
    let told = desk.last("REGISTER");
    assert!(header(&told, "Authorization").contains("nonce=\"two\""), "{told}");
    grant(&mut desk, 60);
    assert_eq!(state(&desk), RegistrationState::Registered);
    assert_eq!(status(&desk).failures, 0);
}

/// A wrong password is sent once, not again and again: a carrier locks accounts for less. Its reason and remedy are shown,
/// the password is not.
#[test]
fn a_wrong_password_is_told_and_not_repeated() {
    let mut desk = desk();
    answer(&mut desk, "401 Unauthorized", &challenge("one"));
    answer(&mut desk, "401 Unauthorized", &challenge("two"));
    assert_eq!(registers(&desk).len(), 2);
    let known = status(&desk);
    assert_eq!((known.state, known.last_code, known.failures), (RegistrationState::Failed, Some(401), 1));
    assert!(
        known.reason.contains("user name and password") && known.remedy.contains("auth_password"),
        "{known:?}"
    );
    assert!(!format!("{known:?}").contains("secret"));
    let pause = wait_for_register(&mut desk, HOUR);
    assert!(pause >= Duration::from_secs(30), "{pause:?}");
    assert_eq!(
        header(&desk.last("REGISTER"), "Authorization"),
        "",
        "a new attempt waits for a new challenge"
    );
}

/// The password goes to the realm that it is for.
#[test]
fn a_realm_that_is_not_the_trunks_gets_no_answer() {
    let mut desk = desk_with(|trunk| trunk.registration.as_mut().unwrap().realm = Some("home".to_owned()));
    answer(&mut desk, "401 Unauthorized", &challenge("one"));
    assert_eq!(registers(&desk).len(), 1);
    assert!(status(&desk).remedy.contains("registration.realm"), "{:?}", status(&desk));
}

/// 403 and its like: pauses grow, vary, and are bounded; why is shown.
#[test]
fn a_registrar_that_forbids_is_asked_ever_less_often() {
    let mut desk = desk();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        answer(&mut desk, "403 Not With Us", "");
        assert!(status(&desk).reason.contains("403 Not With Us"));
        pauses.push(wait_for_register(&mut desk, HOUR));
    }
    assert!(pauses[0] >= Duration::from_secs(30) && pauses[0] <= Duration::from_secs(60), "{pauses:?}");
    assert!(pauses[9] >= Duration::from_secs(900) && pauses[9] <= Duration::from_secs(1800), "{pauses:?}");
    assert!(pauses.windows(2).take(4).all(|pair| pair[1] > pair[0]), "{pauses:?}");
    answer(&mut desk, "503 Busy", "Retry-After: 600\r\n");
    let pause = wait_for_register(&mut desk, HOUR);
    assert!(pause >= Duration::from_secs(600) && pause <= Duration::from_secs(750), "{pause:?}");
}

/// RG_RT, timers E and F: repeated at T1 doubling to T2, given up after 64*T1; then the name's next address at once.
#[test]
fn a_silent_registrar_is_repeated_to_given_up_and_passed_over() {
    let mut desk = Desk::with(
        EngineConfig::default(),
        house(|trunk| trunk.registration.as_mut().unwrap().registrar = "reg.carrier.example".to_owned()),
    );
    let addresses = ["198.51.100.4:5060", "198.51.100.5:5060"].map(|address| address.parse().unwrap());
    desk.names.insert("reg.carrier.example".to_owned(), addresses.to_vec());
    desk.input(Input::TrunksChanged(vec!["ta".into()]));
    desk.advance(GIVEN_UP - Duration::from_millis(1));
    let sent = registers(&desk);
    assert_eq!(sent.len(), 11, "0, 0.5, 1.5, 3.5, then every 4 seconds");
    assert!(sent.iter().all(|one| *one == sent[0]), "repeats are the same bytes");
    desk.advance(Duration::from_millis(2));
    let other = desk.last("REGISTER");
    assert!(cseq(&other) > 1 && header(&other, "Via") != header(&desk.sent[0].clone(), "Via"));
    grant(&mut desk, 60);
    let known = status(&desk);
    assert_eq!(known.state, RegistrationState::Registered);
    assert_eq!(known.registrar_address, Some(REGISTRAR.parse().unwrap()));
    assert_eq!(known.registrar, "reg.carrier.example");
}

/// What was granted holds though a refresh fails, and not a moment longer.
#[test]
fn a_registration_holds_until_what_was_granted_is_over() {
    let mut desk = desk();
    grant(&mut desk, 600);
    let granted = desk.now;
    wait_for_register(&mut desk, HOUR);
    answer(&mut desk, "403 Forbidden", "");
    let known = status(&desk);
    assert_eq!((known.state, known.last_code), (RegistrationState::Registered, Some(403)));
    assert!(known.contact.is_some() && known.reason.contains("403"));
    while desk.now < granted + Duration::from_secs(600) - Duration::from_millis(1) {
        desk.advance(Duration::from_secs(600) - Duration::from_millis(1) - (desk.now - granted));
        assert_eq!(state(&desk), RegistrationState::Registered);
    }
    desk.advance(Duration::from_millis(2));
    let known = status(&desk);
    assert_eq!((known.state, known.contact, known.expires_unix_ms), (RegistrationState::Failed, None, None));
}

/// RG_RT: what is registered is taken back when its trunk goes, with the Contact that the registrar holds, answering its
/// challenge; what is not registered says nothing.
#[test]
fn a_trunk_that_goes_is_taken_back() {
    let mut desk = desk();
    grant(&mut desk, 60);
    let held = desk.last("REGISTER");
    change(&mut desk, |trunk| trunk.registration = None);
    assert_eq!(desk.registrations[&"ta".into()], None);
    let farewell = desk.last("REGISTER");
    let contact = header(&held, "Contact").split(";expires=").next().unwrap();
    assert_eq!(header(&farewell, "Contact"), format!("{contact};expires=0"));
    assert_eq!((header(&farewell, "Expires"), header(&farewell, "Call-ID")), ("0", header(&held, "Call-ID")));
    assert_eq!(desk.engine.unregistering(), 1);
    answer(&mut desk, "401 Unauthorized", &challenge("bye"));
    let again = desk.last("REGISTER");
    assert!(header(&again, "Authorization").contains("nonce=\"bye\""));
    assert_eq!(header(&again, "Contact"), format!("{contact};expires=0"));
    answer(&mut desk, "200 OK", "");
    assert_eq!(desk.engine.unregistering(), 0);
    desk.advance(HOUR);
    desk.assert_empty();

    let mut desk = self::desk();
    answer(&mut desk, "403 Forbidden", "");
    let before = registers(&desk).len();
    change(&mut desk, |trunk| trunk.is_active = false);
    desk.advance(HOUR);
    assert_eq!(registers(&desk).len(), before);
    desk.assert_empty();
}

/// One that goes while its REGISTER is under way is taken back if that succeeds.
#[test]
fn a_trunk_that_goes_in_the_middle_is_taken_back_after_all() {
    let mut desk = desk();
    change(&mut desk, |trunk| trunk.registration = None);
    assert_eq!(registers(&desk).len(), 1);
    grant(&mut desk, 60);
    assert_eq!(header(&desk.last("REGISTER"), "Expires"), "0");
    answer(&mut desk, "200 OK", "");
    desk.assert_empty();
}

/// Editing a trunk touches its binding only where the binding changed, and nobody else's ever.
#[test]
fn a_change_touches_no_more_than_it_must() {
    let mut desk = desk();
    grant(&mut desk, 3600);
    let before = registers(&desk).len();
    change(&mut desk, |trunk| {
        trunk.name = "renamed".into();
        trunk.limits.calls_total = Some(3);
        trunk.sources = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
    });
    assert_eq!(registers(&desk).len(), before, "what does not concern the binding leaves it alone");
    change(&mut desk, |trunk| trunk.registration.as_mut().unwrap().credential.password = "other".to_owned());
    assert_eq!(registers(&desk).len(), before + 1, "a new password is tried at once");
    assert_eq!(header(&desk.last("REGISTER"), "Expires"), "3600", "within the same binding");
    grant(&mut desk, 3600);
    // Another user is another binding: the old one goes first, for a registrar may forget both at one word.
    change(&mut desk, |trunk| trunk.registration.as_mut().unwrap().user = "bob".to_owned());
    let farewell = desk.last("REGISTER");
    assert_eq!((header(&farewell, "To"), header(&farewell, "Expires")), ("<sip:alice@carrier.example>", "0"));
    answer(&mut desk, "200 OK", "");
    desk.advance(Duration::from_millis(30));
    let fresh = desk.last("REGISTER");
    assert_eq!(header(&fresh, "To"), "<sip:bob@carrier.example>");
    assert_ne!(header(&fresh, "Call-ID"), header(&farewell, "Call-ID"));
}

/// A thousand of them: none in a burst at the start, none when the registrar comes back, and each by itself.
#[test]
fn many_begin_and_come_back_one_by_one() {
    const TRUNKS: usize = 1000;
    let table = house_with(|trunks| {
        trunks.clear();
        trunks.extend((0..TRUNKS).map(|number| {
            let mut trunk = Trunk::new(format!("t{number}"), "a", format!("t{number}"));
            trunk.registration = Some(Registration { user: format!("u{number}"), ..wish() });
            trunk
        }));
    });
    let mut desk = Desk::with(EngineConfig::default(), table);
    let start = desk.now;
    desk.input(Input::TrunksChanged((0..TRUNKS).map(|number| format!("t{number}").into()).collect()));
    let mut by_second = std::collections::BTreeMap::<u64, usize>::new();
    let mut calls = std::collections::BTreeSet::new();
    let mut count = |desk: &mut Desk| {
        for text in std::mem::take(&mut desk.sent) {
            // Repeats are the transaction's own.
            if calls.insert((header(&text, "Call-ID").to_owned(), cseq(&text))) {
                *by_second.entry((desk.now - start).as_secs()).or_default() += 1;
            }
        }
    };
    // The registrar is silent for ten minutes: everybody gives up and tries again, on and on.
    while desk.now - start < Duration::from_secs(600) {
        desk.advance(Duration::from_millis(500));
        count(&mut desk);
    }
    assert_eq!((0..=20).map(|second| by_second[&second]).sum::<usize>(), TRUNKS);
    assert!(by_second.values().all(|number| *number <= 51), "{by_second:?}");
}

/// The node stops: whoever is registered is taken back, one by one and soon.
#[test]
fn a_node_that_stops_takes_all_back() {
    let mut desk = desk();
    grant(&mut desk, 3600);
    desk.input(Input::Drain { until: desk.now + HOUR });
    assert_eq!(state(&desk), RegistrationState::Unregistered);
    assert_eq!(desk.engine.unregistering(), 1);
    desk.advance(Duration::from_millis(21));
    assert_eq!(header(&desk.last("REGISTER"), "Expires"), "0");
    answer(&mut desk, "401 Unauthorized", &challenge("bye"));
    answer(&mut desk, "200 OK", "");
    assert_eq!(desk.engine.unregistering(), 0);
    // Changes that come later begin nothing.
    let before = registers(&desk).len();
    change(&mut desk, |trunk| trunk.name = "late".into());
    desk.advance(HOUR);
    assert_eq!(registers(&desk).len(), before);
}

/// RFC 3581: the registrar says from where it sees us, and that is told, with what to do if calls do not arrive.
#[test]
fn the_address_that_the_registrar_sees_is_told() {
    let mut desk = desk();
    answer_seen(&mut desk, "401 Unauthorized", &challenge("one"), ";received=198.51.100.200;rport=61000");
    let contact = format!("Contact: <sip:alice@{LOCAL};line=ta>;expires=60\r\n");
    answer_seen(&mut desk, "200 OK", &contact, ";received=198.51.100.200;rport=61000");
    let known = status(&desk);
    assert_eq!(known.seen, Some("198.51.100.200:61000".parse().unwrap()));
    assert!(
        known.remedy.contains("198.51.100.200:61000") && known.remedy.contains("public_address"),
        "{known:?}"
    );
}

/// A call to the Contact, from the registrar, is the trunk's: its address is in no range and nobody is challenged.
#[test]
fn calls_by_the_registrar_are_the_trunks() {
    let number = "+918047102030";
    for (uri, to) in [
        // To the Contact, whole; the number is in To.
        (format!("sip:alice@{LOCAL};line=ta"), number),
        // The carrier loses parameters.
        (format!("sip:alice@{LOCAL}"), number),
        // The carrier writes the number into the Request-URI, with our parameter or without.
        (format!("sip:{number}@{LOCAL};line=ta"), "somebody"),
        (format!("sip:{number}@{LOCAL}"), "somebody"),
    ] {
        let mut desk = desk();
        let caller = Caller { address: REGISTRAR, uri: uri.clone(), ..Caller::new() };
        let invite =
            caller.invite().replace(&format!("To: <{uri}>"), &format!("To: <sip:{to}@carrier.example>"));
        // Before anything is registered it is a stranger.
        desk.receive(REGISTRAR, &invite.replace("call-1@carrier", "too-early"));
        assert_eq!(desk.verdicts.last().unwrap().call, None, "{uri}");
        grant(&mut desk, 60);
        let asked = DryRun {
            message: invite.clone().into(),
            source: REGISTRAR.parse().unwrap(),
            transport: Transport::Udp,
            proven: None,
        };
        let foretold = desk.engine.dry_run(&asked, desk.now).unwrap();
        assert_eq!(foretold.code, VerdictCode::Accepted, "{uri}: {foretold:?}");
        desk.receive(REGISTRAR, &invite);
        desk.last("180");
        let call = desk.call();
        desk.input(Input::Command(tandem_call::Command::HangUp {
            call,
            as_what: tandem_call::HangUpCommand::Complete,
        }));
        let verdict = desk.verdicts.last().unwrap();
        let step = verdict.trace.iter().find(|step| step.check == Check::Registration).unwrap();
        assert!(step.detail.contains("trunk first") && step.subject == "198.51.100.5", "{step:?}");
        assert_eq!(verdict.trunk, Some("ta".into()));
        assert_eq!(desk.engine.counters().registered_calls, 1);

        // The same from anywhere else proves nothing.
        let mut desk = self::desk();
        grant(&mut desk, 60);
        desk.receive("203.0.113.77:5060", &invite);
        assert!(desk.plans.is_empty(), "{uri}");
        let stranger = desk.verdicts.last().unwrap();
        assert!(stranger.trace.iter().all(|step| step.check != Check::Registration), "{stranger:?}");
    }
}

/// A call to the Contact that names no number of the trunk is refused in words that help.
#[test]
fn a_call_to_the_contact_without_a_number_says_what_is_missing() {
    let mut desk = desk();
    grant(&mut desk, 60);
    let uri = format!("sip:alice@{LOCAL};line=ta");
    let caller = Caller { address: REGISTRAR, uri, ..Caller::new() };
    caller.send_invite(&mut desk);
    let verdict = desk.verdicts.last().unwrap();
    assert_eq!((verdict.code, &verdict.trunk), (VerdictCode::NumberUnknown, &Some("ta".into())));
    assert!(verdict.near_misses.iter().any(|miss| miss.contains("contact_user")), "{verdict:?}");
}

/// The connection that calls come by is closed: registered again soon, but not again and again.
#[test]
fn a_lost_connection_is_registered_anew() {
    let mut desk = desk_with(|trunk| trunk.registration.as_mut().unwrap().transport = Transport::Tcp);
    let remote = REGISTRAR.parse().unwrap();
    let flow = Flow { transport: Transport::Tcp, local: LOCAL.parse().unwrap(), remote, connection: 7 };
    desk.input(Input::StreamOpened { flow });
    let reply = |desk: &mut Desk| {
        let request = desk.last("REGISTER");
        assert!(header(&request, "Contact").contains(";transport=tcp"), "{request}");
        let lines: String = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"]
            .map(|name| format!("{name}: {}\r\n", header(&request, name)))
            .concat();
        let response = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        desk.input(Input::StreamData { flow, payload: response.into() });
    };
    reply(&mut desk);
    assert_eq!(state(&desk), RegistrationState::Registered);
    desk.advance(Duration::from_secs(120));
    let before = registers(&desk).len();
    desk.input(Input::StreamClosed { flow });
    desk.advance(Duration::from_secs(6));
    assert_eq!(registers(&desk).len(), before + 1, "soon after");
    let again = Flow { connection: 8, ..flow };
    desk.input(Input::StreamOpened { flow: again });
    let flow = again;
    let request = desk.last("REGISTER");
    let lines: String = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"]
        .map(|name| format!("{name}: {}\r\n", header(&request, name)))
        .concat();
    let response = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
    desk.input(Input::StreamData { flow, payload: response.into() });
    desk.input(Input::StreamClosed { flow });
    desk.advance(Duration::from_secs(60));
    assert_eq!(registers(&desk).len(), before + 1, "a carrier that closes after each answer is not chased");
}

/// Every state of a binding against everything that can happen to it, as one table that is read in review: run with
/// `SNAPSHOT=write` to write it anew, then read the difference.
mod states {
    use std::fmt::Write as _;

    use super::*;

    const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/register_states.txt");
    const STATES: [&str; 6] = ["looking", "asking", "registered", "refreshing", "refused", "leaving"];

    fn scene(state: &str) -> Desk {
        let mut desk = Desk::with(EngineConfig::default(), house(|_| {}));
        desk.finds_ways = state != "looking";
        desk.input(Input::TrunksChanged(vec!["ta".into()]));
        desk.advance(Duration::from_millis(1));
        match state {
            "registered" => grant(&mut desk, 3600),
            "refreshing" => {
                grant(&mut desk, 3600);
                wait_for_register(&mut desk, HOUR);
            }
            "refused" => answer(&mut desk, "403 Forbidden", ""),
            "leaving" => {
                grant(&mut desk, 3600);
                change(&mut desk, |trunk| trunk.registration = None);
            }
            _ => {}
        }
        desk.log.clear();
        desk
    }

    type Act = fn(&mut Desk);

    /// The answer to a request that there is, or none.
    fn reply(desk: &mut Desk, status: &str, headers: &str) {
        if !registers(desk).is_empty() {
            answer(desk, status, headers);
        }
    }

    const INPUTS: [(&str, Act); 18] = [
        ("200 for an hour", |desk| {
            if !registers(desk).is_empty() {
                grant(desk, 3600);
            }
        }),
        ("200 that grants nothing", |desk| {
            if !registers(desk).is_empty() {
                grant(desk, 0);
            }
        }),
        ("200 of other contacts", |desk| {
            reply(desk, "200 OK", "Contact: <sip:x@192.0.2.7>, <sip:y@192.0.2.8>\r\n");
        }),
        ("401", |desk| reply(desk, "401 Unauthorized", &challenge("n"))),
        ("401 without a challenge", |desk| reply(desk, "401 Unauthorized", "")),
        ("423 for longer", |desk| reply(desk, "423 Interval Too Brief", "Min-Expires: 7200\r\n")),
        ("423 for shorter", |desk| reply(desk, "423 Interval Too Brief", "Min-Expires: 60\r\n")),
        ("403", |desk| reply(desk, "403 Forbidden", "")),
        ("404", |desk| reply(desk, "404 Not Found", "")),
        ("302", |desk| reply(desk, "302 Moved", "Contact: <sip:other.example>\r\n")),
        ("503", |desk| reply(desk, "503 Service Unavailable", "")),
        ("silence", |desk| desk.advance(GIVEN_UP + Duration::from_secs(1))),
        ("cannot be sent", |desk| {
            if let Some(transmit) = desk.transmits.last().copied() {
                desk.input(Input::TransmitFailed { transmit });
            }
        }),
        ("changed elsewhere", |desk| change(desk, |trunk| trunk.name = "renamed".into())),
        ("other password", |desk| {
            change(desk, |trunk| {
                trunk.registration.as_mut().unwrap().credential.password = "other".to_owned()
            });
        }),
        ("other registrar", |desk| {
            change(desk, |trunk| trunk.registration.as_mut().unwrap().registrar = "198.51.100.6".to_owned());
        }),
        ("deleted", |desk| change(desk, |trunk| trunk.registration = None)),
        ("drained", |desk| {
            desk.input(Input::Drain { until: desk.now + HOUR });
            desk.advance(Duration::from_millis(21));
        }),
    ];

    #[test]
    fn each_state_meets_each_input_as_the_snapshot_has_it() {
        let mut table = String::new();
        for state in STATES {
            writeln!(table, "{state}").unwrap();
            for (input, act) in INPUTS {
                let mut desk = scene(state);
                act(&mut desk);
                let mut log = desk.log.clone();
                log.dedup();
                let log = if log.is_empty() { "-".to_owned() } else { log.join(", ") };
                let code = desk.registrations.get(&"ta".into()).cloned().flatten();
                let code =
                    code.and_then(|known| known.last_code).map_or("-".to_owned(), |code| code.to_string());
                let leaving = desk.engine.unregistering();
                writeln!(table, "  {input}: {log} => last {code}, leaving {leaving}").unwrap();
            }
        }
        if std::env::var_os("SNAPSHOT").is_some() {
            std::fs::write(SNAPSHOT, &table).unwrap();
        }
        let expected = std::fs::read_to_string(SNAPSHOT).unwrap();
        for (line, (got, wanted)) in table.lines().zip(expected.lines()).enumerate() {
            assert_eq!(got, wanted, "line {}", line + 1);
        }
        assert_eq!(table.lines().count(), expected.lines().count());
    }

    /// Whatever happened in whatever state: once the trunk is gone, nothing is left.
    #[test]
    fn each_state_and_input_leaves_nothing() {
        for state in STATES {
            for (input, act) in INPUTS {
                let mut desk = scene(state);
                act(&mut desk);
                change(&mut desk, |trunk| trunk.registration = None);
                desk.advance(HOUR);
                assert_eq!(desk.engine.census(), tandem_call::Census::default(), "{state} × {input}");
                assert_eq!(desk.engine.poll_timeout(), None, "{state} × {input}");
            }
        }
    }
}
