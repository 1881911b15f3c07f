//! Calls as the engine speaks of them: opened, closed, judged and recorded, each once.

use std::collections::BTreeMap;
use std::time::Instant;

use tandem_call::{CallId, CallRecord, Verdict};

use super::Findings;
use super::sip::Dialog;

/// What was said of one call.
#[derive(Debug, Default)]
pub struct Entry {
    /// Its Call-ID.
    pub sip_call_id: String,
    opened: bool,
    closed: bool,
    /// The final record.
    pub record: Option<Box<CallRecord>>,
}

/// Everything the engine said of calls.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    unix_ms: u64,
    entries: BTreeMap<CallId, Entry>,
    /// Verdicts by SIP Call-ID, in order.
    pub verdicts: BTreeMap<String, Vec<Box<Verdict>>>,
}

/// How far a record's times may be from what was seen.
const TOLERANCE_MS: u64 = 20;

impl Ledger {
    /// An empty one, for a run that starts at `start`, which is `unix_ms` on the wall.
    pub fn new(start: Instant, unix_ms: u64) -> Self {
        Self { start, unix_ms, entries: BTreeMap::new(), verdicts: BTreeMap::new() }
    }

    /// What was said of the call with this Call-ID.
    pub fn entry_of(&self, sip_call_id: &str) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.sip_call_id == sip_call_id)
    }

    /// The record of a call, if it has one.
    pub fn record_of(&self, call: CallId) -> Option<&CallRecord> {
        self.entries.get(&call)?.record.as_deref()
    }

    /// Every call.
    pub fn entries(&self) -> impl Iterator<Item = (&CallId, &Entry)> {
        self.entries.iter()
    }

    /// OpenBridge.
    pub fn opened(&mut self, now: Instant, call: CallId, sip_call_id: &str, findings: &mut Findings) {
        let entry = self.entries.entry(call).or_default();
        if entry.opened || entry.record.is_some() {
            findings.note("closed-call", now, sip_call_id, "a second bridge");
        }
        entry.opened = true;
        entry.sip_call_id = sip_call_id.to_owned();
    }

    /// A command for a bridge, or its close.
    pub fn commanded(&mut self, now: Instant, call: CallId, is_close: bool, findings: &mut Findings) {
        let entry = self.entries.entry(call).or_default();
        if !entry.opened || entry.closed || entry.record.is_some() {
            let detail = format!(
                "a command for a bridge that is {}",
                if entry.opened { "closed" } else { "not open" }
            );
            findings.note("closed-call", now, &entry.sip_call_id, detail);
        }
        entry.closed |= is_close;
    }

    /// Progress.
    pub fn progressed(&mut self, now: Instant, record: &CallRecord, findings: &mut Findings) {
        let entry = self.entries.entry(record.id).or_default();
        entry.sip_call_id.clone_from(&record.sip_call_id);
        if entry.record.is_some() {
            findings.note("closed-call", now, &record.sip_call_id, "progress after the record");
        }
        if record.status.is_final() {
            findings.note("record", now, &record.sip_call_id, format!("progress says {:?}", record.status));
        }
    }

    /// Record.
    pub fn recorded(
        &mut self,
        now: Instant,
        record: Box<CallRecord>,
        dialog: Option<&Dialog>,
        findings: &mut Findings,
    ) {
        let call_id = record.sip_call_id.clone();
        self.check_times(now, &record, dialog, findings);
        let entry = self.entries.entry(record.id).or_default();
        entry.sip_call_id.clone_from(&call_id);
        if entry.record.is_some() {
            findings.note("record", now, &call_id, "a second record");
        }
        if entry.opened && !entry.closed {
            findings.note("record", now, &call_id, "a record before the bridge was closed");
        }
        if !record.status.is_final() {
            findings.note("record", now, &call_id, format!("a record that says {:?}", record.status));
        }
        entry.record = Some(record);
    }

    /// Verdict.
    pub fn judged(&mut self, verdict: Box<Verdict>) {
        self.verdicts.entry(verdict.sip_call_id.clone()).or_default().push(verdict);
    }

    /// Everything is over.
    pub fn finish(&self, now: Instant, findings: &mut Findings) {
        for (call, entry) in &self.entries {
            if entry.record.is_none() {
                findings.note("record", now, &entry.sip_call_id, format!("call {call} has no record"));
            }
            if entry.opened && !entry.closed {
                findings.note(
                    "stuck",
                    now,
                    &entry.sip_call_id,
                    format!("the bridge of {call} was never closed"),
                );
            }
        }
    }

    fn check_times(
        &self,
        now: Instant,
        record: &CallRecord,
        dialog: Option<&Dialog>,
        findings: &mut Findings,
    ) {
        let call_id = &record.sip_call_id;
        let unix = |at: Instant| self.unix_ms + at.saturating_duration_since(self.start).as_millis() as u64;
        let answered = dialog.and_then(|dialog| dialog.answered_at).map(unix);
        match (record.answered_unix_ms, answered) {
            (None, None) => {}
            (Some(said), Some(seen)) if said.abs_diff(seen) <= TOLERANCE_MS => {}
            (said, seen) => {
                findings.note(
                    "record",
                    now,
                    call_id,
                    format!("answered at {said:?}, 200 was seen at {seen:?}"),
                );
            }
        }
        let ended = dialog.and_then(|dialog| dialog.ended_at).map(unix);
        if let (Some(_), Some(seen)) = (answered, ended)
            && record.ended_unix_ms.is_none_or(|said| said.abs_diff(seen) > TOLERANCE_MS)
        {
            let detail = format!("ended at {:?}, BYE was seen at {seen}", record.ended_unix_ms);
            findings.note("record", now, call_id, detail);
        }
        if answered.is_some() && record.sip_status.is_some_and(|status| status != 200) {
            findings.note("record", now, call_id, format!("answered, with status {:?}", record.sip_status));
        }
        if record.ended_unix_ms.is_none_or(|ended| ended + 60_000 < unix(now)) {
            let detail = format!("recorded at {}, ended at {:?}", unix(now), record.ended_unix_ms);
            findings.note("record", now, call_id, detail);
        }
    }
}
