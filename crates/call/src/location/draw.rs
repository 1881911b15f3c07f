//! The order of what was found: transports as preferred, hosts by priority, and by weight among equals (RFC 2782).

use std::net::SocketAddr;

use rand_core::Rng;
use tandem_sip::Transport;

use super::{Found, Host};

impl Found {
    /// The places to try, the first first. Each host's addresses stay together.
    pub fn draw(&self, random: &mut impl Rng) -> Vec<(Transport, SocketAddr)> {
        let mut places = Vec::new();
        for service in &self.services {
            let mut hosts: Vec<&Host> = service.hosts.iter().collect();
            hosts.sort_by_key(|host| host.priority);
            while let Some(first) = hosts.first() {
                let priority = first.priority;
                let equals = hosts.iter().take_while(|host| host.priority == priority).count();
                let host = hosts.remove(drawn(&hosts[..equals], random));
                for address in &host.addresses {
                    let place = (service.transport, SocketAddr::new(*address, host.port));
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
            }
        }
        places
    }
}

/// One of these, which have the same priority. RFC 2782: those of weight 0 stand first, each has the running sum of weights,
/// and the first whose sum is not below a number drawn from 0 to the whole sum is taken.
fn drawn(hosts: &[&Host], random: &mut impl Rng) -> usize {
    let mut order: Vec<usize> = (0..hosts.len()).collect();
    order.sort_by_key(|index| hosts[*index].weight != 0);
    let whole: u64 = hosts.iter().map(|host| u64::from(host.weight)).sum();
    let number = random.next_u64() % (whole + 1);
    let mut sum = 0;
    for index in order {
        sum += u64::from(hosts[index].weight);
        if sum >= number {
            return index;
        }
    }
    0
}
