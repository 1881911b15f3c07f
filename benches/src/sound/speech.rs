//! Speech to judge by: sentences of several voices by espeak-ng, at the rate that is wanted.

use std::f64::consts::PI;
use std::process::Command;

/// A voice of espeak-ng, its words a minute, its pitch, and what it says.
const SPEAKERS: [(&str, u32, u32, &str); 6] = [
    (
        "en-us",
        155,
        45,
        "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It is easy to tell \
         the depth of a well. These days a chicken leg is a rare dish.",
    ),
    (
        "en-gb+f2",
        165,
        60,
        "Rice is often served in round bowls. The juice of lemons makes fine punch. The box was thrown beside the \
         parked truck. Four hours of steady work faced us.",
    ),
    (
        "hi+f3",
        150,
        55,
        "नमस्ते, मैं आपकी सहायता कैसे कर सकती हूँ? कृपया अपना खाता संख्या बताइए। आपका भुगतान प्राप्त हो गया है। धन्यवाद।",
    ),
    (
        "de+m3",
        150,
        35,
        "Guten Tag, hier spricht die Auskunft. Bitte nennen Sie Ihre Rufnummer. Der nächste freie Mitarbeiter ist für \
         Sie da. Auf Wiederhören.",
    ),
    (
        "es+f4",
        160,
        65,
        "Buenos días, gracias por llamar. Su pedido llegará mañana por la tarde. ¿Desea algo más? Que tenga un buen \
         día.",
    ),
    (
        "en-us+m7",
        140,
        25,
        "A large size in stockings is hard to sell. The boy was there when the sun rose. A rod is used to catch pink \
         salmon. The source of the huge river is the clear spring.",
    ),
];

/// What every speaker says, each as samples of `rate_hz`.
///
/// # Errors
/// When espeak-ng is not there or gives no WAV.
pub fn speakers(rate_hz: u32) -> Result<Vec<Vec<i16>>, String> {
    SPEAKERS.iter().map(|speaker| speak(speaker, rate_hz)).collect()
}

fn speak(&(voice, speed, pitch, text): &(&str, u32, u32, &str), rate_hz: u32) -> Result<Vec<i16>, String> {
    let output = Command::new("espeak-ng")
        .args(["--stdout", "-v", voice, "-s", &speed.to_string(), "-p", &pitch.to_string(), text])
        .output()
        .map_err(|error| format!("espeak-ng: {error}; install the package espeak-ng"))?;
    let (rate, samples) =
        read_wav(&output.stdout).ok_or_else(|| format!("espeak-ng gave no WAV for {voice}"))?;
    let mut samples = change_rate(&samples, rate, rate_hz);
    level(&mut samples);
    Ok(samples.into_iter().map(|sample| sample.round() as i16).collect())
}

/// Rate and samples of a mono 16-bit WAV whose lengths a pipe may have left open.
fn read_wav(bytes: &[u8]) -> Option<(u32, Vec<f64>)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..4)? != b"RIFF" {
        return None;
    }
    let data = bytes.windows(4).position(|window| window == b"data")? + 8;
    let samples = bytes.get(data..)?.chunks_exact(2);
    Some((word(24)?, samples.map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]]))).collect()))
}

/// Where speech ends, as a share of the band: 3.2 of 4 kHz on a telephone, 6.4 of 8 on a wideband one.
const BAND: f64 = 0.8;

/// By a sinc of 64 periods under a Blackman window, in double precision: far better than what is to be judged.
fn change_rate(samples: &[f64], from_hz: u32, to_hz: u32) -> Vec<f64> {
    let ratio = f64::from(to_hz) / f64::from(from_hz);
    let cutoff = ratio.min(1.0) * BAND;
    let reach = (32.0 / cutoff).ceil() as isize;
    let length = (samples.len() as f64 * ratio) as usize;
    (0..length)
        .map(|at| {
            let centre = at as f64 / ratio;
            let first = centre.floor() as isize - reach;
            (first..=first + 2 * reach + 1)
                .filter_map(|place| {
                    let sample = samples.get(usize::try_from(place).ok()?)?;
                    let distance = place as f64 - centre;
                    let share = distance / (reach as f64 + 1.0);
                    let window = 0.42 + 0.5 * (PI * share).cos() + 0.08 * (2.0 * PI * share).cos();
                    let angle = PI * cutoff * distance;
                    let sinc = if distance == 0.0 { 1.0 } else { angle.sin() / angle };
                    Some(sample * sinc * cutoff * window)
                })
                .sum()
        })
        .collect()
}

/// To an active level of -26 dBov, as ITU-T P.800's tests have it.
fn level(samples: &mut [f64]) {
    let power: Vec<f64> = samples
        .chunks(320)
        .map(|frame| frame.iter().map(|sample| sample * sample).sum::<f64>() / frame.len() as f64)
        .collect();
    let loudest = power.iter().copied().fold(1.0, f64::max);
    let active: Vec<f64> = power.into_iter().filter(|power| *power > loudest / 3_000.0).collect();
    let mean = active.iter().sum::<f64>() / active.len().max(1) as f64;
    let gain = 32_768.0 * 10.0_f64.powf(-26.0 / 20.0) / mean.max(1.0).sqrt();
    samples.iter_mut().for_each(|sample| *sample = (*sample * gain).clamp(-32_768.0, 32_767.0));
}
