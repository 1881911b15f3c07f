//! A wheel of one-millisecond slots: which call is due next.
//!
//! Deadlines are absolute: a call that is due at tick 1,000 and is served at 1,003 is due again at 1,020,
//! so a late thread catches up and never drifts. A deadline farther away than the wheel reaches is put in
//! the last slot and looked at again there. One entry per call is the rule; an entry made stale by an
//! earlier deadline is recognised by its owner and passed over.

/// Slots: more than the 20 ms of a frame, and one machine word of occupancy.
const SLOTS: u64 = 64;

/// The wheel. Ticks are milliseconds since the thread began.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: [Vec<u32>; SLOTS as usize],
    /// Bit n: slot n holds entries.
    occupied: u64,
    /// Every tick up to this one has been served.
    served: u64,
}

impl Wheel {
    /// An empty wheel at tick 0.
    pub(super) fn new() -> Self {
        Self { slots: [const { Vec::new() }; SLOTS as usize], occupied: 0, served: 0 }
    }

    /// Enters `index` to be served at `tick`, or at the next tick if that has passed. Returns the tick at
    /// which it will be served; it is earlier than asked for if that is beyond the wheel's reach.
    pub(super) fn schedule(&mut self, tick: u64, index: u32) -> u64 {
        let tick = tick.clamp(self.served + 1, self.served + SLOTS - 1);
        let slot = (tick % SLOTS) as usize;
        self.slots[slot].push(index);
        self.occupied |= 1 << slot;
        tick
    }

    /// Moves every entry due at `tick` or before into `due`, in order of time.
    pub(super) fn expire(&mut self, tick: u64, due: &mut Vec<u32>) {
        // After a long stall each slot is visited once: the wheel holds no entry farther away.
        let last = tick.min(self.served + SLOTS);
        for passed in self.served + 1..=last {
            let slot = (passed % SLOTS) as usize;
            due.append(&mut self.slots[slot]);
            self.occupied &= !(1 << slot);
        }
        self.served = self.served.max(tick);
    }

    /// The next tick with an entry.
    pub(super) fn next(&self) -> Option<u64> {
        if self.occupied == 0 {
            return None;
        }
        let from = self.served + 1;
        let ahead = self.occupied.rotate_right((from % SLOTS) as u32).trailing_zeros();
        Some(from + u64::from(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_at_their_tick_and_not_before() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.schedule(5, 50);
        wheel.schedule(3, 30);
        assert_eq!(wheel.next(), Some(3));
        wheel.expire(2, &mut due);
        assert!(due.is_empty());
        wheel.expire(5, &mut due);
        assert_eq!(due, [30, 50]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_passed_tick_is_served_next_and_a_far_one_at_the_edge() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        wheel.expire(100, &mut due);
        assert_eq!(wheel.schedule(7, 1), 101);
        assert_eq!(wheel.schedule(10_000, 2), 163);
        assert_eq!(wheel.next(), Some(101));
        wheel.expire(101, &mut due);
        assert_eq!(wheel.next(), Some(163));
    }

    #[test]
    fn a_stall_longer_than_the_wheel_loses_nothing() {
        let mut wheel = Wheel::new();
        let mut due = Vec::new();
        for tick in 1..64 {
            wheel.schedule(tick, tick as u32);
        }
        wheel.expire(1_000_000, &mut due);
        assert_eq!(due.len(), 63);
        assert_eq!(wheel.schedule(1_000_001, 9), 1_000_001);
        assert_eq!(wheel.next(), Some(1_000_001));
    }
}
