//! How good the audio is: every conversion, every ratio of the resampler, the concealment of losses, keys and voices
//! found in the audio; as tables.
//!
//! `cargo run --release -p tandem-benches --bin sound_quality -- [--part resampler|conversions|loss|ears|all]
//! [--pesq PYTHON]`
//!
//! Speech is espeak-ng's. With a Python that has the package `pesq`, ITU-T P.862 stands beside the segmental SNR.

use std::process::ExitCode;

use tandem_benches::arguments::Arguments;
use tandem_benches::sound::appendix_i;
use tandem_benches::sound::loss::{self, Method, Pattern};
use tandem_benches::sound::measure::{self, decibels, segmental_snr};
use tandem_benches::sound::{pesq, speech};
use tandem_media::tones::ToneDetector;
use tandem_media::voice::{Turn, VoiceDetector};
use tandem_media::{Codec, Coding, Converter, Law, Resampler, g711};

const USAGE: &str = "sound_quality [--part resampler|conversions|loss|ears|all] [--pesq PYTHON]";
const RATES_HZ: [u32; 4] = [8_000, 16_000, 24_000, 48_000];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sound_quality: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = Arguments::read(USAGE)?;
    let part = arguments.take("--part", "all".to_owned())?;
    let python = arguments.take("--pesq", String::new())?;
    arguments.finish()?;
    let python = (!python.is_empty()).then_some(python.as_str());
    let is_wanted = |name: &str| part == name || part == "all";
    if !["resampler", "conversions", "loss", "ears", "all"].contains(&part.as_str()) {
        return Err(format!("--part {part}: not known\n{USAGE}"));
    }
    if is_wanted("resampler") {
        resampler();
    }
    if is_wanted("conversions") {
        conversions(python)?;
    }
    if is_wanted("loss") {
        losses(python)?;
    }
    if is_wanted("ears") {
        ears()?;
    }
    Ok(())
}

fn converted(from_hz: u32, to_hz: u32, input: &[i16]) -> Vec<i16> {
    let mut output = Vec::new();
    let mut resampler = Resampler::new(from_hz, to_hz).expect("a served rate");
    // In packets, as calls have it.
    input.chunks(from_hz as usize / 50).for_each(|frame| resampler.process(frame, &mut output));
    output
}

/// Tones stepped through the whole band, so that what is not the tone can be told from it to the last decibel.
fn resampler() {
    println!("Resampler: tones in steps of 100 Hz through 20 ms packets; levels against the tone's\n");
    println!(
        "| from, to (kHz) | passes within 0.5 dB up to | down 3 dB at | worst SNR up to 80 % of the band | worst alias \
         | delay |"
    );
    println!("|---|---|---|---|---|---|");
    for from_hz in RATES_HZ {
        for to_hz in RATES_HZ.into_iter().filter(|to_hz| *to_hz != from_hz) {
            resampler_row(from_hz, to_hz);
        }
    }
    println!();
}

fn resampler_row(from_hz: u32, to_hz: u32) {
    let band_hz = from_hz.min(to_hz) / 2;
    let (mut flat_hz, mut is_flat, mut half_hz, mut snr) = (0, true, 0, f64::MAX);
    for frequency_hz in (100..band_hz).step_by(100) {
        let output =
            converted(from_hz, to_hz, &measure::tone(frequency_hz.into(), from_hz, from_hz as usize / 2));
        let fit = measure::fit(&output, frequency_hz.into(), to_hz);
        let level = decibels(fit.signal / 5e7);
        is_flat &= level.abs() < 0.5;
        if is_flat {
            flat_hz = frequency_hz;
        }
        if half_hz == 0 && level < -3.0 {
            half_hz = frequency_hz;
        }
        if frequency_hz * 10 <= band_hz * 8 {
            snr = snr.min(decibels(fit.signal / fit.rest));
        }
    }
    // What lies above the band and comes down into its lower 80 %: nothing of it may be heard.
    let mut alias = f64::MIN;
    for frequency_hz in ((to_hz / 2 + to_hz / 10)..from_hz / 2).step_by(100) {
        let output =
            converted(from_hz, to_hz, &measure::tone(frequency_hz.into(), from_hz, from_hz as usize / 2));
        alias = alias.max(decibels(measure::power(&output) / 5e7));
    }
    let alias = if alias == f64::MIN { "none above".to_owned() } else { format!("{alias:.0} dB") };
    println!(
        "| {} → {} | {flat_hz} Hz | {half_hz} Hz | {snr:.0} dB | {alias} | {:.2} ms |",
        from_hz / 1_000,
        to_hz / 1_000,
        delay_ms(from_hz, to_hz),
    );
}

/// By the phases of two neighbouring tones: the slope of the phase is the delay.
fn delay_ms(from_hz: u32, to_hz: u32) -> f64 {
    let phase = |frequency_hz: f64| {
        let output = converted(from_hz, to_hz, &measure::tone(frequency_hz, from_hz, from_hz as usize / 2));
        measure::fit(&output, frequency_hz, to_hz).phase
    };
    let (low_hz, high_hz) = (1_000.0, 1_050.0);
    let turns = (phase(low_hz) - phase(high_hz)) / std::f64::consts::TAU;
    turns.rem_euclid(1.0) / (high_hz - low_hz) * 1_000.0
}

/// A way that speech takes through one or more forms and back.
struct Path {
    name: &'static str,
    rate_hz: u32,
    through: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    To(Coding),
    Over(Codec),
}

fn conversions(python: Option<&str>) -> Result<(), String> {
    let linear = |rate_hz| Step::To(Coding::Linear { rate_hz });
    let law = |law| Step::To(Coding::G711(law));
    let path = |name, rate_hz, through: &[Step]| Path { name, rate_hz, through: through.to_vec() };
    let paths = [
        path("µ-law", 8_000, &[law(Law::Mulaw)]),
        path("A-law", 8_000, &[law(Law::Alaw)]),
        path("µ-law → A-law → µ-law", 8_000, &[law(Law::Mulaw), law(Law::Alaw), law(Law::Mulaw)]),
        path("L16 8 → 16 → 8 kHz", 8_000, &[linear(16_000)]),
        path("L16 8 → 24 → 8 kHz", 8_000, &[linear(24_000)]),
        path("L16 8 → 48 → 8 kHz", 8_000, &[linear(48_000)]),
        path("µ-law → L16 24 kHz → µ-law", 8_000, &[law(Law::Mulaw), linear(24_000), law(Law::Mulaw)]),
        path("G.722", 16_000, &[Step::Over(Codec::G722)]),
        path(
            "G.722 → L16 24 kHz → G.722",
            16_000,
            &[Step::Over(Codec::G722), linear(24_000), linear(16_000), Step::Over(Codec::G722)],
        ),
        path("L16 16 → 24 → 16 kHz", 16_000, &[linear(24_000)]),
        path("L16 16 → 48 → 16 kHz", 16_000, &[linear(48_000)]),
    ];
    println!("Conversions: speech of six voices against itself, aligned\n");
    println!("| path | delay | segmental SNR | PESQ |\n|---|---|---|---|");
    for path in &paths {
        let mut pairs = Vec::new();
        let mut late_ms = 0.0;
        for original in speech::speakers(path.rate_hz)? {
            let heard = walk(path, &original);
            let (late, heard) = measure::align(&original, &heard, path.rate_hz as usize / 100);
            late_ms = late as f64 * 1_000.0 / f64::from(path.rate_hz);
            let length = original.len().min(heard.len());
            pairs.push((original[..length].to_vec(), heard[..length].to_vec()));
        }
        let (snr, score) = judge(python, path.rate_hz, &pairs)?;
        println!("| {} | {late_ms:.2} ms | {snr:.1} dB | {score} |", path.name);
    }
    println!();
    Ok(())
}

fn walk(path: &Path, original: &[i16]) -> Vec<i16> {
    let home = Coding::Linear { rate_hz: path.rate_hz };
    let mut audio = Vec::new();
    g711::to_l16_le_into(original, &mut audio);
    let mut coding = home;
    for step in path.through.iter().copied().chain([Step::To(home)]) {
        let mut next = Vec::new();
        match step {
            Step::To(to) => {
                Converter::new(coding, to).expect("served rates").convert(&audio, &mut next);
                coding = to;
            }
            Step::Over(codec) => {
                let mut payload = Vec::new();
                tandem_media::payload::PayloadWriter::new(coding).write(codec, &audio, &mut payload);
                tandem_media::payload::PayloadReader::new(coding).read(codec, &payload, &mut next);
            }
        }
        audio = next;
    }
    let mut samples = Vec::new();
    g711::l16_le_into(&audio, &mut samples);
    samples
}

fn judge(
    python: Option<&str>,
    rate_hz: u32,
    pairs: &[(Vec<i16>, Vec<i16>)],
) -> Result<(f64, String), String> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let snr: Vec<f64> =
        pairs.iter().map(|(original, heard)| segmental_snr(original, heard, rate_hz)).collect();
    let score = match python {
        None => "–".to_owned(),
        Some(python) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(original, heard)| (rate_hz, original.as_slice(), heard.as_slice()))
                .collect();
            format!("{:.2}", mean(&pesq::scores(python, &pairs)?))
        }
    };
    Ok((mean(&snr), score))
}

fn losses(python: Option<&str>) -> Result<(), String> {
    println!("Concealment: speech of six voices, 20 ms packets, against the same codec without loss\n");
    println!(
        "| codec | loss | {} |",
        Method::ALL.map(|method| format!("{}: SNR, PESQ", method.name())).join(" | ")
    );
    println!("|---|---|---|---|---|---|");
    for codec in [Codec::PCMU, Codec::G722] {
        let rate_hz = codec.coding().rate_hz();
        let speakers = speech::speakers(rate_hz)?;
        for pattern in [Pattern::Random, Pattern::Burst] {
            for percent in [1, 3, 10] {
                let mut cells = Vec::new();
                for method in Method::ALL {
                    if method == Method::AppendixI && codec == Codec::G722 {
                        cells.push("–".to_owned());
                        continue;
                    }
                    let pairs = pairs_after_loss(codec, &speakers, pattern, percent, method);
                    let (snr, score) = judge(python, rate_hz, &pairs)?;
                    cells.push(format!("{snr:.1} dB, {score}"));
                }
                let kind = if pattern == Pattern::Random { "random" } else { "bursts" };
                println!("| {} | {percent} % {kind} | {} |", codec.encoding_name(), cells.join(" | "));
            }
        }
    }
    println!();
    Ok(())
}

fn pairs_after_loss(
    codec: Codec,
    speakers: &[Vec<i16>],
    pattern: Pattern,
    percent: u32,
    method: Method,
) -> Vec<(Vec<i16>, Vec<i16>)> {
    let mut pairs = Vec::new();
    for (speaker, original) in speakers.iter().enumerate() {
        let packets = original.len() / (codec.coding().rate_hz() as usize / 50);
        // Each voice thrice, for one per cent of its packets is a handful.
        for round in 0..3 {
            let lost =
                loss::lost(pattern, f64::from(percent) / 100.0, packets, 77 + 10 * speaker as u64 + round);
            let whole = loss::heard(codec, original, &vec![false; packets], Method::Silence);
            let mut heard = loss::heard(codec, original, &lost, method);
            if method == Method::AppendixI {
                heard.drain(..appendix_i::DELAY);
            }
            let length = whole.len().min(heard.len());
            pairs.push((whole[..length].to_vec(), heard[..length].to_vec()));
        }
    }
    pairs
}

/// What is found in the audio: keys where there are none, voices where there are.
fn ears() -> Result<(), String> {
    let speakers = speech::speakers(8_000)?;
    println!("Ears: speech of six voices in µ-law\n");
    let coding = Coding::G711(Law::Mulaw);
    let encoded = |samples: &[i16]| {
        let mut codes = Vec::new();
        g711::encode_into(Law::Mulaw, samples, &mut codes);
        codes
    };
    let (mut seconds, mut talk_off) = (0.0, 0);
    for samples in &speakers {
        // At other speeds too: what matters is where the formants fall.
        for percent in (70..=140).step_by(2) {
            let stretched: Vec<i16> =
                (0..samples.len() * 100 / percent).map(|at| samples[at * percent / 100]).collect();
            seconds += stretched.len() as f64 / 8_000.0;
            let mut detector = ToneDetector::new(coding);
            encoded(&stretched).chunks(160).for_each(|frame| detector.push(frame, |_| talk_off += 1));
        }
    }
    println!("DTMF: {talk_off} keys found in {:.1} minutes of speech that has none\n", seconds / 60.0);
    println!("| noise below speech | speech found | noise taken for speech | median wait for a beginning |");
    println!("|---|---|---|---|");
    for snr_db in [60, 20, 10, 5] {
        voices(&speakers, snr_db, coding);
    }
    println!();
    Ok(())
}

fn voices(speakers: &[Vec<i16>], snr_db: i32, coding: Coding) {
    let (mut found, mut spoken, mut false_frames, mut quiet) = (0, 0, 0, 0);
    let mut waits = Vec::new();
    let mut random = 1_u32;
    for samples in speakers {
        let padded = [vec![0; 16_000], samples.clone(), vec![0; 16_000]].concat();
        // -26 dBov is the level of the speech.
        let amplitude = 32_768.0 * 10.0_f64.powf(f64::from(-26 - snr_db) / 20.0) * 3.0_f64.sqrt();
        let mut detector = VoiceDetector::new(coding);
        let (mut first, mut wait) = (None, None);
        for (number, frame) in padded.chunks_exact(160).enumerate() {
            let power = frame.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 160.0;
            let noisy: Vec<i16> = frame
                .iter()
                .map(|sample| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let noise = (f64::from(random >> 8) / f64::from(1 << 23) - 1.0) * amplitude;
                    (f64::from(*sample) + noise).clamp(-32_768.0, 32_767.0) as i16
                })
                .collect();
            let mut codes = Vec::new();
            g711::encode_into(Law::Mulaw, &noisy, &mut codes);
            let turn = detector.push(&codes);
            if power > 1e5 {
                first.get_or_insert(number);
                spoken += 1;
                found += u32::from(detector.is_voice());
            } else if !(100..padded.len() / 160 - 60).contains(&number) {
                quiet += 1;
                false_frames += u32::from(detector.is_voice());
            }
            if let (Some(Turn::Began { .. }), None, Some(first)) = (turn, wait, first) {
                wait = Some((number - first + 1) * 20);
            }
        }
        waits.extend(wait);
    }
    waits.sort_unstable();
    let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let share = |part: u32, whole: u32| 100.0 * f64::from(part) / f64::from(whole.max(1));
    println!(
        "| {snr_db} dB | {:.1} % | {:.1} % | {median} ms |",
        share(found, spoken),
        share(false_frames, quiet)
    );
}
