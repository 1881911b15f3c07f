//! Bolna's API: trunks, numbers, mappings, agents, executions, in the vendor's shapes and error texts.
//!
//! Each file holds the endpoints of one resource, the bodies they read and the shapes they answer. Reading is by
//! hand ([`super::fields`]), so that a fault names field, value and remedy; the schemas beside it describe what is
//! read and answered.

mod agent_body;
mod agent_shape;
mod agents;
mod batch_form;
mod batches;
mod call_body;
mod calls;
mod carrier_body;
mod carrier_parts;
mod carrier_shapes;
mod carrier_trunks;
mod execution_log;
mod execution_shape;
mod executions;
mod inbound;
mod numbers;
mod phone_numbers;
mod providers;
mod recordings;
mod registration;
mod shapes;
mod sub_accounts;
mod trunk_body;
mod trunk_facts;
mod trunk_schemas;
mod trunk_shapes;
mod trunks;
mod user;

use axum::body::Bytes;
use utoipa_axum::router::OpenApiRouter;

pub(super) use agent_body::MOST_ENTRIES;
pub(super) use call_body::sip_headers;
pub(super) use carrier_trunks::{edit_trunk, find_trunk};
pub(super) use trunk_body::limits as read_limits;

use super::fields::Faults;
use super::form::Form;
use super::{App, body};
use crate::store::StoredExecution;

/// Every endpoint of the family.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(agents::routes())
        .merge(batches::routes())
        .merge(calls::routes())
        .merge(executions::routes())
        .merge(recordings::routes())
        .merge(inbound::routes())
        .merge(sub_accounts::routes())
        .merge(trunks::routes())
        .merge(numbers::routes())
        .merge(carrier_trunks::routes())
        .merge(carrier_parts::routes())
        .merge(phone_numbers::routes())
        .merge(providers::routes())
        .merge(user::routes())
}

/// An execution in the vendor's shape; `public_url` is the base of the URLs in it.
pub(super) fn execution_body(execution: &StoredExecution, public_url: &str) -> serde_json::Value {
    // Texts, numbers and lists of them have no way to fail.
    serde_json::to_value(execution_shape::execution(execution, public_url)).unwrap_or_default()
}

/// Reads a body as each of the endpoints would, and throws the result away: the door for fuzzing.
pub(super) fn read_any_body(bytes: &[u8]) {
    drop(batch_form::new_batch(&Form::of_file(bytes)));
    let Ok(object) = body::parse_object(&Bytes::copy_from_slice(bytes), 32) else { return };
    let mut faults = Faults::default();
    if let Some((mut settings, _)) = trunk_body::new_trunk(&object, &mut faults) {
        assert!(faults.is_empty(), "a trunk is made of a body without faults alone");
        trunk_body::change_trunk(&object, &mut settings, &mut faults);
    }
    trunk_body::new_number(&object, &mut faults);
    if let Some(mut settings) = carrier_body::new_trunk(&object, &mut Faults::default()) {
        carrier_body::change_trunk(&object, &mut settings, &mut faults);
    }
    carrier_body::new_gateway(&object, &mut faults);
    carrier_body::new_range(&object, &mut faults);
    carrier_body::new_number(&object, &mut faults);
    agent_body::new_agent(&object, &mut faults);
    inbound::mapping(&object, &mut faults);
    call_body::call(&object, &mut faults);
    providers::provider(&object, &mut faults);
    drop(faults.finish());
}
