//! ITU-T P.862 by the package `pesq` of PyPI, where a Python that has it is named.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Reads lines of `rate reference degraded`, files of raw samples; writes a score for each.
const SCRIPT: &str = "
import sys
import numpy
from pesq import pesq
for line in sys.stdin:
    rate, reference, degraded = line.split()
    read = lambda path: numpy.fromfile(path, dtype='<i2')
    mode = 'wb' if rate == '16000' else 'nb'
    print(pesq(int(rate), read(reference), read(degraded), mode))
";

/// Scores of what was heard against what was said, each pair of 8 or 16 kHz.
///
/// # Errors
/// When the Python has no `pesq`, or fails.
pub fn scores(python: &str, pairs: &[(u32, &[i16], &[i16])]) -> Result<Vec<f64>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut lines = String::new();
    for (at, (rate_hz, original, heard)) in pairs.iter().enumerate() {
        let mut paths = Vec::new();
        for (name, samples) in [("original", original), ("heard", heard)] {
            let path = folder.path().join(format!("{at}-{name}.raw"));
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
            paths.push(path.display().to_string());
        }
        let _ = writeln!(lines, "{rate_hz} {} {}", paths[0], paths[1]);
    }
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{python}: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let scores: Vec<f64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if scores.len() == pairs.len() {
        Ok(scores)
    } else {
        Err(format!("{python} gave {} scores for {}; has it the package pesq?", scores.len(), pairs.len()))
    }
}
