//! Packet indices: the rollover counter that nobody sends, and the window that no packet passes twice.
//!
//! RFC 3711 sections 3.3.1 and 3.3.2, appendix A.

/// Packets a window remembers. RFC 3711 section 3.3.2 wants 64 at least; two and a half seconds of audio at 20 ms.
const WINDOW: u64 = 128;
/// Largest index of a RTP packet plus one: 32 bits of rollover counter, 16 of sequence number.
const INDEX_END: u64 = 1 << 48;

/// The index that a sequence number most likely means, given the highest index so far (RFC 3711 section 3.3.1). `None`
/// for one before the stream's first, or beyond its last.
pub(super) fn guess(highest: u64, sequence: u16) -> Option<u64> {
    let rollovers = highest >> 16;
    let last = highest as u16;
    let distance = i32::from(sequence) - i32::from(last);
    let rollovers = if last < 0x8000 && distance > 0x8000 {
        rollovers.checked_sub(1)?
    } else if last >= 0x8000 && -distance > 0x8000 {
        rollovers + 1
    } else {
        rollovers
    };
    let index = rollovers << 16 | u64::from(sequence);
    (index < INDEX_END).then_some(index)
}

/// The indices seen of one source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    highest: u64,
    /// Bit n is set when `highest - n` was seen.
    seen: u128,
}

impl Window {
    /// A window that has seen one index.
    pub(super) fn begun_at(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The highest index seen.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether an index is new, and not so old that nobody knows.
    pub(super) fn is_new(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < WINDOW && self.seen >> age & 1 == 0,
        }
    }

    /// Remembers an index whose packet proved itself.
    pub(super) fn note(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
            self.highest = index;
        } else if self.highest - index < WINDOW {
            self.seen |= 1 << (self.highest - index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_rolls_over_and_back_with_reordering() {
        assert_eq!(guess(0x0_FFFE, 0xFFFF), Some(0x0_FFFF));
        assert_eq!(guess(0x0_FFFF, 0), Some(0x1_0000));
        assert_eq!(guess(0x1_0001, 0xFFFF), Some(0x0_FFFF), "late across the edge");
        assert_eq!(guess(0x1_0001, 3), Some(0x1_0003));
        assert_eq!(guess(0x5_7000, 0x6FFF), Some(0x5_6FFF));
        assert_eq!(guess(0x0_0001, 0xFFFF), None, "before the first");
        assert_eq!(guess(0xFFFF_FFFF_FFFF, 0), None, "beyond the last");
    }

    /// RFC 3711 appendix A's own code, over every pair of a coarse grid.
    #[test]
    fn it_is_the_code_of_appendix_a() {
        for last in (0..=u16::MAX).step_by(257) {
            for sequence in (0..=u16::MAX).step_by(263) {
                let rollovers = 9_u64;
                let (s_l, seq) = (i64::from(last), i64::from(sequence));
                let v = if s_l < 32_768 {
                    if seq - s_l > 32_768 { rollovers - 1 } else { rollovers }
                } else if s_l - 32_768 > seq {
                    rollovers + 1
                } else {
                    rollovers
                };
                let expected = v << 16 | u64::from(sequence);
                assert_eq!(guess(rollovers << 16 | u64::from(last), sequence), Some(expected));
            }
        }
    }

    #[test]
    fn nothing_passes_a_window_twice_and_nothing_too_old_passes() {
        let mut window = Window::begun_at(1_000);
        assert!(!window.is_new(1_000));
        assert!(window.is_new(999) && window.is_new(1_001));
        window.note(999);
        assert!(!window.is_new(999));
        window.note(1_100);
        assert!(!window.is_new(1_000) && !window.is_new(999) && window.is_new(998));
        assert!(!window.is_new(1_100 - WINDOW));
        assert!(window.is_new(1_101 - WINDOW));
        window.note(50_000);
        assert!(!window.is_new(1_100) && window.is_new(49_999));
        window.note(3);
        assert_eq!(window.highest(), 50_000);
    }
}
