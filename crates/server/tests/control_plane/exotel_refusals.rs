//! Exotel's error constants, each by the request that brings it about; and the walls between tenants.

use axum::body::Body;
use axum::http::header;
use serde_json::{Value, json};

use super::client::{Answer, Server};
use super::exotel::{TRUNKS, new_trunk};

impl Answer {
    /// Holds a refusal against HTTP status, inner code, the vendor's number, message and description.
    #[track_caller]
    fn refused(&self, status: u16, code: u16, constant: u16, message: &str, description: &str) -> &Self {
        let outcome = &self.body["response"];
        let error = &outcome["error_data"];
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(
            (&self.body["http_code"], &outcome["code"], &outcome["status"], &outcome["data"]),
            (&json!(status), &json!(code), &json!("failure"), &Value::Null),
            "{}",
            self.text
        );
        assert_eq!(
            (&error["code"], &error["message"], &error["description"]),
            (&json!(constant), &json!(message), &json!(description)),
            "{}",
            self.text
        );
        self
    }

    #[track_caller]
    fn missing(&self, description: &str) -> &Self {
        self.refused(400, 400, 1001, "Mandatory Parameter missing", description)
    }

    #[track_caller]
    fn invalid(&self, description: &str) -> &Self {
        self.refused(400, 400, 1002, "Invalid parameter", description)
    }

    #[track_caller]
    fn nothing(&self) -> &Self {
        self.refused(404, 404, 1000, "Not Found", "Not Found")
    }

    /// Holds against the answer that it names the field and holds each of `parts`.
    #[track_caller]
    fn names(&self, location: &str, parts: &[&str]) {
        let errors = self.body["response"]["error_data"]["errors"].as_array();
        let found = errors.into_iter().flatten().any(|error| {
            let message = error["msg"].as_str().unwrap();
            error["loc"] == location && parts.iter().all(|part| message.contains(part))
        });
        assert!(found, "{location} with {parts:?} is missing in {}", self.text);
    }
}

#[tokio::test]
async fn faults_of_a_trunk_have_the_vendors_words() {
    let server = Server::start().await;
    let create = |body: Value| server.exotel("POST", TRUNKS, Some(body));
    let with = |name: &str, value: Value| {
        let mut body = new_trunk("good");
        body[name] = value;
        body
    };
    create(json!({})).await.missing("TrunkName is mandatory").names("nso_code", &["missing"]);
    create(with("trunk_name", json!(""))).await.missing("TrunkName is mandatory");
    create(with("trunk_name", Value::Null)).await.missing("TrunkName is mandatory");
    create(with("nso_code", Value::Null)).await.missing("NsoCode is mandatory");
    create(with("domain_name", Value::Null)).await.missing("DomainName is mandatory");
    create(with("trunk_name", json!("very_long_trunk_name_that_exceeds_limit")))
        .await
        .invalid("Maximum allowed length for TrunkName is 16")
        .names("trunk_name", &["39", "16"]);
    for name in ["trunk@#$%", "trunk-name", "trunk.name", "tr\u{7f}unk", "trünk"] {
        let answer = create(with("trunk_name", json!(name))).await;
        answer
            .invalid("Allowed characters for TrunkName is alphanumeric and _")
            .names("trunk_name", &["letters"]);
    }
    for code in ["INVALID-CODE", "any any", "any-any"] {
        create(with("nso_code", json!(code)))
            .await
            .invalid("Nso code is invalid")
            .names("nso_code", &["ANY-ANY"]);
    }
    for domain in
        ["test.com", "server.pstn.exotel.net", ".pstn.exotel.com", "a b.pstn.exotel.com", "pstn.exotel.com"]
    {
        create(with("domain_name", json!(domain)))
            .await
            .invalid("Domain name should end with .pstn.exotel.com");
    }
    let wrong = create(with("trunk_name", json!(5))).await;
    wrong.refused(
        400,
        400,
        1007,
        "Invalid request body,failed parsing ",
        "trunk_name: the number 5 was given; give text in quotes",
    );
    let sid = server.exotel_trunk("good").await;
    let put = |body: Value| server.exotel("PUT", TRUNKS_OF[0], Some(body));
    put(json!({"trunk_name": "x"})).await.nothing();
    let path = format!("{TRUNKS}/{sid}");
    let put = |body: Value| server.exotel("PUT", &path, Some(body));
    put(json!({"trunk_name": "not-good"}))
        .await
        .invalid("Allowed characters for TrunkName is alphanumeric and _");
    put(json!({"nso_code": "x"})).await.invalid("Nso code is invalid");
    put(json!({"auth_type": "CREDENTIALS"}))
        .await
        .refused(422, 422, 1020, "Validation error", "Auth type is invalid")
        .names("auth_type", &["IP-WHITELIST"]);
    server.exotel("DELETE", TRUNKS, None).await.missing("TrunkSid is mandatory");
    for query in ["page_size=0", "page_size=x", "offset=-1"] {
        let answer = server.exotel("GET", &format!("{TRUNKS}?{query}"), None).await;
        assert_eq!(answer.body["response"]["error_data"]["code"], 1002, "{}", answer.text);
    }
}

/// Trunks that are none: of no name, of no row.
const TRUNKS_OF: [&str; 3] = [
    "/v2/accounts/acme/trunks/trmum15f77c83605998cdb9d1a1n",
    "/v2/accounts/acme/trunks/trmum101hq0000000000000000000000",
    "/v2/accounts/acme/trunks/invalid_trunk_sid",
];

#[tokio::test]
async fn faults_of_what_is_on_a_trunk_have_the_vendors_words() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("parts").await;
    let post = |kind: &str, body: Value| {
        let path = format!("{TRUNKS}/{sid}/{kind}");
        let server = &server;
        async move { server.exotel("POST", &path, Some(body)).await }
    };
    post("phone-numbers", json!({})).await.missing("PhoneNumber is mandatory");
    for number in
        ["080-486-36999", "invalid-phone", "123456", "919876543210", "+0123456789", &"+9".repeat(20)]
    {
        let answer = post("phone-numbers", json!({"phone_number": number})).await;
        answer.invalid("Invalid PhoneNumber").names("phone_number", &["+919876543210"]);
    }
    for mode in ["PSTN", "sip"] {
        let body = json!({"phone_number": "+919876543210", "mode": mode});
        post("phone-numbers", body).await.invalid("Invalid mode").names("mode", &["flow"]);
    }
    post("whitelisted-ips", json!({"mask": 32})).await.missing("Ip is mandatory");
    for ip in ["invalid.ip.address", "999.999.999.999", "192.168.1", "", "2001:db8::1", "192.0.2.1/24"] {
        let answer = post("whitelisted-ips", json!({"ip": ip, "mask": 32})).await;
        answer.invalid("Invalid ip").names("ip", &["IPv4"]);
    }
    for mask in [0, 15, 33, 99, -1] {
        let answer = post("whitelisted-ips", json!({"ip": "192.0.2.1", "mask": mask})).await;
        answer.invalid("mask should be in-between 16 and 32").names("mask", &["16", "32"]);
    }
    let text = post("whitelisted-ips", json!({"ip": "192.0.2.1", "mask": "24"})).await;
    assert_eq!(text.body["response"]["error_data"]["code"], 1007, "a number as text: {}", text.text);
    for body in [json!({}), json!({"destinations": []})] {
        post("destination-uris", body).await.missing("Destinations is mandatory");
    }
    post("destination-uris", json!({"destinations": [{}]})).await.missing("Destination is mandatory");
    post("settings", json!({"settings": null})).await.missing("Settings is mandatory");
    post("settings", json!({"settings": [{"name": "trunk_external_alias"}]}))
        .await
        .missing("Value is mandatory");
    let many: Vec<Value> = (0..33).map(|at| json!({"destination": format!("a{at}.example.com")})).collect();
    let many = post("destination-uris", json!({"destinations": many})).await;
    many.invalid("Maximum allowed number of Destinations is 32");
    post("credentials", json!({"password": "p"})).await.missing("UserName is mandatory");
    post("credentials", json!({"user_name": "u"})).await.missing("Password is mandatory");
    let credential = |name: &str, value: &str| {
        let mut body = json!({"user_name": "u", "password": "p"});
        body[name] = json!(value);
        body
    };
    let long = post("credentials", credential("friendly_name", &"x".repeat(33))).await;
    long.invalid("Maximum allowed length for FriendlyName is 32");
    let hyphen = post("credentials", credential("friendly_name", "livekit-staging")).await;
    hyphen.invalid("Allowed characters for FriendlyName is alphanumberic and _");
    let secret = post("credentials", credential("password", "hush-hush")).await;
    secret.invalid("Allowed characters for Password is alphanumeric and _");
    assert!(!secret.text.contains("hush"), "{}", secret.text);
    for (kind, id) in [
        ("phone-numbers", "1"),
        ("whitelisted-ips", "x"),
        ("destination-uris", "41512"),
        ("credentials", "9"),
    ] {
        let path = format!("{TRUNKS}/{sid}/{kind}");
        server.exotel("DELETE", &path, None).await.missing("Id is mandatory");
        server.exotel("DELETE", &format!("{path}?id={id}"), None).await.nothing();
        let body = match kind {
            "phone-numbers" => json!({"phone_number": "+919876543210", "mode": "flow"}),
            "whitelisted-ips" => json!({"ip": "192.0.2.1"}),
            _ => json!({}),
        };
        server.exotel("PUT", &format!("{path}/{id}"), Some(body)).await.nothing();
    }
    server.exotel("DELETE", &format!("{TRUNKS}/{sid}/settings"), None).await.missing("Name is mandatory");
    server
        .exotel("DELETE", &format!("{TRUNKS}/{sid}/settings?name=trunk_external_alias"), None)
        .await
        .nothing();
    server.exotel("GET", "/v2/accounts/acme/trunk-maps", None).await.missing("Exophone is mandatory");
    for trunk in TRUNKS_OF {
        server.exotel("GET", &format!("{trunk}/phone-numbers"), None).await.nothing();
        server
            .exotel("POST", &format!("{trunk}/phone-numbers"), Some(json!({"phone_number": "+919876543210"})))
            .await
            .nothing();
    }
    // A number's id is held against the number.
    let number = post("phone-numbers", json!({"phone_number": "+919876543210"})).await;
    let id = number.body["response"]["data"]["id"].as_str().unwrap();
    let path = format!("{TRUNKS}/{sid}/phone-numbers/{id}");
    let other = json!({"phone_number": "+919876543211", "mode": "flow"});
    server
        .exotel("PUT", &path, Some(other))
        .await
        .invalid("Invalid PhoneNumber")
        .names("phone_number", &["+919876543210"]);
    server
        .exotel("PUT", &path, Some(json!({"phone_number": "+919876543210"})))
        .await
        .missing("Mode is mandatory");
}

#[tokio::test]
async fn duplicates_are_refused_inside_an_answer_of_200_or_by_the_switch_of_409() {
    for (switch, status) in [(200, 200), (409, 409)] {
        let server = Server::with(|config| config.api.exotel_duplicate_status = switch).await;
        let sid = server.exotel_trunk("py_121523").await;
        let other = server.exotel_trunk("other").await;
        let refused = |answer: Answer, description: &str| {
            answer.refused(status, 409, 1008, "Duplicate resource", description);
        };
        let again = server.exotel("POST", TRUNKS, Some(new_trunk("py_121523"))).await;
        refused(again, "Unable to create trunk with name py_121523");
        let renamed = json!({"trunk_name": "py_121523"});
        let again = server.exotel("PUT", &format!("{TRUNKS}/{other}"), Some(renamed)).await;
        refused(again, "Unable to create trunk with name py_121523");
        for (kind, body, description) in [
            (
                "phone-numbers",
                json!({"phone_number": "+919876543210"}),
                format!("Unable to create DidTrunkMapping with TrunkSid {sid}"),
            ),
            (
                "whitelisted-ips",
                json!({"ip": "192.168.1.1"}),
                "Unable to Whitelist-ip with ip 192.168.1.1".to_owned(),
            ),
            (
                "credentials",
                json!({"user_name": "u", "password": "p"}),
                "Unable to create credential with user_name u".to_owned(),
            ),
        ] {
            let path = format!("{TRUNKS}/{sid}/{kind}");
            let first = server.exotel("POST", &path, Some(body.clone())).await;
            assert_eq!(first.body["response"]["code"], 200, "{}", first.text);
            refused(server.exotel("POST", &path, Some(body)).await, &description);
        }
        // On another trunk too, and without its plus.
        let path = format!("{TRUNKS}/{other}/phone-numbers");
        let taken = server.exotel("POST", &path, Some(json!({"phone_number": "+919876543210"}))).await;
        refused(taken, &format!("Unable to create DidTrunkMapping with TrunkSid {other}"));
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_so() {
    let server = Server::start().await;
    let send = |kind: Option<&'static str>, body: &'static str| {
        let mut request = server.request("POST", TRUNKS, &server.key);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        server.raw(request.body(Body::from(body)).unwrap())
    };
    send(Some("text/plain"), "{}").await.refused(415, 415, 1011, "unsupported content type", "text/plain");
    send(None, "{}").await.refused(415, 415, 1011, "unsupported content type", "");
    for body in [r#"{"trunk_name":"test""#, "", "[]", "nonsense"] {
        let answer = send(Some("application/json; charset=utf-8"), body).await;
        let error = &answer.body["response"]["error_data"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!(1007)), "{}", answer.text);
        assert_eq!(error["message"], "Invalid request body,failed parsing ");
        assert!(!error["description"].as_str().unwrap().is_empty());
    }
    let request =
        server.request("POST", TRUNKS, &server.key).header(header::CONTENT_TYPE, "application/json");
    let large = server.raw(request.body(Body::from("x".repeat(2_000_000))).unwrap()).await;
    assert_eq!(
        (large.status.as_u16(), &large.body["response"]["code"]),
        (413, &json!(413)),
        "{}",
        large.text
    );
}

#[tokio::test]
async fn a_key_is_asked_for_as_basic_or_bearer_and_opens_its_own_account_alone() {
    let server = Server::start().await;
    let refused = |answer: &Answer| {
        answer.refused(401, 401, 1010, "Authorization failed", "Authorization failed");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Basic realm=\"tandem\"");
    };
    refused(&server.raw(server.request("GET", TRUNKS, "").body(Body::empty()).unwrap()).await);
    refused(&server.exotel_as("bn-wrong", "GET", TRUNKS, None).await);
    refused(&server.raw(server.request("GET", TRUNKS, "bn-wrong").body(Body::empty()).unwrap()).await);
    let bearer = server.raw(server.request("GET", TRUNKS, &server.key).body(Body::empty()).unwrap()).await;
    assert_eq!(bearer.status, 200, "{}", bearer.text);
    let (_, reader) = server.store.create_key("acme", &["trunks:read".to_owned()]).await.unwrap();
    assert_eq!(server.exotel_as(reader.reveal(), "GET", TRUNKS, None).await.status, 200);
    let write = server.exotel_as(reader.reveal(), "POST", TRUNKS, Some(new_trunk("x"))).await;
    write.refused(403, 403, 1003, "Authorization failed", "This key lacks the scope trunks:write");
}

#[tokio::test]
async fn another_accounts_things_are_as_unknown_ones() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("walled").await;
    let child = |kind: &str, body: Value| {
        let path = format!("{TRUNKS}/{sid}/{kind}");
        let server = &server;
        async move { server.exotel("POST", &path, Some(body)).await.body["response"]["data"]["id"].clone() }
    };
    let number = child("phone-numbers", json!({"phone_number": "+919876543210"})).await;
    let address = child("whitelisted-ips", json!({"ip": "192.0.2.1"})).await;
    let credential = child("credentials", json!({"user_name": "u", "password": "p"})).await;
    let before = server.exotel("GET", TRUNKS, None).await.body["response"].clone();

    // The account in the path is not the key's, whether there is such an account or not.
    for account in ["acme", "nobody"] {
        let path = format!("/v2/accounts/{account}/trunks");
        for (method, path) in [("GET", path.clone()), ("DELETE", format!("{path}?trunk_sid={sid}"))] {
            let answer = server.exotel_as(&server.other_key, method, &path, None).await;
            answer.refused(403, 403, 1003, "Authorization failed", "Authorization failed");
        }
    }
    // One's own account in the path, another's identifiers behind it: the same as for identifiers of nobody.
    let own = "/v2/accounts/other/trunks";
    let unknown = "trmum101hq0000000000000000000000";
    let body = json!({"phone_number": "+919876543210", "mode": "flow", "ip": "192.0.2.9", "user_name": "x",
        "password": "y", "trunk_name": "x", "destinations": [{"destination": "a.example.com"}],
        "settings": [{"name": "trunk_external_alias", "value": "+919876543210"}]});
    let mut requests: Vec<(&str, String, bool)> = vec![
        ("PUT", String::new(), true),
        ("GET", "/settings".to_owned(), false),
        ("POST", "/settings".to_owned(), true),
        ("DELETE", "/settings?name=trunk_external_alias".to_owned(), false),
        ("POST", "/destination-uris".to_owned(), true),
        ("GET", "/destination-uris".to_owned(), false),
    ];
    for (kind, id) in
        [("phone-numbers", &number), ("whitelisted-ips", &address), ("credentials", &credential)]
    {
        let id = id.as_str().unwrap();
        requests.extend([
            ("GET", format!("/{kind}"), false),
            ("POST", format!("/{kind}"), true),
            ("PUT", format!("/{kind}/{id}"), true),
            ("DELETE", format!("/{kind}?id={id}"), false),
        ]);
    }
    for (method, rest, has_body) in requests {
        for trunk in [sid.as_str(), unknown] {
            let body = has_body.then(|| body.clone());
            let path = format!("{own}/{trunk}{rest}");
            server.exotel_as(&server.other_key, method, &path, body).await.nothing();
        }
    }
    server.exotel_as(&server.other_key, "DELETE", &format!("{own}?trunk_sid={sid}"), None).await.nothing();
    let maps = "/v2/accounts/other/trunk-maps?exophone=919876543210";
    assert_eq!(server.exotel_as(&server.other_key, "GET", maps, None).await.body["response"], json!([]));
    assert_eq!(server.exotel("GET", TRUNKS, None).await.body["response"], before, "nothing was touched");
}

#[tokio::test]
async fn paths_that_are_none_are_refused_in_the_envelope() {
    let server = Server::start().await;
    let unknown = server.exotel("GET", "/v2/accounts/acme/nothing", None).await;
    unknown.nothing();
    let method = server.exotel("PATCH", TRUNKS, Some(json!({}))).await;
    assert_eq!(
        (method.status.as_u16(), &method.body["response"]["code"]),
        (405, &json!(405)),
        "{}",
        method.text
    );
    // Other families keep their own shape.
    assert_eq!(server.get("/nothing").await.body["error"], 404);
}

#[tokio::test]
async fn more_requests_than_the_limit_are_refused_in_the_envelope() {
    let server = Server::with(|config| config.limits.api_exotel_per_minute = 2).await;
    for _ in 0..2 {
        assert_eq!(server.exotel("GET", TRUNKS, None).await.status, 200);
    }
    let answer = server.exotel("GET", TRUNKS, None).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["response"]["code"]),
        (429, &json!(429)),
        "{}",
        answer.text
    );
    assert_eq!(answer.body["response"]["error_data"]["code"], 1030);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    // Other families have limits of their own.
    assert_eq!(server.get("/sip-trunks/trunks").await.status, 200);
}
