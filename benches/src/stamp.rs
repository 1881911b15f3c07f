//! Audio that says what it is: each 20 ms frame carries its call, its number and when it was sent,
//! and a pattern that only that frame has. Carried as G.711 it must arrive bit for bit.

use std::time::{Duration, Instant};

/// Bytes in a frame of 20 ms of G.711.
pub const FRAME_BYTES: usize = 160;

const MAGIC: [u8; 4] = [0xa5, 0x1c, 0x3e, 0x77];

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The call's number, from 0.
    pub call: u32,
    /// The frame's number within the call, from 0.
    pub frame: u32,
    /// When the generator sent it.
    pub sent: Duration,
    /// When the agent sent it back; zero on the way there.
    pub echoed: Duration,
}

/// The clock of all stamps in one process.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

impl Stamp {
    /// Writes the frame.
    pub fn write(&self, frame: &mut [u8; FRAME_BYTES]) {
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&self.call.to_be_bytes());
        frame[8..12].copy_from_slice(&self.frame.to_be_bytes());
        frame[12..20].copy_from_slice(&nanoseconds(self.sent));
        frame[20..28].copy_from_slice(&nanoseconds(self.echoed));
        for (index, byte) in frame.iter_mut().enumerate().skip(28) {
            *byte = self.pattern(index);
        }
    }

    /// Reads a frame; `None` when it is not one of ours (silence, concealment).
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        if frame.len() != FRAME_BYTES || frame[..4] != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
        Some(Self {
            call: word(4),
            frame: word(8),
            sent: Duration::from_nanos(long(12)),
            echoed: Duration::from_nanos(long(20)),
        })
    }

    /// True when every byte behind the stamp is the pattern of this call and frame.
    #[must_use]
    pub fn is_intact(&self, frame: &[u8]) -> bool {
        frame.iter().enumerate().skip(28).all(|(index, byte)| *byte == self.pattern(index))
    }

    /// Marks a frame as sent back now, leaving everything else as it is.
    pub fn mark_echoed(frame: &mut [u8], now: Duration) {
        frame[20..28].copy_from_slice(&nanoseconds(now));
    }

    fn pattern(&self, index: usize) -> u8 {
        let mixed = (u64::from(self.call) << 32 | u64::from(self.frame)).wrapping_add(index as u64);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }
}

fn nanoseconds(duration: Duration) -> [u8; 8] {
    u64::try_from(duration.as_nanos()).expect("runs last less than centuries").to_be_bytes()
}
