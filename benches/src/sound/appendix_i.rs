//! The concealment of ITU-T G.711 Appendix I, written from the recommendation's text: the bar for ours.
//!
//! 10 ms frames, pitch repeated with one more period for each frame lost, quarter-period overlap-adds, 20 % less for
//! each 10 ms from the second on, silence after 60 ms, and 3.75 ms of delay to smooth the beginning of a loss.

const PITCH_MIN: usize = 40;
const PITCH_MAX: usize = 120;
const CORRELATED: usize = 160;
const OVERLAP_MAX: usize = PITCH_MAX / 4;
const FRAME: usize = 80;
const HISTORY: usize = PITCH_MAX * 3 + OVERLAP_MAX;
/// More overlap at the end of a loss for each frame of it: 4 ms.
const END_OVERLAP: usize = 32;

/// Samples by which its output is late.
pub const DELAY: usize = OVERLAP_MAX;

/// The algorithm's state.
#[derive(Debug, Clone)]
pub struct AppendixI {
    history: Vec<f64>,
    pitch_buffer: Vec<f64>,
    last_quarter: Vec<f64>,
    erased: usize,
    overlap: usize,
    offset: usize,
    pitch: usize,
    length: usize,
}

impl Default for AppendixI {
    fn default() -> Self {
        Self {
            history: vec![0.0; HISTORY],
            pitch_buffer: vec![0.0; HISTORY],
            last_quarter: Vec::new(),
            erased: 0,
            overlap: 0,
            offset: 0,
            pitch: PITCH_MAX,
            length: PITCH_MAX,
        }
    }
}

impl AppendixI {
    /// Takes 20 ms that came, or none, and gives the 20 ms to be played.
    pub fn frame(&mut self, came: Option<&[i16]>) -> Vec<i16> {
        let mut out = Vec::with_capacity(2 * FRAME);
        for half in 0..2 {
            let frame = match came {
                Some(samples) => {
                    let half = &samples[half * FRAME..(half + 1) * FRAME];
                    self.came(half.iter().map(|sample| f64::from(*sample)).collect())
                }
                None => self.erase(),
            };
            out.extend(self.save(&frame));
        }
        out
    }

    fn came(&mut self, mut frame: Vec<f64>) -> Vec<f64> {
        if self.erased > 0 {
            let overlap = (self.overlap + (self.erased - 1) * END_OVERLAP).min(FRAME);
            let mut made = if self.erased > 6 { vec![0.0; overlap] } else { self.next(overlap) };
            self.fade(&mut made);
            for (at, (sample, made)) in frame.iter_mut().zip(&made).enumerate() {
                let weight = (at + 1) as f64 / overlap as f64;
                *sample = *sample * weight + made * (1.0 - weight);
            }
            self.erased = 0;
        }
        frame
    }

    fn erase(&mut self) -> Vec<f64> {
        let mut out;
        match self.erased {
            0 => {
                self.pitch_buffer.copy_from_slice(&self.history);
                self.pitch = self.find_pitch();
                self.overlap = self.pitch / 4;
                self.last_quarter = self.pitch_buffer[HISTORY - self.overlap..].to_vec();
                self.offset = 0;
                self.length = self.pitch;
                self.join();
                let start = HISTORY - self.overlap;
                self.history[start..].copy_from_slice(&self.pitch_buffer[start..]);
                out = self.next(FRAME);
            }
            1 | 2 => {
                let offset = self.offset;
                let tail = self.next(self.overlap);
                self.offset = offset % self.pitch;
                self.length += self.pitch;
                self.join();
                out = self.next(FRAME);
                for (at, (sample, tail)) in out.iter_mut().zip(&tail).enumerate() {
                    let weight = (at + 1) as f64 / self.overlap as f64;
                    *sample = *sample * weight + tail * (1.0 - weight);
                }
                self.fade(&mut out);
            }
            3..=5 => {
                out = self.next(FRAME);
                self.fade(&mut out);
            }
            _ => out = vec![0.0; FRAME],
        }
        self.erased += 1;
        out
    }

    /// Blends the last quarter period into what precedes the loop, so that it closes.
    fn join(&mut self) {
        let before = HISTORY - self.length - self.overlap;
        for at in 0..self.overlap {
            let weight = (at + 1) as f64 / self.overlap as f64;
            self.pitch_buffer[HISTORY - self.overlap + at] =
                self.last_quarter[at] * (1.0 - weight) + self.pitch_buffer[before + at] * weight;
        }
    }

    fn next(&mut self, samples: usize) -> Vec<f64> {
        let start = HISTORY - self.length;
        (0..samples)
            .map(|_| {
                let sample = self.pitch_buffer[start + self.offset];
                self.offset = (self.offset + 1) % self.length;
                sample
            })
            .collect()
    }

    fn fade(&self, samples: &mut [f64]) {
        let begin = 1.0 - (self.erased as f64 - 1.0) * 0.2;
        for (at, sample) in samples.iter_mut().enumerate() {
            *sample *= (begin - at as f64 * 0.2 / FRAME as f64).clamp(0.0, 1.0);
        }
    }

    fn save(&mut self, frame: &[f64]) -> Vec<i16> {
        self.history.drain(..FRAME);
        self.history.extend_from_slice(frame);
        let start = HISTORY - FRAME - OVERLAP_MAX;
        self.history[start..start + FRAME].iter().map(|sample| sample.round() as i16).collect()
    }

    fn find_pitch(&self) -> usize {
        let recent = &self.pitch_buffer[HISTORY - CORRELATED..];
        let likeness = |pitch: usize, step: usize| {
            let earlier = &self.pitch_buffer[HISTORY - CORRELATED - pitch..];
            let pairs = || recent.iter().zip(earlier).step_by(step);
            let energy: f64 = pairs().map(|(_, b)| b * b).sum();
            pairs().map(|(a, b)| a * b).sum::<f64>() / energy.max(250.0).sqrt()
        };
        let best = |pitches: &mut dyn Iterator<Item = usize>, step: usize| {
            pitches.max_by(|a, b| likeness(*a, step).total_cmp(&likeness(*b, step))).unwrap_or(PITCH_MAX)
        };
        let coarse = best(&mut (PITCH_MIN..=PITCH_MAX).rev().step_by(2), 2);
        let fine = (coarse - 1).max(PITCH_MIN)..=(coarse + 1).min(PITCH_MAX);
        best(&mut fine.rev(), 1)
    }
}
