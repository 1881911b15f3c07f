//! Address ranges and the trunks that call from them: a trie of nibbles whose copies share what they have in common.
//!
//! A look-up walks at most 8 nodes for IPv4 and 32 for IPv6, however many ranges there are. IPv4-mapped IPv6 addresses
//! are the caller's to unwrap.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::ordered_set::OrderedSet;
use crate::ids::TrunkId;

/// Bits of the address that one node looks at.
const STRIDE: u8 = 4;

/// The ranges. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    v4: Arc<Node>,
    v6: Arc<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Ranges that end within this nibble, the shortest first.
    here: Vec<Range>,
    /// Bit n: there is a child for nibble n. Children stand in this order.
    occupied: u16,
    children: Vec<Arc<Self>>,
}

#[derive(Clone, Debug)]
struct Range {
    /// How many bits of the nibble count, 0 to 3 (4 is the child's 0), and what they are, in their places.
    bits: u8,
    nibble: u8,
    trunks: Arc<OrderedSet<TrunkId>>,
}

impl Range {
    fn holds(&self, nibble: u8) -> bool {
        (nibble ^ self.nibble) & mask(self.bits) == 0
    }
}

/// The bits of a nibble that count.
fn mask(bits: u8) -> u8 {
    0b1111 << (STRIDE - bits) & 0b1111
}

/// An address from its highest bit down.
fn high_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

fn gather<'a>(range: &'a Range, most: usize, into: &mut Vec<&'a TrunkId>) {
    let room = most.saturating_sub(into.len());
    into.extend(range.trunks.iter().take(room));
}

fn nibble_at(bits: u128, depth: u8) -> u8 {
    // Beyond the last nibble stands nothing, and nothing is asked of it but the range that ends there.
    bits.checked_shr(u32::from(124_u8.saturating_sub(depth * STRIDE)))
        .map_or(0, |bits| if depth < 32 { (bits & 0b1111) as u8 } else { 0 })
}

impl Node {
    fn child(&self, nibble: u8) -> Option<&Arc<Self>> {
        (self.occupied >> nibble & 1 == 1).then(|| &self.children[self.place(nibble)])
    }

    fn place(&self, nibble: u8) -> usize {
        (self.occupied & ((1 << nibble) - 1)).count_ones() as usize
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.occupied == 0
    }

    /// Every trunk of this node and below, as long as there is room.
    fn gather<'a>(&'a self, most: usize, into: &mut Vec<&'a TrunkId>) {
        for range in &self.here {
            gather(range, most, into);
        }
        for child in &self.children {
            if into.len() >= most {
                return;
            }
            child.gather(most, into);
        }
    }

    fn insert(&mut self, bits: u128, depth: u8, left: u8, trunk: &TrunkId) {
        let nibble = nibble_at(bits, depth);
        if left >= STRIDE {
            let place = self.place(nibble);
            if self.occupied >> nibble & 1 == 0 {
                self.occupied |= 1 << nibble;
                self.children.insert(place, Arc::default());
            }
            return Arc::make_mut(&mut self.children[place]).insert(bits, depth + 1, left - STRIDE, trunk);
        }
        let nibble = nibble & mask(left);
        let at = self.here.partition_point(|range| (range.bits, range.nibble) < (left, nibble));
        if self.here.get(at).is_none_or(|range| (range.bits, range.nibble) != (left, nibble)) {
            self.here.insert(at, Range { bits: left, nibble, trunks: Arc::default() });
        }
        Arc::make_mut(&mut self.here[at].trunks).insert(trunk.clone());
    }

    fn remove(&mut self, bits: u128, depth: u8, left: u8, trunk: &TrunkId) {
        let nibble = nibble_at(bits, depth);
        if left >= STRIDE {
            if self.occupied >> nibble & 1 == 0 {
                return;
            }
            let place = self.place(nibble);
            let child = Arc::make_mut(&mut self.children[place]);
            child.remove(bits, depth + 1, left - STRIDE, trunk);
            if child.is_empty() {
                self.children.remove(place);
                self.occupied &= !(1 << nibble);
            }
            return;
        }
        let nibble = nibble & mask(left);
        let Some(at) = self.here.iter().position(|range| (range.bits, range.nibble) == (left, nibble)) else {
            return;
        };
        let trunks = Arc::make_mut(&mut self.here[at].trunks);
        trunks.remove(trunk);
        if trunks.is_empty() {
            self.here.remove(at);
        }
    }
}

impl Ranges {
    fn root(&self, is_v4: bool) -> &Node {
        if is_v4 { &self.v4 } else { &self.v6 }
    }

    fn root_mut(&mut self, range: &IpNet) -> &mut Node {
        Arc::make_mut(match range {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        })
    }

    pub(crate) fn insert(&mut self, range: IpNet, trunk: &TrunkId) {
        self.root_mut(&range).insert(high_bits(range.network()), 0, range.prefix_len(), trunk);
    }

    pub(crate) fn remove(&mut self, range: IpNet, trunk: &TrunkId) {
        self.root_mut(&range).remove(high_bits(range.network()), 0, range.prefix_len(), trunk);
    }

    /// Whether any range holds the address.
    pub(crate) fn hold(&self, address: IpAddr) -> bool {
        let bits = high_bits(address);
        let mut node = self.root(address.is_ipv4());
        for depth in 0.. {
            let nibble = nibble_at(bits, depth);
            if node.here.iter().any(|range| range.holds(nibble)) {
                return true;
            }
            match node.child(nibble) {
                Some(child) => node = child,
                None => return false,
            }
        }
        false
    }

    /// The ranges that hold the address, as prefix length and trunks, the longest first.
    pub(crate) fn holding(&self, address: IpAddr) -> SmallVec<[(u8, &OrderedSet<TrunkId>); 8]> {
        let bits = high_bits(address);
        let mut found = SmallVec::new();
        let mut node = self.root(address.is_ipv4());
        for depth in 0.. {
            let nibble = nibble_at(bits, depth);
            for range in node.here.iter().filter(|range| range.holds(nibble)) {
                found.push((depth * STRIDE + range.bits, &*range.trunks));
            }
            match node.child(nibble) {
                Some(child) => node = child,
                None => break,
            }
        }
        found.reverse();
        found
    }

    /// Trunks of ranges that hold this one, lie in it, or are it; at most so many entries.
    pub(crate) fn overlapping(&self, range: &IpNet, most: usize) -> Vec<&TrunkId> {
        let bits = high_bits(range.network());
        let mut found = Vec::new();
        let mut node = self.root(range.network().is_ipv4());
        let mut left = range.prefix_len();
        for depth in 0.. {
            let nibble = nibble_at(bits, depth);
            if left < STRIDE {
                let agree = |other: u8, bits: u8| (nibble ^ other) & mask(bits.min(left)) == 0;
                for range in node.here.iter().filter(|range| agree(range.nibble, range.bits)) {
                    gather(range, most, &mut found);
                }
                let places = (0..16_u8).filter(|nibble| node.occupied >> nibble & 1 == 1);
                for (child, _) in node.children.iter().zip(places).filter(|(_, place)| agree(*place, STRIDE))
                {
                    child.gather(most, &mut found);
                }
                break;
            }
            for range in node.here.iter().filter(|range| range.holds(nibble)) {
                gather(range, most, &mut found);
            }
            match node.child(nibble) {
                Some(child) => node = child,
                None => break,
            }
            left -= STRIDE;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(count: u64) -> Vec<IpNet> {
        let mut state = 3_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 32
        };
        (0..count)
            .map(|index| {
                // Few bits in use, so that ranges lie inside each other.
                let text = if index.is_multiple_of(3) {
                    format!("2001:db8:{}:{}::{}/{}", next() % 3, next() % 3, next() % 3, next() % 129)
                } else {
                    format!("10.{}.{}.{}/{}", next() % 3, next() % 3, next() % 256, next() % 33)
                };
                text.parse::<IpNet>().unwrap().trunc()
            })
            .collect()
    }

    #[test]
    fn an_address_is_held_by_the_ranges_that_contain_it_and_no_others() {
        let networks = networks(600);
        let mut ranges = Ranges::default();
        for (index, network) in networks.iter().enumerate() {
            ranges.insert(*network, &TrunkId::from(format!("{index:04}")));
        }
        let copy = ranges.clone();
        for (index, network) in networks.iter().enumerate().filter(|(index, _)| index % 2 == 0) {
            ranges.remove(*network, &TrunkId::from(format!("{index:04}")));
        }
        let check = |ranges: &Ranges, is_in: fn(usize) -> bool| {
            for address in networks.iter().flat_map(|network| [network.network(), network.broadcast()]) {
                let mut expected: Vec<(u8, String)> = networks
                    .iter()
                    .enumerate()
                    .filter(|(index, network)| is_in(*index) && network.contains(&address))
                    .map(|(index, network)| (network.prefix_len(), format!("{index:04}")))
                    .collect();
                expected.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
                let found: Vec<(u8, String)> = ranges
                    .holding(address)
                    .into_iter()
                    .flat_map(|(bits, trunks)| trunks.iter().map(move |trunk| (bits, trunk.to_string())))
                    .collect();
                assert_eq!(found, expected, "{address}");
                assert_eq!(ranges.hold(address), !expected.is_empty());
            }
            for network in &networks {
                let mut expected: Vec<String> = networks
                    .iter()
                    .enumerate()
                    .filter(|(index, other)| {
                        is_in(*index) && (other.contains(network) || network.contains(*other))
                    })
                    .map(|(index, _)| format!("{index:04}"))
                    .collect();
                expected.sort();
                let mut found: Vec<String> =
                    ranges.overlapping(network, usize::MAX).into_iter().map(ToString::to_string).collect();
                found.sort();
                assert_eq!(found, expected, "{network}");
                assert!(ranges.overlapping(network, 3).len() <= 3);
            }
        };
        check(&ranges, |index| index % 2 == 1);
        check(&copy, |_| true);
        for (index, network) in networks.iter().enumerate() {
            ranges.remove(*network, &TrunkId::from(format!("{index:04}")));
        }
        assert!(ranges.v4.is_empty() && ranges.v6.is_empty());
    }
}
