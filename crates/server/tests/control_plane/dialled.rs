//! What is found for one INVITE alone connects it exactly as the table of everything would.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;
use tandem_call::route::{self, Action, Authentication, OfferSummary, Query};
use tandem_call::{RoutingTable, dialled};
use tandem_server::routing::{read_whole, route_of};
use tandem_server::store::{
    Expected, NewAgent, NewNumber, Store, StoreError, StoredIdentifier, TrunkSettings,
};

use crate::base::{Base, on_both_databases};
use crate::kill::{Node, request};
use crate::store::number;

on_both_databases!(
    a_number_found_alone_is_routed_as_the_whole_table_routes_it,
    a_number_is_found_alone_as_it_stands_now,
    a_node_that_has_just_started_takes_calls_before_it_has_read_its_numbers,
);

/// Who answers a call, or nobody.
fn answers(table: &RoutingTable, source: &str, user: &str) -> Option<(String, String, String)> {
    let uri = format!("sip:{user}@198.51.100.1");
    let query = Query {
        source: source.parse::<SocketAddr>().unwrap(),
        transport: tandem_sip::Transport::Udp,
        request_uri: uri.as_bytes(),
        request_user: user.as_bytes(),
        to: uri.as_bytes(),
        to_user: user.as_bytes(),
        from: b"<sip:+4930123@carrier.example>;tag=1",
        sip_call_id: b"1@carrier",
        user_agent: b"",
        offer: OfferSummary::Absent,
    };
    match route::evaluate(&query, table, &Authentication::Absent).action {
        Action::Connect(route) => {
            Some((route.trunk.id.to_string(), route.number.to_string(), route.agent.id.to_string()))
        }
        Action::Challenge(_) | Action::Refuse => None,
    }
}

/// A trunk that is known by its address.
fn by_address(name: &str, range: &str) -> TrunkSettings {
    TrunkSettings {
        ip_identifiers: vec![StoredIdentifier::new(range)],
        inbound_enabled: true,
        ..TrunkSettings::new(name, "custom")
    }
}

async fn agent(store: &Store, account: &str) -> String {
    let socket = json!({"url": "ws://127.0.0.1:9/", "dialect": "asterisk"});
    let body: Map<String, Value> = [("websocket".to_owned(), socket)].into_iter().collect();
    store.create_agent(account, NewAgent { name: "a".to_owned(), body }).await.unwrap().id
}

/// Three accounts, of which one cannot pay, with trunks on and off, numbers with agents, with the trunk's and with none,
/// the same number on several trunks, and carriers that write numbers in their own way.
async fn fill(store: &Store) {
    for (place, account) in ["a", "b", "c"].into_iter().enumerate() {
        store.ensure_account(account).await.unwrap();
        let (own, usual) = (agent(store, account).await, agent(store, account).await);
        for trunk in 0..3 {
            let mut settings = by_address(&format!("trunk {trunk}"), &format!("192.0.{place}.0/24"));
            settings.default_agent = (trunk == 1).then(|| usual.clone());
            let numbers = [
                NewNumber {
                    destination_key: Some(format!("4930{place}{trunk}")),
                    ..number(&format!("+49309{place}{trunk}"))
                },
                number(&format!("498{place}{trunk}02")),
            ];
            let (made, numbers) = store.create_trunk(account, settings, &numbers).await.unwrap();
            store.map_number(account, &numbers[0].id, Some(&own)).await.unwrap();
            if trunk == 2 {
                let switch_off = |settings: &mut TrunkSettings| -> Result<(), StoreError> {
                    settings.is_active = false;
                    Ok(())
                };
                store.change_trunk(account, &made.id, &Expected::Any, switch_off).await.unwrap();
                // A number of a trunk that is switched off may stand on another.
                let first = store.trunks(account, Some(true)).await.unwrap().pop().unwrap();
                let again = number(&format!("498{place}{trunk}02"));
                store.add_number_for(account, &first.id, &again, Some(&own)).await.unwrap();
            }
        }
    }
    store.set_balance("c", Some(0)).await.unwrap();
}

async fn a_number_found_alone_is_routed_as_the_whole_table_routes_it(base: Base) {
    let store = base.open().await;
    fill(&store).await;
    let whole = read_whole(&store).await.unwrap();
    let mut connected = 0;
    let mut users: Vec<String> = vec!["+4912345".to_owned(), "nobody".to_owned()];
    for account in ["a", "b", "c"] {
        for number in store.numbers(account).await.unwrap() {
            users.push(number.number.phone_number);
            users.extend(number.number.destination_key);
        }
    }
    for user in &users {
        let key = dialled::key(user.as_bytes()).unwrap();
        let alone = route_of(&store, &[key]).await.unwrap();
        for source in ["192.0.0.7:5060", "192.0.1.7:5060", "192.0.2.7:5060", "203.0.113.1:5060"] {
            let (found, expected) = (answers(&alone, source, user), answers(&whole, source, user));
            match found {
                Some(found) => {
                    assert_eq!(Some(found), expected, "{user} from {source}");
                    connected += 1;
                }
                // What only the whole table finds is what a carrier writes in its own way.
                None if expected.is_some() => assert!(user.starts_with("4930"), "{user} from {source}"),
                None => {}
            }
        }
    }
    assert!(connected >= 8, "{connected} are connected");
}

async fn a_number_is_found_alone_as_it_stands_now(base: Base) {
    let store = base.open().await;
    let mine = agent(&store, "a").await;
    store.ensure_account("a").await.unwrap();
    let wanted = by_address("one", "192.0.2.0/24");
    let (trunk, numbers) = store.create_trunk("a", wanted, &[number("+4930123")]).await.unwrap();
    let keys = ["4930123".to_owned()];
    let asked = async || answers(&route_of(&store, &keys).await.unwrap(), "192.0.2.1:5060", "+4930123");
    assert_eq!(asked().await, None, "it has no agent");
    store.map_number("a", &numbers[0].id, Some(&mine)).await.unwrap();
    assert_eq!(asked().await, Some((trunk.id.clone(), numbers[0].id.clone(), mine.clone())));
    store.set_balance("a", Some(-1)).await.unwrap();
    assert_eq!(asked().await, None, "its account cannot pay");
    store.set_balance("a", None).await.unwrap();
    assert!(asked().await.is_some());
    store.remove_number("a", &trunk.id, &numbers[0].id, &Expected::Any).await.unwrap();
    assert_eq!(asked().await, None, "it is gone");
}

/// Puts so many numbers into the store, of accounts and trunks of their own, by one statement.
pub(crate) async fn crowd(url: &str, from: u32, to: u32) {
    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    let statement = format!(
        "INSERT INTO numbers (id, account_id, trunk_id, phone_number, digits, e164_check_enabled, is_active, \
         created_at, updated_at) WITH RECURSIVE seq(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM seq WHERE \
         n < {to}) SELECT 'crowd' || CAST(n AS TEXT), 'crowd' || CAST(n / 100 AS TEXT), \
         'crowd' || CAST(n / 10 AS TEXT), '+77' || CAST(n AS TEXT), \
         '77' || CAST(n AS TEXT), 0, 1, n, n FROM seq"
    );
    sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    pool.close().await;
}

/// The status of the first answer to an INVITE.
fn first_answer(sip: &str, number: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let port = local.port();
    let invite = format!(
        "INVITE sip:{number}@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{port};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@{local}>;tag={port}\r\nTo: <sip:{number}@{sip}>\r\n\
         Call-ID: {port}@test\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{local}>\r\nContent-Length: 0\r\n\r\n"
    );
    let mut buffer = [0; 4_096];
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // Longer than a caller repeats its INVITE: a slow machine reads the whole table slowly.
    for _ in 0..400 {
        socket.send_to(invite.as_bytes(), sip).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            return answer.split(' ').nth(1).unwrap_or_default().to_owned();
        }
    }
    "nothing".to_owned()
}

fn routing_of(node: &Node) -> Value {
    request(node.api, "GET", "/ready", &json!({})).unwrap().1["checks"]["routing"].clone()
}

async fn a_node_that_has_just_started_takes_calls_before_it_has_read_its_numbers(base: Base) {
    let store = base.open().await;
    let agent = agent(&store, "a").await;
    let (trunk, _) =
        store.create_trunk("a", by_address("here", "127.0.0.0/8"), &[number("+4930999")]).await.unwrap();
    let called = store.add_number_for("a", &trunk.id, &number("+4930123"), Some(&agent)).await.unwrap();
    assert_eq!(called.agent, Some(agent));
    store.close().await;
    let folder = tempfile::tempdir().unwrap();
    let mut there = 0;
    for crowded in [40_000, 160_000, 640_000] {
        crowd(&base.url, there + 1, crowded).await;
        there = crowded;
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sip = format!("127.0.0.1:{port}");
        let node = Node::start_at(folder.path(), &base.url, &sip);
        let answer = first_answer(&sip, "+4930123");
        let was_reading = routing_of(&node) == "reading";
        assert_eq!(answer, "100", "the number is there");
        assert_eq!(first_answer(&sip, "+4930124"), "404", "nobody has that number");
        // The engine has the table a moment before the node says so.
        let is_whole = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            routing_of(&node) == "ok"
        });
        assert!(is_whole, "a refusal is the whole table's");
        node.kill();
        if was_reading {
            return;
        }
        // It had read everything before the call came: that shows nothing, and more numbers take longer.
    }
    panic!("this machine reads any number of numbers in no time");
}
