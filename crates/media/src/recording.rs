//! Two voices on one timeline: what the caller said, left, and what truly left towards the caller, right, as blocks of
//! interleaved samples that a writer may take away.
//!
//! The timeline is counted in samples on both sides: frame after frame of the caller's stream, which has no gaps, and tick
//! after tick of the egress clock. Neither waits for the other's clock: what one side is ahead is held, within a bound, and
//! beyond it (two crystals drift apart by some milliseconds a minute) the side that lags gets 20 ms of silence, or what is
//! left over is let go. It refuses to know files, codecs and calls.

use std::collections::VecDeque;

use crate::g711::{self, Law};
use crate::{FRAME_BYTES, SAMPLE_RATE_HZ};

/// Samples per second of a recording.
pub const RECORDING_RATE_HZ: u32 = SAMPLE_RATE_HZ;

/// Samples of each side in a whole block: half a second, so that a crash costs less than one.
pub const BLOCK_FRAMES: usize = SAMPLE_RATE_HZ as usize / 2;

/// How far one side may be ahead of the other before it is taken for drift: 200 ms, what a jitter buffer may be late by.
const AHEAD_MAX: usize = SAMPLE_RATE_HZ as usize / 5;

/// Both sides' samples that are held at most: what may be ahead, and one of the longest frames.
const HELD_MAX: usize = AHEAD_MAX + 2 * 3 * FRAME_BYTES;

/// What a pause leaves in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum PauseMode {
    /// Silence as long as the pause, so that times in the recording are times of the call.
    #[default]
    Silence,
    /// Nothing: the recording goes on where it paused.
    Skip,
}

/// A run of samples, both sides interleaved: left, right, left, right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedBlock {
    /// Where its first sample stands in the recording, in samples of one side. A block that is missing leaves a hole here.
    pub position: u64,
    /// The samples; an even number of them.
    pub samples: Vec<i16>,
}

impl RecordedBlock {
    /// Samples of one side.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.samples.len() / 2
    }
}

/// Pairs both sides and cuts them into blocks.
#[derive(Debug)]
pub struct StereoRecorder {
    caller: VecDeque<i16>,
    agent: VecDeque<i16>,
    block: Vec<i16>,
    /// Samples of one side in all blocks that were taken.
    position: u64,
    pause: PauseMode,
    is_paused: bool,
    corrected: u64,
}

impl StereoRecorder {
    /// An empty recording.
    #[must_use]
    pub fn new(pause: PauseMode) -> Self {
        Self {
            caller: VecDeque::with_capacity(HELD_MAX),
            agent: VecDeque::with_capacity(HELD_MAX),
            block: Vec::with_capacity(BLOCK_FRAMES * 2),
            position: 0,
            pause,
            is_paused: false,
            corrected: 0,
        }
    }

    /// Takes what the caller said next, as the agent got it. Returns a block when one is full.
    pub fn push_caller(&mut self, law: Law, audio: &[u8]) -> Option<RecordedBlock> {
        match self.taken() {
            Taken::Nothing => return None,
            Taken::Silence => silence(&mut self.caller, audio.len()),
            Taken::Audio => self.caller.extend(audio.iter().map(|code| g711::decode(law, *code))),
        }
        if self.caller.len() > self.agent.len() + AHEAD_MAX {
            self.caller.drain(..FRAME_BYTES);
            self.corrected += 1;
        }
        self.pair()
    }

    /// Takes what left towards the caller next: `samples` of them, silence where nothing left. Returns a block when one is
    /// full.
    pub fn push_agent(&mut self, law: Law, audio: Option<&[u8]>, samples: usize) -> Option<RecordedBlock> {
        match (self.taken(), audio) {
            (Taken::Nothing, _) => return None,
            (Taken::Audio, Some(audio)) => {
                self.agent.extend(audio.iter().map(|code| g711::decode(law, *code)));
            }
            (Taken::Audio, None) | (Taken::Silence, _) => silence(&mut self.agent, samples),
        }
        while self.agent.len() > self.caller.len() + AHEAD_MAX {
            silence(&mut self.caller, FRAME_BYTES);
            self.corrected += 1;
        }
        self.pair()
    }

    /// Pauses; what was said before is in the recording, what is said from now on is not.
    pub fn pause(&mut self) {
        if !std::mem::replace(&mut self.is_paused, true) {
            self.level();
        }
    }

    /// Goes on after a pause.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Whether it is paused.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Times that one side was ahead for so long that 20 ms were put in or let go.
    #[must_use]
    pub const fn corrected(&self) -> u64 {
        self.corrected
    }

    /// What is left at the end; the side that lags is filled with silence. Call until `None`.
    pub fn finish(&mut self) -> Option<RecordedBlock> {
        self.level();
        self.pair().or_else(|| (!self.block.is_empty()).then(|| self.take()))
    }

    fn taken(&self) -> Taken {
        match (self.is_paused, self.pause) {
            (false, _) => Taken::Audio,
            (true, PauseMode::Silence) => Taken::Silence,
            (true, PauseMode::Skip) => Taken::Nothing,
        }
    }

    /// Fills the side that lags, so that both stand at the same moment.
    fn level(&mut self) {
        let (caller, agent) = (self.caller.len(), self.agent.len());
        silence(&mut self.caller, agent.saturating_sub(caller));
        silence(&mut self.agent, caller.saturating_sub(agent));
    }

    /// Moves what both sides have into the block, at most until it is full.
    fn pair(&mut self) -> Option<RecordedBlock> {
        let room = BLOCK_FRAMES - self.block.len() / 2;
        let both = self.caller.len().min(self.agent.len()).min(room);
        for (left, right) in self.caller.drain(..both).zip(self.agent.drain(..both)) {
            self.block.extend([left, right]);
        }
        (self.block.len() == BLOCK_FRAMES * 2).then(|| self.take())
    }

    fn take(&mut self) -> RecordedBlock {
        let samples = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_FRAMES * 2));
        let block = RecordedBlock { position: self.position, samples };
        self.position += block.frames() as u64;
        block
    }
}

/// What becomes of a frame.
enum Taken {
    Audio,
    Silence,
    Nothing,
}

fn silence(side: &mut VecDeque<i16>, samples: usize) {
    side.resize(side.len() + samples, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = FRAME_BYTES;

    /// A frame whose samples tell which frame it is.
    fn frame(number: usize) -> Vec<u8> {
        vec![g711::encode(Law::Mulaw, i16::try_from(number * 100 + 1_000).unwrap()); FRAME]
    }

    fn value(number: usize) -> i16 {
        g711::decode(Law::Mulaw, frame(number)[0])
    }

    fn agent(recorder: &mut StereoRecorder, number: Option<usize>) -> Option<RecordedBlock> {
        recorder.push_agent(Law::Mulaw, number.map(frame).as_deref(), FRAME)
    }

    /// Both sides of a recording, a block after the other.
    fn sides(blocks: &[RecordedBlock]) -> (Vec<i16>, Vec<i16>) {
        let samples = || blocks.iter().flat_map(|block| block.samples.chunks(2));
        (samples().map(|pair| pair[0]).collect(), samples().map(|pair| pair[1]).collect())
    }

    #[test]
    fn frame_k_of_the_caller_stands_beside_tick_k_however_late_it_came() {
        let mut recorder = StereoRecorder::new(PauseMode::Silence);
        let mut blocks = Vec::new();
        let mut said = 0;
        for tick in 0..100 {
            blocks.extend(agent(&mut recorder, Some(tick)));
            // The caller's frames lag by a changing number of frames, up to eight.
            while said + (tick * 7 % 9) < tick + 1 {
                blocks.extend(recorder.push_caller(Law::Mulaw, &frame(said)));
                said += 1;
            }
        }
        blocks.extend(recorder.finish());
        let (left, right) = sides(&blocks);
        for number in 0..said {
            assert!(left[number * FRAME..][..FRAME].iter().all(|s| *s == value(number)), "left {number}");
            assert!(right[number * FRAME..][..FRAME].iter().all(|s| *s == value(number)), "right {number}");
        }
        assert_eq!((left.len(), recorder.corrected()), (100 * FRAME, 0));
        assert!(blocks.windows(2).all(|two| two[1].position == two[0].position + two[0].frames() as u64));
    }

    #[test]
    fn a_tick_without_audio_is_silence() {
        let mut recorder = StereoRecorder::new(PauseMode::Silence);
        for number in [Some(1), None, Some(2)] {
            assert!(agent(&mut recorder, number).is_none());
            assert!(recorder.push_caller(Law::Mulaw, &frame(0)).is_none());
        }
        let (_, right) = sides(&[recorder.finish().unwrap()]);
        assert_eq!([right[0], right[FRAME], right[FRAME * 2]], [value(1), 0, value(2)]);
        assert!(recorder.finish().is_none());
    }

    #[test]
    fn a_side_that_never_comes_is_silence_and_what_is_held_is_bounded() {
        let mut recorder = StereoRecorder::new(PauseMode::Silence);
        let mut blocks = Vec::new();
        for tick in 0..1_000 {
            blocks.extend(agent(&mut recorder, Some(tick % 50)));
            assert!(recorder.agent.len() <= HELD_MAX && recorder.caller.len() <= HELD_MAX);
        }
        blocks.extend(recorder.finish());
        assert_eq!(blocks.iter().map(RecordedBlock::frames).sum::<usize>(), 1_000 * FRAME);
        assert!(sides(&blocks).0.iter().all(|sample| *sample == 0));
        let mut recorder = StereoRecorder::new(PauseMode::Silence);
        for _ in 0..1_000 {
            assert!(recorder.push_caller(Law::Mulaw, &frame(0)).is_none());
            assert!(recorder.caller.len() <= HELD_MAX);
        }
    }

    #[test]
    fn a_pause_is_silence_as_long_or_nothing_at_all() {
        for (pause, frames) in [(PauseMode::Silence, 30), (PauseMode::Skip, 20)] {
            let mut recorder = StereoRecorder::new(pause);
            let mut blocks = Vec::new();
            for number in 0..30 {
                match number {
                    10 => recorder.pause(),
                    20 => recorder.resume(),
                    _ => {}
                }
                blocks.extend(agent(&mut recorder, Some(number)));
                blocks.extend(recorder.push_caller(Law::Mulaw, &frame(number)));
            }
            blocks.extend(recorder.finish());
            let (left, right) = sides(&blocks);
            assert_eq!(left.len(), frames * FRAME);
            assert_eq!(left, right);
            let heard = |number: usize| left.contains(&value(number));
            assert!((0..30).all(|number| heard(number) != (10..20).contains(&number)), "{pause:?}");
        }
    }
}
