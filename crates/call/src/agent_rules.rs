//! What an agent's owner asks of its calls: who may call it and how often, when it may call, how long a call may last.
//!
//! Pure rules over what is given to them. What they refuse to do: count ([`crate::admission`] does), look at a clock, or
//! read an agent's body (the shell does).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::caller_lookup::CallerSource;
use crate::dialled;
use crate::recording::RecordingRule;

/// Caller texts that stand for "I do not say who I am", as key: RFC 3323 section 4.1 and what carriers send.
const ANONYMOUS: &[&str] = &["anonymous", "restricted", "unavailable", "unknown", "private", "withheld"];

/// The rules of one agent. The default lets everybody call, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentRules {
    /// Most calls that one caller may have answered; `None` is no bound.
    pub inbound_limit: Option<u32>,
    /// Callers, as keys of [`dialled::key`], that no rule of this agent refuses.
    pub whitelist: BTreeSet<String>,
    /// Refuse callers who are not in the whitelist.
    pub disallow_unknown: bool,
    /// The hours of the recipient's day in which the agent may call.
    pub calling_hours: Option<CallingHours>,
    /// The longest a call may last.
    pub max_duration: Option<Duration>,
    /// How its calls are recorded from their answer on; without it only those are recorded for which the API asks.
    pub recording: Option<RecordingRule>,
    /// Where what is known of callers is looked up.
    pub caller_source: Option<CallerSource>,
    /// The longest that neither side of a call may say anything.
    pub silence: Option<Duration>,
}

/// Hours of a day: from the start until the end, 9 to 17 is from 9:00 until 17:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallingHours {
    /// The first hour, 0 to 23.
    pub start: u8,
    /// The hour at whose beginning calling ends, 0 to 23; the same as `start` leaves that one hour.
    pub end: u8,
}

impl CallingHours {
    /// Whether a call may be placed in that hour of the recipient's day.
    pub const fn hold(self, hour: u8) -> bool {
        if self.start == self.end { hour == self.start } else { hour >= self.start && hour < self.end }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerIdentity {
    /// Nobody that can be called back: no number, or one withheld.
    Anonymous,
    /// Known by this key.
    Known(String),
}

impl CallerIdentity {
    /// The user part of the caller's URI, read.
    pub fn of(user: &[u8]) -> Self {
        match dialled::key(user) {
            Some(key) if !ANONYMOUS.contains(&key.to_ascii_lowercase().as_str()) => Self::Known(key),
            Some(_) | None => Self::Anonymous,
        }
    }
}

impl AgentRules {
    /// Whether the caller is one that no rule refuses.
    pub fn is_whitelisted(&self, caller: &CallerIdentity) -> bool {
        match caller {
            CallerIdentity::Known(key) => self.whitelist.contains(key),
            CallerIdentity::Anonymous => false,
        }
    }

    /// Whether the caller may call at all.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check_caller(&self, caller: &CallerIdentity) -> Result<(), String> {
        if !self.disallow_unknown || self.is_whitelisted(caller) {
            return Ok(());
        }
        match (caller, &self.caller_source) {
            // The source decides, while the agent is dialled.
            (CallerIdentity::Known(_), Some(CallerSource::Api { .. })) => return Ok(()),
            (CallerIdentity::Known(_), Some(CallerSource::Unread(kind))) => {
                return Err(format!(
                    "disallow_unknown_numbers is true and ingest_source_config is of source_type {kind}, which is not read \
                     here; use api"
                ));
            }
            _ => {}
        }
        Err(match caller {
            CallerIdentity::Anonymous => {
                "disallow_unknown_numbers is true and the caller withholds its number".to_owned()
            }
            CallerIdentity::Known(_) => format!(
                "disallow_unknown_numbers is true and the caller is none of the {} whitelist_phone_numbers",
                self.whitelist.len()
            ),
        })
    }

    /// How many calls of this caller may be answered; `None` is no bound.
    pub fn limit_of(&self, caller: &CallerIdentity) -> Option<u32> {
        self.inbound_limit.filter(|_| !self.is_whitelisted(caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_by_its_number_however_it_is_written() {
        assert_eq!(CallerIdentity::of(b"+91-80-4710"), CallerIdentity::Known("91804710".to_owned()));
        for anonymous in ["", "anonymous", "Anonymous", "Restricted", "%0d"] {
            assert_eq!(CallerIdentity::of(anonymous.as_bytes()), CallerIdentity::Anonymous, "{anonymous}");
        }
    }

    #[test]
    fn the_whitelist_is_exempt_from_every_rule() {
        let rules = AgentRules {
            inbound_limit: Some(2),
            whitelist: BTreeSet::from(["491".to_owned()]),
            disallow_unknown: true,
            ..AgentRules::default()
        };
        let (friend, stranger) = (CallerIdentity::of(b"+491"), CallerIdentity::of(b"+492"));
        assert_eq!(rules.check_caller(&friend), Ok(()));
        assert_eq!(rules.limit_of(&friend), None);
        assert!(rules.check_caller(&stranger).unwrap_err().contains("none of the 1 whitelist_phone_numbers"));
        assert!(rules.check_caller(&CallerIdentity::Anonymous).unwrap_err().contains("withholds"));
        assert_eq!(rules.limit_of(&stranger), Some(2));
        assert_eq!(AgentRules::default().check_caller(&CallerIdentity::Anonymous), Ok(()));
    }

    #[test]
    fn hours_hold_from_the_start_until_the_end() {
        let office = CallingHours { start: 9, end: 17 };
        assert_eq!([8, 9, 16, 17, 23].map(|hour| office.hold(hour)), [false, true, true, false, false]);
        let one = CallingHours { start: 9, end: 9 };
        assert_eq!([8, 9, 10].map(|hour| one.hold(hour)), [false, true, false]);
    }
}
