//! Address ranges and the trunks that call from them: a trie of bytes whose copies share what they have in common.
//!
//! A look-up walks at most 5 nodes for IPv4 and 17 for IPv6, however many ranges there are. IPv4-mapped IPv6 addresses
//! are the caller's to unwrap.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::ordered_set::OrderedSet;
use crate::ids::TrunkId;

/// Bits of the address that one node looks at.
const STRIDE: u8 = 8;

/// The ranges. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    v4: Arc<Node>,
    v6: Arc<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Ranges that end within this byte, the shortest first, then by its bits.
    here: Vec<Range>,
    /// Bit n: there are ranges of n bits here.
    lengths: u8,
    /// Bit n of all 256, the lowest word first: there is a child for byte n. Children stand in this order.
    occupied: [u64; 4],
    children: Vec<Arc<Self>>,
}

#[derive(Clone, Debug)]
struct Range {
    /// How many bits of the byte count, 0 to 7 (8 is the child's 0), and what they are, in their places.
    bits: u8,
    byte: u8,
    trunks: Arc<OrderedSet<TrunkId>>,
}

impl Range {
    fn place(&self) -> (u8, u8) {
        (self.bits, self.byte)
    }
}

/// The bits of a byte that count.
fn mask(bits: u8) -> u8 {
    0xff_u8.checked_shl(u32::from(STRIDE - bits)).unwrap_or(0)
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

fn byte_at(bits: u128, depth: u8) -> u8 {
    // Beyond the last byte stands nothing, and nothing is asked of it but the range that ends there.
    bits.to_be_bytes().get(usize::from(depth)).copied().unwrap_or(0)
}

impl Node {
    fn has_child(&self, byte: u8) -> bool {
        self.occupied[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    fn child(&self, byte: u8) -> Option<&Arc<Self>> {
        self.has_child(byte).then(|| &self.children[self.place(byte)])
    }

    fn place(&self, byte: u8) -> usize {
        let word = usize::from(byte / 64);
        let before: u32 = self.occupied[..word].iter().map(|word| word.count_ones()).sum();
        (before + (self.occupied[word] & ((1 << (byte % 64)) - 1)).count_ones()) as usize
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.children.is_empty()
    }

    /// The ranges here that hold an address with this byte, the shortest first.
    fn holding(&self, byte: u8) -> impl Iterator<Item = &Range> {
        (0..STRIDE).filter(|bits| self.lengths >> bits & 1 == 1).filter_map(move |bits| {
            let wanted = (bits, byte & mask(bits));
            self.here.binary_search_by_key(&wanted, Range::place).ok().map(|at| &self.here[at])
        })
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
        let byte = byte_at(bits, depth);
        if left >= STRIDE {
            let place = self.place(byte);
            if !self.has_child(byte) {
                self.occupied[usize::from(byte / 64)] |= 1 << (byte % 64);
                self.children.insert(place, Arc::default());
            }
            return Arc::make_mut(&mut self.children[place]).insert(bits, depth + 1, left - STRIDE, trunk);
        }
        let wanted = (left, byte & mask(left));
        let at = self.here.partition_point(|range| range.place() < wanted);
        if self.here.get(at).is_none_or(|range| range.place() != wanted) {
            self.here.insert(at, Range { bits: wanted.0, byte: wanted.1, trunks: Arc::default() });
            self.lengths |= 1 << left;
        }
        Arc::make_mut(&mut self.here[at].trunks).insert(trunk.clone());
    }

    fn remove(&mut self, bits: u128, depth: u8, left: u8, trunk: &TrunkId) {
        let byte = byte_at(bits, depth);
        if left >= STRIDE {
            if !self.has_child(byte) {
                return;
            }
            let place = self.place(byte);
            let child = Arc::make_mut(&mut self.children[place]);
            child.remove(bits, depth + 1, left - STRIDE, trunk);
            if child.is_empty() {
                self.children.remove(place);
                self.occupied[usize::from(byte / 64)] &= !(1 << (byte % 64));
            }
            return;
        }
        let wanted = (left, byte & mask(left));
        let Ok(at) = self.here.binary_search_by_key(&wanted, Range::place) else { return };
        let trunks = Arc::make_mut(&mut self.here[at].trunks);
        trunks.remove(trunk);
        if trunks.is_empty() {
            self.here.remove(at);
            if !self.here.iter().any(|range| range.bits == left) {
                self.lengths &= !(1 << left);
            }
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
            let byte = byte_at(bits, depth);
            if node.holding(byte).next().is_some() {
                return true;
            }
            match node.child(byte) {
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
            let byte = byte_at(bits, depth);
            for range in node.holding(byte) {
                found.push((depth * STRIDE + range.bits, &*range.trunks));
            }
            match node.child(byte) {
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
            let byte = byte_at(bits, depth);
            if left < STRIDE {
                let agree = |other: u8, bits: u8| (byte ^ other) & mask(bits.min(left)) == 0;
                for range in node.here.iter().filter(|range| agree(range.byte, range.bits)) {
                    gather(range, most, &mut found);
                }
                let places = (0..=u8::MAX).filter(|byte| node.has_child(*byte));
                for (child, _) in node.children.iter().zip(places).filter(|(_, place)| agree(*place, STRIDE))
                {
                    child.gather(most, &mut found);
                }
                break;
            }
            for range in node.holding(byte) {
                gather(range, most, &mut found);
            }
            match node.child(byte) {
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
