//! Processes under measurement: pinned to a core, watched through /proc, ended with the one who holds them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Lines of a log that are shown with an error.
const LOG_LINES: usize = 20;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// CPU time that all its threads have run, user and system together, to the nanosecond.
    pub cpu: Duration,
    /// How much of it in the kernel, by the ticks of the scheduler's clock: good over seconds.
    pub system: Duration,
}

/// What the process has used since it began.
///
/// # Errors
/// When the process is gone.
pub fn used(process_id: u32) -> Result<Used, String> {
    let gone = |error| format!("process {process_id} is gone: {error}");
    let threads = fs::read_dir(format!("/proc/{process_id}/task")).map_err(gone)?;
    let nanoseconds: u64 = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).map_err(gone)?;
    // Fields are counted behind the name, which may hold anything; the 13th there is the system time in
    // hundredths of a second (proc(5)).
    let ticks =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(12)?.parse::<u64>().ok());
    Ok(Used {
        cpu: Duration::from_nanos(nanoseconds),
        system: Duration::from_millis(ticks.unwrap_or_default() * 10),
    })
}

/// Resident memory in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(process_id: u32) -> Result<u64, String> {
    let text = fs::read_to_string(format!("/proc/{process_id}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes * 1_024).ok_or_else(|| format!("process {process_id} is gone"))
}

/// The end of a log: what a process said last, and not a hundred thousand repeats of it.
#[must_use]
pub fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// Pins this process, with the threads it is to start, to one core.
///
/// # Errors
/// When there is no such core or no `taskset`.
pub fn pin_to(cpu: usize) -> Result<(), String> {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &cpu.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("taskset (package util-linux) does not run: {error}"))?;
    status.success().then_some(()).ok_or_else(|| format!("there is no core {cpu} to be pinned to"))
}

/// A child that prints lines. Dropping it ends its process.
#[derive(Debug)]
pub struct LineChild {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl LineChild {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(mut command: Command) -> Result<Self, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{program} does not start: {error}"))?;
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody may want it any more.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line it prints, within a bound.
    ///
    /// # Errors
    /// When it has ended, or says nothing for `bound`.
    pub fn line(&mut self, bound: Duration) -> Result<String, String> {
        self.lines.recv_timeout(bound).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("it said nothing for {bound:?}"),
            RecvTimeoutError::Disconnected => format!("it ended: {:?}", self.child.try_wait()),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LineChild {
    fn drop(&mut self) {
        // It may have ended by itself when the sockets went.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
