//! Each field of a trunk, where it acts, and the test that shows it. What is stored and acts nowhere would be a
//! lie: so each field that calls depend on is held against the routing table, changed by itself.
//!
//! | field | where it acts | shown by |
//! |---|---|---|
//! | `is_active`, `inbound_enabled` | `call/route.rs`, switches: 403 `trunk_inactive`, `inbound_disabled` | `call/tests/routing.rs` |
//! | `auth_type`, `auth_username`, `auth_password` | `call/route.rs` and `invite.rs`, digest | `call/tests/engine/strangers.rs`, `tests/sim/digest.rs` |
//! | `ip_identifiers` | `call/table.rs`, sources; longest prefix first | `call/tests/routing.rs` |
//! | `allow`, `disallow` | `call/route.rs` (488 `no_common_codec`), `negotiation.rs` (order) | `call/tests/routing.rs` |
//! | `force_rport` | `call/reach.rs`, `invite.rs`: answers to the source port | `call/tests/engine` |
//! | `rtp_symmetric` | `call/connect.rs`: how RTP's source is latched | `tests/sim`, `media` |
//! | `media_encryption`, `media_encryption_optimistic` | `call/encryption.rs`, `route.rs` (488 `encryption_missing` and its kin), `negotiation.rs` | `tests/e2e/srtp.rs`, `call/tests/routing.rs` |
//! | `direct_media` | `call/route.rs`: noted in the verdict, for an agent's WebSocket is no party to RTP | `call/tests/routing.rs` |
//! | `channels…`, `calls_per_second` | `call/admission.rs`: 486, 480 | `tests/e2e/trunks.rs`, `call/admission.rs` |
//! | `registration` | `call/register.rs`: REGISTER, and whose calls the registrar brings | `registration.rs`, `call/tests/engine/register.rs`, `tests/interop/registrar.rs` |
//! | `default_inbound_agent_id` | `call/route.rs` | `carrier.rs`, `call/tests/routing.rs` |
//! | `destination_key` of a number | `call/table.rs`, `route.rs` | `carrier.rs`, `call/tests/routing.rs` |
//! | `ice_support` | `call/encryption.rs`, `media/sdp/ice.rs`: an offer that carries ICE is answered as ICE-lite | `media/tests/secured_offers.rs`, `tests/interop/srtp.rs` |
//! | `gateways`, `transport`, `outbound_enabled`, `outbound_leading_plus_enabled` | `call/placing.rs`, `gateways.rs`, `addressing.rs` | `call/tests/engine/outbound.rs`, `tests/interop/outbound.rs` |
//! | `qualify_frequency` | `call/qualify.rs` | `call/tests/engine/qualify.rs`, `tests/e2e/gateways.rs` |
//! | all of `/v1/trunks/{id}/outbound` | `call/failover.rs`, `redirect.rs`, `identity.rs`, `location.rs` | `trunk_outbound.rs`, `call/tests/engine/redirects.rs`, `tests/interop/gateways.rs` |

use serde_json::{Value, json};

use super::client::{Server, ip_trunk};

#[tokio::test]
async fn each_field_that_calls_depend_on_reaches_the_engine_by_itself() {
    let server = Server::start().await;
    let agent = server.agent().await;
    let mut body = ip_trunk("a");
    body["transport"] = json!("transport-tls");
    let made = server.post("/sip-trunks/trunks", body).await;
    let id = made.body["id"].as_str().unwrap().to_owned();
    let routed = || format!("{:?}", server.table().trunk(&id.as_str().into()).unwrap());
    let legacy = format!("/sip-trunks/trunks/{id}");
    let newer = format!("/trunk/trunks/{id}");
    for (path, field, value) in [
        (&legacy, "name", json!("b")),
        (&legacy, "gateways", json!([{"gateway_address": "other.example", "port": 5070, "priority": 3}])),
        (&legacy, "ip_identifiers", json!([{"ip_address": "192.0.2.0/24"}])),
        (&legacy, "allow", json!("alaw")),
        (&legacy, "disallow", json!("g729,ulaw")),
        (&legacy, "media_encryption", json!("sdes")),
        (&legacy, "media_encryption_optimistic", json!(true)),
        (&legacy, "direct_media", json!(true)),
        (&legacy, "rtp_symmetric", json!(false)),
        (&legacy, "force_rport", json!(false)),
        (&legacy, "ice_support", json!(false)),
        (&legacy, "qualify_frequency", json!(0)),
        (&legacy, "inbound_enabled", json!(false)),
        (&legacy, "outbound_enabled", json!(false)),
        (&legacy, "outbound_leading_plus_enabled", json!(false)),
        (&legacy, "channels", json!(7)),
        (&legacy, "channels_in", json!(6)),
        (&legacy, "channels_out", json!(5)),
        (&legacy, "calls_per_second", json!(2.5)),
        (&newer, "default_inbound_agent_id", json!(agent)),
        (&legacy, "is_active", json!(false)),
    ] {
        let before = routed();
        let answer = server.patch(path, json!({field: value})).await;
        assert_eq!(answer.status, 200, "{field}: {}", answer.text);
        if field == "disallow" {
            // `allow` names alaw alone by now: refusing ulaw besides changes nothing for calls.
            assert_eq!(routed(), before, "{field}");
        } else {
            assert_ne!(routed(), before, "{field} changes nothing for calls");
        }
        let shown = server.get(path).await.body;
        match field {
            "gateways" => assert_eq!(shown[field][0]["gateway_address"], "other.example"),
            _ => assert_eq!(shown[field], value, "{field}"),
        }
    }
    // What is only its owner's to read reaches no call.
    let before = routed();
    let described = server.patch(&legacy, json!({"description": "x"})).await;
    assert_eq!((described.status.as_u16(), &described.body["description"]), (200, &Value::from("x")));
    assert_eq!(routed(), before);
}
