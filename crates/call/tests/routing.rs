//! Routing, row by row: which INVITE reaches which agent, which is refused with what, and in which words.
//!
//! Everything goes through `route::evaluate`, as live INVITEs and the dry run do.

use ipnet::IpNet;
use smallvec::smallvec;
use tandem_agent::{DialectConfig, DialectKind};
use tandem_call::bridge::OnClose;
use tandem_call::route::{self, Action, Authentication, Decision, KeyedAudio, OfferSummary, Query};
use tandem_call::{
    Agent, AgentRules, AgentSocket, Credential, MediaEncryption, Number, RoutingTable, StepOutcome, Trunk,
    TrunkAuth, VerdictCode,
};
use tandem_media::Codec;
use tandem_sip::Transport;
use tandem_sip::auth::Staleness;

/// One account `a` with a trunk of three ranges, one account `b` that shares the carrier's range, one trunk by digest.
fn house() -> House {
    let mut house = House::default();
    house.trunk("ta", "a", &["192.0.2.0/29", "198.51.100.0/24", "10.0.0.0/8"]);
    house.number("na", "a", "ta", "+918047102030", Some("ga"));
    house.trunk("tb", "b", &["198.51.100.0/24"]);
    house.number("nb", "b", "tb", "02079460000", Some("gb"));
    house.agent("ga", "a");
    house.agent("gb", "b");
    house
}

fn digest_house() -> House {
    let mut house = house();
    let trunk = house.trunk("td", "d", &[]);
    trunk.auth = TrunkAuth::user_pass("carol", "pw");
    house.number("nd", "d", "td", "14155550100", Some("gd"));
    house.agent("gd", "d");
    house
}

#[test]
fn numbers_are_found_in_every_form_they_are_dialled_in() {
    let table = house().table();
    for (request, to, number) in [
        ("+918047102030", "x", "na"),
        ("918047102030", "x", "na"),
        ("+91-80-4710-2030", "x", "na"),
        ("%2B918047102030;npdi", "x", "na"),
        ("pilot", "+918047102030", "na"),
        ("", "918047102030", "na"),
        // Request-URI before To, even when both are numbers of ours.
        ("02079460000", "918047102030", "nb"),
        ("918047102030", "02079460000", "na"),
    ] {
        let decision = Ask::from("198.51.100.7").request(request).to(to).decide(&table);
        assert_eq!(connected(&decision), number, "{request} {to}: {:?}", decision.verdict);
    }
}

#[test]
fn what_a_carrier_writes_instead_of_a_number_is_looked_for_after_every_number() {
    let mut house = house();
    house.number("alias", "a", "ta", "+14155550100", Some("ga"));
    house.numbers.last_mut().expect("just pushed").destination_key = Some("pilot-7".to_owned());
    // The other account's carrier writes a number of account `a`: the number itself goes first.
    house.number("masked", "b", "tb", "+442071838750", Some("gb"));
    house.numbers.last_mut().expect("just pushed").destination_key = Some("918047102030".to_owned());
    let table = house.table();
    for (request, to, number) in [
        ("pilot-7", "x", "alias"),
        ("x", "pilot-7", "alias"),
        ("+14155550100", "x", "alias"),
        ("918047102030", "x", "na"),
        // A number in To goes before what stands for one in the Request-URI.
        ("pilot-7", "02079460000", "nb"),
    ] {
        let decision = Ask::from("198.51.100.7").request(request).to(to).decide(&table);
        assert_eq!(connected(&decision), number, "{request} {to}: {:?}", decision.verdict);
    }
    let decision = Ask::from("198.51.100.7").request("pilot-7").decide(&table);
    let step = decision.verdict.trace.iter().find(|step| step.subject == "pilot-7");
    assert!(step.is_some_and(|step| step.detail.contains("how the carrier writes number +14155550100")));
    let stranger = Ask::from("203.0.113.9").request("pilot-7").decide(&table);
    assert_eq!(stranger.verdict.code, VerdictCode::SourceOutsideRanges);
}

#[test]
fn a_number_without_an_agent_falls_to_the_trunks_default_agent_of_the_same_account() {
    let mut house = house();
    house.number("free", "a", "ta", "+14155550100", None);
    let decision = |house: &House| Ask::from("198.51.100.7").request("+14155550100").decide(&house.table());
    assert_eq!(decision(&house).verdict.code, VerdictCode::NumberWithoutAgent);
    house.trunks[0].default_agent = Some("ga".into());
    let answered = decision(&house);
    assert_eq!(connected(&answered), "free");
    assert_eq!(answered.verdict.agent, Some("ga".into()));
    house.trunks[0].default_agent = Some("gb".into());
    let foreign = decision(&house);
    assert_eq!(foreign.verdict.code, VerdictCode::NumberWithoutAgent);
    assert!(foreign.verdict.trace.iter().any(|step| step.detail.contains("default agent does not exist")));
}

#[test]
fn direct_media_is_noted_where_it_cannot_be() {
    let mut house = house();
    house.trunks[0].direct_media = true;
    let decision = Ask::from("198.51.100.7").request("918047102030").decide(&house.table());
    assert_eq!(connected(&decision), "na");
    let noted = decision.verdict.trace.iter().find(|step| step.detail.contains("direct_media"));
    assert_eq!(noted.map(|step| step.outcome), Some(StepOutcome::Noted));
}

#[test]
fn trunks_that_share_ranges_are_told_apart_by_the_number() {
    let table = house().table();
    let decision = Ask::from("198.51.100.7").request("02079460000").decide(&table);
    assert_eq!(decision.verdict.account.as_ref().map(|account| account.as_str()), Some("b"));
    // Account b's trunk does not list this range, so a's listing of it opens nothing of b's.
    let decision = Ask::from("192.0.2.1").request("02079460000").decide(&table);
    assert_eq!(decision.verdict.code, VerdictCode::SourceOutsideRanges);
    assert_eq!(decision.verdict.status, 403);
}

#[test]
fn of_two_trunks_with_one_number_the_longest_prefix_wins_and_a_usable_one_before_that() {
    let mut house = house();
    house.trunk("narrow", "c", &["10.1.0.0/16"]);
    house.number("nc", "c", "narrow", "918047102030", Some("gc"));
    house.agent("gc", "c");
    let table = house.table();
    assert_eq!(connected(&Ask::from("10.1.2.3").request("+918047102030").decide(&table)), "nc");
    assert_eq!(connected(&Ask::from("10.2.2.3").request("+918047102030").decide(&table)), "na");
    house.trunks.last_mut().unwrap().inbound_enabled = false;
    let table = house.table();
    assert_eq!(connected(&Ask::from("10.1.2.3").request("+918047102030").decide(&table)), "na");
}

#[test]
fn each_refusal_has_its_status_its_code_and_its_words() {
    type Change = fn(&mut House);
    let rows: [(Change, u16, VerdictCode, &str); 11] = [
        (|house| house.trunks[0].is_active = false, 403, VerdictCode::TrunkInactive, "is_active is false"),
        (
            |house| house.trunks[0].inbound_enabled = false,
            403,
            VerdictCode::InboundDisabled,
            "inbound_enabled is false",
        ),
        (|house| house.numbers[0].is_active = false, 404, VerdictCode::NumberInactive, "is_active is false"),
        (|house| house.numbers[0].agent = None, 404, VerdictCode::NumberWithoutAgent, "mapped to no agent"),
        (
            |house| house.numbers[0].agent = Some("gone".into()),
            404,
            VerdictCode::NumberWithoutAgent,
            "the mapped agent does not exist",
        ),
        // Another account's agent is as good as none.
        (
            |house| house.numbers[0].agent = Some("gb".into()),
            404,
            VerdictCode::NumberWithoutAgent,
            "the mapped agent does not exist",
        ),
        (
            |house| house.numbers[0].is_for_pstn = true,
            404,
            VerdictCode::NumberForPstn,
            "its mode is pstn: for the trunk's destinations, which are not called yet",
        ),
        (|house| house.agents[0].socket = None, 404, VerdictCode::AgentWithoutSocket, "it has no websocket"),
        (
            |house| house.trunks[0].media_encryption = MediaEncryption::Sdes,
            488,
            VerdictCode::EncryptionExposed,
            "media_encryption is sdes, and the call came without TLS: a key in it could be read by anybody",
        ),
        (
            |house| house.agents[0].rules.disallow_unknown = true,
            403,
            VerdictCode::CallerNotAllowed,
            "disallow_unknown_numbers is true and the caller is none of the 0 whitelist_phone_numbers",
        ),
        (
            |house| house.trunks[0].codecs = vec![Codec::PCMA],
            488,
            VerdictCode::NoCommonCodec,
            "the offer holds PCMU, which the trunk does not allow",
        ),
    ];
    for (change, status, code, detail) in rows {
        let mut house = house();
        change(&mut house);
        let decision = Ask::from("192.0.2.1").request("918047102030").decide(&house.table());
        let verdict = &decision.verdict;
        assert_eq!((verdict.status, verdict.code), (status, code));
        let last = verdict.trace.last().unwrap();
        assert_eq!((last.outcome, &*last.detail), (StepOutcome::Failed, detail));
        assert_eq!(verdict.account.as_ref().map(|account| account.as_str()), Some("a"), "{code}");
        assert!(!decision.is_stranger, "{code}");
        assert!(matches!(decision.action, Action::Refuse));
    }
}

/// What an offer holds, against what the trunk asks for and how the call came.
#[test]
fn encryption_is_taken_asked_for_and_refused_as_the_trunk_says() {
    use VerdictCode::{
        Accepted, EncryptionExposed, EncryptionMissing, EncryptionOffered, EncryptionUnsupported,
    };
    let usable = || KeyedAudio::Usable(smallvec![Codec::PCMU]);
    let unusable = || KeyedAudio::Unusable("no a=crypto line can be used".into());
    let audio = |is_plain: bool, keyed| {
        let codecs = if is_plain { smallvec![Codec::PCMU] } else { smallvec![] };
        OfferSummary::Audio { codecs, is_plain, keyed }
    };
    let offers = [
        audio(true, KeyedAudio::Absent),
        audio(true, usable()),
        audio(false, usable()),
        audio(true, unusable()),
        audio(false, unusable()),
        OfferSummary::Absent,
    ];
    // Without encryption, optimistic, required: each over TLS and then over UDP.
    let expected = [
        ([Accepted, Accepted, EncryptionOffered, Accepted, EncryptionOffered, Accepted], None),
        ([Accepted, Accepted, Accepted, Accepted, EncryptionUnsupported, Accepted], Some(true)),
        (
            [EncryptionMissing, Accepted, Accepted, EncryptionUnsupported, EncryptionUnsupported, Accepted],
            Some(false),
        ),
    ];
    for (codes, optimistic) in expected {
        let mut house = house();
        if let Some(optimistic) = optimistic {
            house.trunks[0].media_encryption = MediaEncryption::Sdes;
            house.trunks[0].media_encryption_optimistic = optimistic;
        }
        let table = house.table();
        for (offer, code) in offers.iter().zip(codes) {
            let mut ask = Ask::from("192.0.2.1").request("918047102030");
            ask.offer = offer.clone();
            ask.transport = Transport::Tls;
            let verdict = ask.decide(&table).verdict;
            assert_eq!(verdict.code, code, "{optimistic:?} {offer:?}");
            assert!(code == Accepted || verdict.status == 488 && verdict.remedy.len() > 20);
            ask.transport = Transport::Udp;
            let is_plain = !matches!(offer, OfferSummary::Audio { is_plain: false, .. });
            let code = match optimistic {
                Some(false) => EncryptionExposed,
                _ if is_plain => Accepted,
                _ => EncryptionOffered,
            };
            assert_eq!(ask.decide(&table).verdict.code, code, "{optimistic:?} {offer:?} over UDP");
        }
    }
}

#[test]
fn offers_are_judged_by_what_they_hold() {
    let table = house().table();
    let verdict = |offer| {
        let mut ask = Ask::from("192.0.2.1").request("918047102030");
        ask.offer = offer;
        let verdict = ask.decide(&table).verdict;
        (verdict.code, verdict.status)
    };
    assert_eq!(verdict(OfferSummary::Absent), (VerdictCode::Accepted, 200));
    let alaw =
        OfferSummary::Audio { codecs: smallvec![Codec::PCMA], is_plain: true, keyed: KeyedAudio::Absent };
    assert_eq!(verdict(alaw), (VerdictCode::Accepted, 200));
    let foreign = OfferSummary::Audio { codecs: smallvec![], is_plain: true, keyed: KeyedAudio::Absent };
    assert_eq!(verdict(foreign), (VerdictCode::NoCommonCodec, 488));
    let rubbish = OfferSummary::Unacceptable { status: 400, why: "no session description".into() };
    assert_eq!(verdict(rubbish), (VerdictCode::OfferUnacceptable, 400));
}

#[test]
fn a_source_outside_the_ranges_is_told_how_near_it_was() {
    let decision = Ask::from("192.0.2.9").request("+918047102030").decide(&house().table());
    let verdict = decision.verdict;
    assert_eq!((verdict.status, verdict.code), (403, VerdictCode::SourceOutsideRanges));
    assert_eq!(
        verdict.near_misses,
        ["the number belongs to trunk ta, but 192.0.2.9 is outside its 3 ranges; nearest 192.0.2.0/29"]
    );
    assert_eq!(verdict.account.as_ref().map(|account| account.as_str()), Some("a"));
    assert_eq!(
        verdict.remedy,
        "add the carrier's address or range to the trunk's ip_identifiers, if it is your carrier's"
    );
    let verdict = Ask::from("2001:db8::1").request("02079460000").decide(&house().table()).verdict;
    assert_eq!(
        verdict.near_misses,
        ["the number belongs to trunk tb, but 2001:db8::1 is outside its one range; none of them is IPv6"]
    );
}

#[test]
fn a_number_in_another_national_form_is_a_near_miss_for_its_owner() {
    let table = house().table();
    for (dialled, near) in [
        ("08047102030", "trunk ta has +918047102030; the INVITE asks for 08047102030"),
        ("00918047102030", "trunk ta has +918047102030; the INVITE asks for 00918047102030"),
        ("442079460000", "trunk tb has 02079460000; the INVITE asks for 442079460000"),
    ] {
        let verdict = Ask::from("198.51.100.7").request(dialled).decide(&table).verdict;
        assert_eq!((verdict.status, verdict.code), (404, VerdictCode::NumberUnknown), "{dialled}");
        assert_eq!(
            verdict.near_misses,
            [format!("{near}: the same digits with another prefix")],
            "{dialled}"
        );
        assert!(verdict.account.is_some());
    }
}

#[test]
fn a_verdict_names_nothing_of_another_account() {
    let table = house().table();
    // Both accounts list the range and neither has the number: the operator alone may see, and no names.
    let verdict = Ask::from("198.51.100.7").request("+15550000000").decide(&table).verdict;
    assert_eq!((verdict.code, &verdict.account), (VerdictCode::NumberUnknown, &None));
    let text = serde_json::to_string(&verdict).unwrap();
    assert!(!text.contains("ta") || !text.contains("trunk ta"), "{text}");
    // Only a lists this one, so the verdict is a's; b's number alike stays unnamed.
    let verdict = Ask::from("192.0.2.1").request("442079460000").decide(&table).verdict;
    assert_eq!(verdict.account.as_ref().map(|account| account.as_str()), Some("a"));
    assert!(verdict.near_misses.is_empty(), "{verdict:?}");
}

#[test]
fn strangers_get_one_answer_whatever_they_dial() {
    let table = house().table();
    for dialled in ["+918047102030", "02079460000", "1000", "admin", "", "00972592277524"] {
        let decision = Ask::from("203.0.113.9").request(dialled).decide(&table);
        assert_eq!(decision.verdict.status, 403, "{dialled}");
        assert!(matches!(decision.action, Action::Refuse) && decision.is_stranger, "{dialled}");
    }
    let table = digest_house().table();
    for dialled in ["+918047102030", "02079460000", "1000", "14155550100", "", "00972592277524"] {
        let decision = Ask::from("203.0.113.9").request(dialled).decide(&table);
        assert_eq!(decision.verdict.status, 401, "{dialled}");
        assert!(matches!(decision.action, Action::Challenge(Staleness::Fresh)), "{dialled}");
        let mut ask = Ask::from("203.0.113.9").request(dialled);
        ask.authentication = Authentication::Wrong("no such user".into());
        assert_eq!(ask.decide(&table).verdict.status, 403, "{dialled}");
    }
}

/// A trunk by digest that takes no calls is not betrayed by a challenge of its own.
#[test]
fn a_digest_trunk_switched_off_looks_to_strangers_like_no_trunk() {
    let mut house = digest_house();
    house.trunks[2].inbound_enabled = false;
    let table = house.table();
    for dialled in ["14155550100", "1000"] {
        let decision = Ask::from("203.0.113.9").request(dialled).decide(&table);
        assert_eq!(decision.verdict.status, 403, "{dialled}");
        assert!(matches!(decision.action, Action::Refuse), "{dialled}");
    }
    let verdict = Ask::from("203.0.113.9").request("14155550100").decide(&table).verdict;
    assert_eq!(verdict.code, VerdictCode::InboundDisabled, "its owner reads why");
}

#[test]
fn a_trunk_by_digest_is_challenged_proven_and_held_to_its_own_numbers() {
    let table = digest_house().table();
    let ask = || Ask::from("203.0.113.9").request("14155550100");
    let decision = ask().decide(&table);
    assert_eq!(decision.verdict.code, VerdictCode::CredentialsRequired);
    assert_eq!(decision.verdict.account.as_ref().map(|account| account.as_str()), Some("d"));

    let decision = ask().with(Authentication::Verified("td".into())).decide(&table);
    assert_eq!(connected(&decision), "nd");
    assert!(!decision.is_stranger);

    let decision = ask().with(Authentication::Stale).decide(&table);
    assert!(matches!(decision.action, Action::Challenge(Staleness::Stale)));
    let decision = ask().with(Authentication::Replayed).decide(&table);
    assert_eq!((decision.verdict.status, decision.verdict.code), (401, VerdictCode::CredentialsReplayed));
    let decision = ask().with(Authentication::Wrong("the password does not match".into())).decide(&table);
    assert_eq!((decision.verdict.status, decision.verdict.code), (403, VerdictCode::CredentialsWrong));

    // Right credentials open the trunk's own numbers, not those of others.
    let other = Ask::from("203.0.113.9").request("+918047102030").with(Authentication::Verified("td".into()));
    let decision = other.decide(&table);
    assert_eq!((decision.verdict.status, decision.verdict.code), (404, VerdictCode::NumberUnknown));
    assert_eq!(decision.verdict.account.as_ref().map(|account| account.as_str()), Some("d"));
    assert!(decision.verdict.near_misses.is_empty());
}

#[test]
fn ranges_of_a_trunk_by_digest_narrow_it() {
    let mut house = digest_house();
    house.trunks[2].sources = ["203.0.113.0/24".parse().unwrap()].into_iter().collect();
    let table = house.table();
    let proven = Authentication::Verified("td".into());
    let inside = Ask::from("203.0.113.9").request("14155550100").with(proven.clone());
    assert_eq!(connected(&inside.decide(&table)), "nd");
    let outside = Ask::from("192.0.2.200").request("14155550100").with(proven);
    assert_eq!(outside.decide(&table).verdict.code, VerdictCode::SourceOutsideRanges);
    // And a range alone proves nothing.
    let bare = Ask::from("203.0.113.9").request("14155550100").decide(&table);
    assert_eq!(bare.verdict.code, VerdictCode::CredentialsRequired);
}

#[test]
fn credentials_are_tried_against_the_dialled_numbers_trunk_first_and_against_few() {
    let mut house = digest_house();
    for number in 0..20 {
        let id = format!("extra{number}");
        let trunk = house.trunk(&id, &id, &[]);
        trunk.auth = TrunkAuth::user_pass("carol", number.to_string());
    }
    house.number("nx", "extra9", "extra9", "+33123456789", None);
    let table = house.table();
    let ask = Ask::from("203.0.113.9").request("+33123456789");
    let names: Vec<String> = route::credential_trunks(&ask.query(), &table, "carol")
        .iter()
        .map(|trunk| trunk.name.to_string())
        .collect();
    assert_eq!(names, ["extra9", "extra0", "extra1", "extra10"]);
    assert!(route::credential_trunks(&ask.query(), &table, "mallory").is_empty());
}

#[test]
fn a_trunk_with_several_credentials_is_found_by_each_and_by_no_other() {
    let mut house = digest_house();
    let credential =
        |name: &str| Credential { username: name.to_owned(), password: format!("{name}'s password") };
    house.trunks[2].auth = TrunkAuth::UserPass(vec![credential("carol"), credential("dave")]);
    let table = house.table();
    let ask = Ask::from("203.0.113.9").request("14155550100");
    for name in ["carol", "dave"] {
        let trunks = route::credential_trunks(&ask.query(), &table, name);
        assert_eq!(trunks.iter().map(|trunk| trunk.id.as_str()).collect::<Vec<_>>(), ["td"], "{name}");
    }
    assert!(route::credential_trunks(&ask.query(), &table, "eve").is_empty());
    house.trunks[2].inbound_enabled = false;
    let other = Ask::from("203.0.113.9").request("+918047102030");
    assert!(route::credential_trunks(&other.query(), &house.table(), "dave").is_empty());
}

#[test]
fn the_trace_tells_the_whole_way_in_order() {
    let decision = Ask::from("10.9.8.7").request("pilot").to("+918047102030").decide(&house().table());
    let lines: Vec<String> = decision.verdict.lines().collect();
    assert_eq!(
        lines,
        [
            "RequestUri noted pilot: no number of this trunk",
            "To ok +918047102030: is number +918047102030 of trunk ta",
            "Source ok 10.9.8.7: inside 10.0.0.0/8 of trunk ta",
            "Trunk ok ta: active, inbound enabled",
            "Number ok +918047102030: active",
            "Agent ok ga: spoken to by asterisk",
            "Codec ok PCMU, PCMA: PCMU chosen; offered PCMU",
        ]
    );
    assert_eq!(decision.verdict.code.as_str(), "accepted");
}

/// Bytes that no honest peer sends: every answer is a refusal, none is a panic, and no text grows beyond its bound.
#[test]
fn rubbish_is_refused_in_bounded_words() {
    let table = digest_house().table();
    let long = "9".repeat(60_000);
    for text in [long.as_str(), "\u{0}\r\n", "%%%%%%", ";;;;", "+", "%2", "((((", "\u{FFFD}"] {
        let mut ask = Ask::from("198.51.100.7").request(text).to(text);
        ask.from_header = text.to_owned();
        let verdict = ask.decide(&table).verdict;
        assert_eq!(verdict.status, 404);
        assert!(serde_json::to_string(&verdict).unwrap().len() < 8192);
    }
}

fn connected(decision: &Decision) -> &str {
    match &decision.action {
        Action::Connect(route) => route.number.as_str(),
        Action::Challenge(_) | Action::Refuse => panic!("refused: {:?}", decision.verdict),
    }
}

struct Ask {
    source: String,
    request: String,
    to: String,
    from_header: String,
    transport: Transport,
    offer: OfferSummary,
    authentication: Authentication,
}

impl Ask {
    fn from(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            request: String::new(),
            to: String::new(),
            from_header: "<sip:+4930123@carrier.example>;tag=1".to_owned(),
            transport: Transport::Udp,
            offer: OfferSummary::Audio {
                codecs: smallvec![Codec::PCMU],
                is_plain: true,
                keyed: KeyedAudio::Absent,
            },
            authentication: Authentication::Absent,
        }
    }

    fn request(mut self, user: &str) -> Self {
        self.request = user.to_owned();
        self
    }

    fn to(mut self, user: &str) -> Self {
        self.to = user.to_owned();
        self
    }

    fn with(mut self, authentication: Authentication) -> Self {
        self.authentication = authentication;
        self
    }

    fn query(&self) -> Query<'_> {
        Query {
            source: (self.source.parse::<std::net::IpAddr>().expect("an address"), 5060).into(),
            transport: self.transport,
            request_uri: self.request.as_bytes(),
            request_user: self.request.as_bytes(),
            to: self.to.as_bytes(),
            to_user: self.to.as_bytes(),
            from: self.from_header.as_bytes(),
            sip_call_id: b"call-1",
            user_agent: b"",
            offer: self.offer.clone(),
        }
    }

    fn decide(&self, table: &RoutingTable) -> Decision {
        route::evaluate(&self.query(), table, &self.authentication)
    }
}

#[derive(Default)]
struct House {
    trunks: Vec<Trunk>,
    numbers: Vec<Number>,
    agents: Vec<Agent>,
}

impl House {
    fn trunk(&mut self, id: &str, account: &str, sources: &[&str]) -> &mut Trunk {
        let mut trunk = Trunk::new(id, account, id);
        trunk.inbound_enabled = true;
        trunk.sources = sources.iter().map(|range| range.parse::<IpNet>().expect("a range")).collect();
        self.trunks.push(trunk);
        self.trunks.last_mut().expect("just pushed")
    }

    fn number(&mut self, id: &str, account: &str, trunk: &str, number: &str, agent: Option<&str>) {
        self.numbers.push(Number {
            id: id.into(),
            account: account.into(),
            trunk: trunk.into(),
            number: number.to_owned(),
            destination_key: None,
            is_active: true,
            agent: agent.map(Into::into),
            is_for_pstn: false,
        });
    }

    fn agent(&mut self, id: &str, account: &str) {
        let socket = AgentSocket {
            url: "ws://agent.example/".to_owned(),
            dialect: DialectConfig::new(DialectKind::Asterisk),
            headers: Vec::new(),
            subprotocol: None,
            parameters: Vec::new(),
            on_close: OnClose::Drain,
            fallback_url: None,
        };
        self.agents.push(Agent {
            id: id.into(),
            account: account.into(),
            name: id.into(),
            socket: Some(socket.into()),
            rules: AgentRules::default(),
        });
    }

    fn table(&self) -> RoutingTable {
        RoutingTable::build(1, self.trunks.clone(), self.numbers.clone(), self.agents.clone())
    }
}
