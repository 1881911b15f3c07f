//! The real binary on loopback: its sockets, its agents, its way to start and to stop.

mod agent;
mod agents;
mod callers;
mod calls;
mod connections;
mod control;
mod dialects;
mod exotel;
mod gateways;
mod phone;
mod quality;
mod recording;
mod srtp;
mod starting;
mod stopping;
mod strangers;
mod tls;
mod transport;
mod trunks;

use serde_json::Value;
use tandem_tests::product::{Product, Provisioned, ip_trunk};

/// A server with one trunk for callers on this machine and one number that leads to `agent`.
fn product_with(agent: &agent::Agent, configuration: &str) -> (Product, Provisioned) {
    let product = Product::start_with(configuration);
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &agent.websocket());
    (product, provisioned)
}

/// The number that is called.
const DID: &str = "+493055550100";

/// A text of a record.
fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().unwrap_or_default()
}
