//! A trunk made by Exotel's API alone, and the calls that come in by it.

use std::{io::Read, time::Duration};

use serde_json::{Value, json};
use tandem_tests::carrier::digest::{self, Credentials, DigestTrick};
use tandem_tests::product::{API_KEY, Product};

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, header, packet},
    text,
};

/// The path of the account that the environment's key opens.
const TRUNKS: &str = "/v2/accounts/default/trunks";

/// A request as Exotel's clients make it: key and token in the URL.
fn exotel(product: &Product, method: &str, path: &str, body: Option<&Value>) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://api_key:{API_KEY}@{}{path}", product.api))
        .header("Content-Type", "application/json")
        .body(body.map(Value::to_string).unwrap_or_default())
        .expect("a request");
    let mut response = agent.run(request).expect("an answer");
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("a body that ends");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["response"]["code"], 200, "{method} {path}: {answer}");
    answer["response"]["data"].clone()
}

/// A trunk and a number on it, made by Exotel's API; the number leads to the agent. The trunk's path, the number's id,
/// the agent's id.
fn provision(product: &Product, agent: &Agent, mode: &str) -> (String, String, String) {
    let body =
        json!({"trunk_name": "carrier", "nso_code": "ANY-ANY", "domain_name": "default.pstn.exotel.com"});
    let trunk = exotel(product, "POST", TRUNKS, Some(&body));
    let path = format!("{TRUNKS}/{}", text(&trunk, "trunk_sid"));
    let body = json!({"phone_number": DID, "mode": mode});
    let number = exotel(product, "POST", &format!("{path}/phone-numbers"), Some(&body));
    let body = json!({"agent_config": {"agent_name": "echo"}, "websocket": agent.websocket()});
    let (status, agent) = product.post("/v2/agent", &body);
    assert_eq!(status, 200, "{agent}");
    let mapping = json!({"agent_id": agent["agent_id"], "phone_number_id": number["id"]});
    let (status, mapped) = product.post("/inbound/setup", &mapping);
    assert_eq!(status, 200, "{mapped}");
    (path, text(&number, "id").to_owned(), text(&agent, "agent_id").to_owned())
}

/// The first answer to a call, and the one after its digest when it is a challenge.
fn outcome(phone: &mut Phone, credentials: Option<(&str, &str)>) -> String {
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(10));
    let Some((username, password)) = credentials else { return answer };
    assert!(answer.starts_with("SIP/2.0 401"), "{answer}");
    let credentials = Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
        trick: DigestTrick::Honest,
    };
    let challenge = header(&answer, "WWW-Authenticate").to_owned();
    let authorization =
        digest::answer(&[challenge], &credentials, "INVITE", &phone.uri()).expect("a challenge of MD5");
    phone.invite_again_with(&authorization);
    phone.final_response(Duration::from_secs(10))
}

fn status(answer: &str) -> &str {
    answer.get(8..11).unwrap_or_default()
}

#[test]
fn calls_come_in_by_a_whitelisted_source_and_by_each_credential_of_an_exotel_trunk() {
    let product = Product::start();
    let (path, _, agent) = provision(&product, &Agent::echo(), "flow");
    // Nobody may call yet.
    assert_eq!(status(&outcome(&mut Phone::over_udp(product.sip, DID), None)), "403");

    let body = json!({"ip": "127.0.0.1", "mask": 32});
    exotel(&product, "POST", &format!("{path}/whitelisted-ips"), Some(&body));
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_secs(1));
    let is_heard = |sequence: &u16| heard.windows(160).any(|window| window == &packet(*sequence)[12..]);
    assert!((5..30).filter(is_heard).count() >= 15, "the agent's echo is heard");
    phone.hang_up();
    assert_eq!(text(&product.ended_calls(&agent, 1)[0], "status"), "completed");

    for (user_name, password) in [("first_user", "first_password"), ("second_user", "second_password")] {
        let body = json!({"user_name": user_name, "password": password});
        exotel(&product, "POST", &format!("{path}/credentials"), Some(&body));
    }
    for (user_name, password) in [("first_user", "first_password"), ("second_user", "second_password")] {
        let mut phone = Phone::over_udp(product.sip, DID);
        let answer = outcome(&mut phone, Some((user_name, password)));
        assert_eq!(status(&answer), "200", "{user_name}: {answer}");
        phone.acknowledge();
        phone.hang_up();
    }
    for (user_name, password) in
        [("first_user", "second_password"), ("second_user", "guess"), ("third_user", "first_password")]
    {
        let mut phone = Phone::over_udp(product.sip, DID);
        let answer = outcome(&mut phone, Some((user_name, password)));
        assert_eq!(status(&answer), "403", "{user_name} {password}: {answer}");
    }
    assert_eq!(product.ended_calls(&agent, 3).len(), 3);

    // A credential that is gone proves nothing, at once; the other still does.
    let listed = exotel(
        &product,
        "POST",
        &format!("{path}/credentials"),
        Some(&json!({"user_name": "gone", "password": "p"})),
    );
    exotel(&product, "DELETE", &format!("{path}/credentials?id={}", text(&listed, "id")), None);
    assert_eq!(status(&outcome(&mut Phone::over_udp(product.sip, DID), Some(("gone", "p")))), "403");
    // From outside its whitelist a credential does not do either.
    let addresses = product.get(&format!("{path}/whitelisted-ips")).1;
    let id = text(&addresses["response"][0]["data"], "id").to_owned();
    exotel(&product, "PUT", &format!("{path}/whitelisted-ips/{id}"), Some(&json!({"ip": "192.0.2.1"})));
    let answer = outcome(&mut Phone::over_udp(product.sip, DID), Some(("first_user", "first_password")));
    assert_eq!(status(&answer), "403", "{answer}");
    // Without a whitelist it does, from anywhere.
    exotel(&product, "DELETE", &format!("{path}/whitelisted-ips?id={id}"), None);
    let mut phone = Phone::over_udp(product.sip, DID);
    assert_eq!(status(&outcome(&mut phone, Some(("first_user", "first_password")))), "200");
    phone.acknowledge();
    phone.hang_up();
    assert_eq!(product.ended_calls(&agent, 4).len(), 4);
}

#[test]
fn a_number_of_mode_pstn_is_not_answered_by_an_agent_until_its_mode_is_flow() {
    let product = Product::start();
    let (path, number, agent) = provision(&product, &Agent::echo(), "pstn");
    exotel(&product, "POST", &format!("{path}/whitelisted-ips"), Some(&json!({"ip": "127.0.0.1"})));
    assert_eq!(status(&outcome(&mut Phone::over_udp(product.sip, DID), None)), "404");
    let body = json!({"phone_number": DID, "mode": "flow"});
    exotel(&product, "PUT", &format!("{path}/phone-numbers/{number}"), Some(&body));
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.hang_up();
    assert_eq!(product.ended_calls(&agent, 1).len(), 1);
}
