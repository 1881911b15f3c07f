//! What no body sent to the REST API may do: whatever the bytes, there comes an object that can be stored, or an
//! answer that names the fault; never a panic.

/// One body, read as each endpoint would.
pub fn rest_body(data: &[u8]) {
    tandem_server::api::read_any_body(data);
}
