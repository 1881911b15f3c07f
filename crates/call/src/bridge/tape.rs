//! The recording of a bridge: both sides go in as they pass, what was recorded comes out in blocks. It is of the telephone
//! band: a wideband call is brought down to it.
//!
//! Without a recording each packet costs one look. It refuses to hold more than a block and what is not taken yet; a
//! driver takes it after each input.

use std::collections::VecDeque;

use tandem_media::codec::TICKS_PER_MS;
use tandem_media::recording::{RECORDING_RATE_HZ, RecordedBlock, StereoRecorder};
use tandem_media::{Coding, Converter, FRAME_BYTES, Law};

use crate::recording::{Recorded, RecordingCommand};

/// The recording, once one was asked for.
#[derive(Debug, Default)]
pub(super) struct Tape {
    recorder: Option<Box<StereoRecorder>>,
    out: VecDeque<Recorded>,
    from_caller: Narrow,
    from_agent: Narrow,
    /// It has ended, and does not begin again.
    is_over: bool,
    /// Ticks of the egress clock that were skipped, as far as they are in the recording.
    skipped: u64,
    lost_samples: u64,
}

/// One side's audio as G.711, which it is already but in wideband calls.
#[derive(Debug, Default)]
struct Narrow {
    converter: Option<Converter>,
    bytes: Vec<u8>,
}

impl Narrow {
    fn take<'a>(&'a mut self, coding: Coding, audio: &'a [u8]) -> (Law, &'a [u8]) {
        if let Coding::G711(law) = coding {
            return (law, audio);
        }
        let converter = match &mut self.converter {
            Some(converter) if converter.from() == coding => converter,
            other => other.insert(
                Converter::new(coding, Coding::G711(Law::Mulaw))
                    .expect("codings held have rates that have filters"),
            ),
        };
        self.bytes.clear();
        converter.convert(audio, &mut self.bytes);
        (Law::Mulaw, &self.bytes)
    }
}

impl Tape {
    /// Does what is asked; what cannot be (a second beginning, a pause of nothing) is let go.
    pub(super) fn command(&mut self, command: RecordingCommand, ticks_skipped: u64) {
        match (command, &mut self.recorder) {
            (RecordingCommand::Start(rule), None) if !self.is_over => {
                self.recorder = Some(Box::new(StereoRecorder::new(rule.pause)));
                self.skipped = ticks_skipped;
                self.out.push_back(Recorded::Begin(rule));
            }
            (RecordingCommand::Pause, Some(recorder)) => recorder.pause(),
            (RecordingCommand::Resume, Some(recorder)) => recorder.resume(),
            (RecordingCommand::Stop, Some(_)) => self.end(),
            (RecordingCommand::Start(_), _) | (_, None) => {}
        }
    }

    /// What the caller said next.
    pub(super) fn caller(&mut self, coding: Coding, audio: &[u8]) {
        let Some(recorder) = &mut self.recorder else { return };
        let (law, audio) = self.from_caller.take(coding, audio);
        let block = recorder.push_caller(law, audio);
        self.hand_out(block);
    }

    /// What left towards the caller at a tick of `packet_ms`; silence at those that were skipped before it.
    pub(super) fn agent(
        &mut self,
        coding: Coding,
        audio: Option<&[u8]>,
        packet_ms: usize,
        ticks_skipped: u64,
    ) {
        let samples = packet_ms * TICKS_PER_MS;
        while self.recorder.is_some() && self.skipped < ticks_skipped {
            self.skipped += 1;
            self.push_agent(Law::Mulaw, None, samples);
        }
        let Some(recorder) = &mut self.recorder else { return };
        let block = match audio {
            Some(audio) => {
                let (law, audio) = self.from_agent.take(coding, audio);
                recorder.push_agent(law, Some(audio), samples)
            }
            None => recorder.push_agent(Law::Mulaw, None, samples),
        };
        self.hand_out(block);
    }

    /// 20 ms in which the caller talked to somebody else than the agent: silence on both sides, so that times stay true.
    pub(super) fn pass(&mut self, ticks_skipped: u64) {
        self.skipped = ticks_skipped;
        self.push_agent(Law::Mulaw, None, FRAME_BYTES);
        self.caller(Coding::G711(Law::Mulaw), &[Law::Mulaw.silence(); FRAME_BYTES]);
    }

    fn push_agent(&mut self, law: Law, audio: Option<&[u8]>, samples: usize) {
        let Some(recorder) = &mut self.recorder else { return };
        let block = recorder.push_agent(law, audio, samples);
        self.hand_out(block);
    }

    /// Nothing more is recorded.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        let Some(mut recorder) = self.recorder.take() else { return };
        while let Some(block) = recorder.finish() {
            self.out.push_back(Recorded::Block(block));
        }
        self.out.push_back(Recorded::End);
    }

    pub(super) fn poll(&mut self) -> Option<Recorded> {
        self.out.pop_front()
    }

    /// A block could not be written. True for the first.
    pub(super) fn dropped(&mut self, samples: usize) -> bool {
        let is_first = self.lost_samples == 0;
        self.lost_samples += samples as u64;
        is_first
    }

    pub(super) const fn lost_ms(&self) -> u64 {
        self.lost_samples * 1_000 / RECORDING_RATE_HZ as u64
    }

    fn hand_out(&mut self, block: Option<RecordedBlock>) {
        if let Some(block) = block {
            self.out.push_back(Recorded::Block(block));
        }
    }
}
