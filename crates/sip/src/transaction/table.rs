//! Snapshots of transition tables for the machines' tests: plain text, one line a pair.

use std::fmt::Write as _;

use super::timing::{Timing, TimingConfig};
use super::{Action, Actions, Illegal};

/// One state and input, and what came of it.
pub(crate) struct Row(String);

/// A row whose outcome is not known yet.
pub(crate) struct Open(String);

impl Row {
    #[allow(clippy::new_ret_no_self)]
    pub(crate) fn new(flow: &str, state: &str, input: &str) -> Open {
        Open(format!("{flow:<10} {state:<11} {input:<17}"))
    }
}

impl Open {
    pub(crate) fn ended(self, result: Result<(), Illegal>, after: &str, out: &Actions) -> Row {
        let mut line = self.0;
        match result {
            Err(_) => line.push_str("illegal"),
            Ok(()) => {
                write!(line, "-> {after:<11}").expect("writing to a string cannot fail");
                for action in out {
                    line.push(' ');
                    line.push_str(&show(action));
                }
            }
        }
        Row(line.trim_end().to_owned())
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Send(bytes) => format!("send({})", String::from_utf8_lossy(bytes)),
        Action::Arm(timer, after) => format!("arm({timer:?},{}ms)", after.as_millis()),
        Action::Disarm(timer) => format!("disarm({timer:?})"),
        Action::Tell(tell) => format!("tell({tell:?})"),
        Action::Gone => "gone".to_owned(),
    }
}

/// The two timing tables with the names the snapshots use.
pub(crate) fn both(config: &TimingConfig) -> [(&'static str, Timing); 2] {
    [("unreliable", Timing::unreliable(config)), ("reliable", Timing::reliable(config))]
}

/// Compares with the committed table; on a difference prints the whole new one, ready to be read
/// and, if it is right, committed.
pub(crate) fn assert_same(rows: &[Row], committed: &str) {
    let now: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    let before: Vec<&str> = committed.lines().filter(|line| !line.is_empty()).collect();
    assert!(
        now == before,
        "the transitions differ from the committed table; they now are:\n{}\n",
        now.join("\n")
    );
}
