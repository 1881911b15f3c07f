//! Outbound calls: taken off the queue when their time has come, looked at once more, placed, settled.
//!
//! One task per node. What it may place and when is decided here and in [`hours`]; whose turn it is, so that no two
//! nodes take one call, is the store's affair. How a call is placed is [`PlaceCall`]'s ([`sip`]); a call that there is no
//! room for on its trunk goes back into the queue ([`slots`]), where it outlives a restart and can be stopped.

pub mod hours;
pub mod sip;
mod slots;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tandem_call::{CallRecord, CallStatus, HangupBy, HangupReason, dialled};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::slots::Slots;
use crate::agent_rules::agent_rules;
use crate::journal::Journal;
use crate::store::{CallOrder, Store, StoreError, StoredAgent, StoredExecution, StoredNumber, now_ms};

/// Calls taken off the queue at once.
const BATCH: u32 = 64;

/// Calls being placed or up at once on this node, at some kilobytes each; the rest waits in the queue, where other nodes
/// find it. Above the default of `limits.calls`, so that it is that limit which is met and told.
const UNDER_WAY: usize = 16_384;

/// How often the queue is looked at for calls that other nodes queued or that came due meanwhile.
const GLANCE: Duration = Duration::from_secs(1);

/// How often the end of a call is tried to be written before it is left to the node's next start.
const ATTEMPTS: u32 = 5;

/// A call that is to be placed now.
#[derive(Clone, Debug)]
pub struct DueCall {
    /// Its record: `initiated`, with trunk and number.
    pub record: CallRecord,
    /// What was asked of it.
    pub order: CallOrder,
    /// The agent that calls.
    pub agent: StoredAgent,
    /// The number it calls from.
    pub number: StoredNumber,
}

/// What came of placing a call.
#[derive(Clone, Debug)]
pub enum Placed {
    /// It is over: its record, in a final status.
    Over(Box<CallRecord>),
    /// There is no room for it now.
    NoRoom {
        /// Which bound is reached, in words meant for the tenant.
        why: String,
        /// When it is worth trying again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The node stops; its next start closes what is left.
    Left,
}

/// Places calls.
pub trait PlaceCall: Send + Sync + 'static {
    /// Places a call and returns once it is over, or at once when there is no room for it.
    fn place(&self, call: DueCall) -> impl Future<Output = Placed> + Send;
}

/// The task that works off the queue.
pub struct Dialling<P> {
    store: Store,
    node: String,
    placer: Arc<P>,
    /// Told of every change, where there is one.
    journal: Option<Journal>,
    slots: Slots,
}

/// What is to be done with a call whose time has come.
enum Next {
    Place(Box<DueCall>),
    PutOff { record: CallRecord, until: i64, why: String },
    End(CallRecord),
}

impl<P: PlaceCall> Dialling<P> {
    /// Works off the queue of `store` as `node`.
    pub fn new(store: Store, node: impl Into<String>, placer: P) -> Self {
        Self { store, node: node.into(), placer: Arc::new(placer), journal: None, slots: Slots::default() }
    }

    /// The same, with every change of a call told to the journal's webhooks.
    #[must_use]
    pub fn telling(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// Works until `stop` says so; then it takes nothing more, and waits for what it has taken.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut under_way = JoinSet::new();
        while !*stop.borrow() {
            while under_way.try_join_next().is_some() {}
            let free = UNDER_WAY.saturating_sub(under_way.len());
            let most = BATCH.min(u32::try_from(free).unwrap_or(BATCH));
            let taken = match this.take(most, now_ms()).await {
                Ok(taken) => taken,
                Err(error) => {
                    metrics::counter!("tandem_call_queue_failures_total").increment(1);
                    tracing::warn!(%error, "the call queue could not be read; trying again");
                    Vec::new()
                }
            };
            let has_more = most > 0 && taken.len() == most as usize;
            for call in taken {
                let this = Arc::clone(&this);
                under_way.spawn(async move { this.handle(call, now_ms()).await });
            }
            metrics::gauge!("tandem_calls_being_placed").set(under_way.len() as f64);
            if !has_more {
                tokio::select! {
                    () = this.store.queued().notified() => {}
                    () = tokio::time::sleep(GLANCE) => {}
                    // An error means that nobody is left who could stop it: then it is stopped.
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Takes every call that is due at `now` and sees it through. Returns how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn work_off(&self, now: i64) -> Result<usize, StoreError> {
        let mut count = 0;
        loop {
            let taken = self.take(BATCH, now).await?;
            if taken.is_empty() {
                return Ok(count);
            }
            for call in taken {
                Box::pin(self.handle(call, now)).await;
                count += 1;
            }
        }
    }

    async fn take(&self, most: u32, now: i64) -> Result<Vec<StoredExecution>, StoreError> {
        if most == 0 { Ok(Vec::new()) } else { self.store.take_due(&self.node, now, most).await }
    }

    async fn handle(&self, call: StoredExecution, now: i64) {
        let (id, order) = (call.record.id, call.order.clone().unwrap_or_default());
        let next = match look(&self.store, call, now).await {
            Ok(next) => next,
            Err((record, error)) => {
                tracing::warn!(%error, call = %id, "a due call could not be looked up");
                let why = "the store could not be asked about the call";
                Next::End(failed(record, HangupReason::TemporaryFailure, why))
            }
        };
        match next {
            Next::Place(due) => self.place(*due, now).await,
            Next::PutOff { record, until, why } => {
                if let Err(error) = self.store.put_off(record.clone(), order, until, &why).await {
                    tracing::error!(%error, call = %id, "a call could not be put off; the node's next start closes it");
                    return;
                }
                self.tell(CallRecord { status: CallStatus::Rescheduled, ..record });
            }
            Next::End(record) => self.settle(record, order).await,
        }
    }

    async fn place(&self, due: DueCall, now: i64) {
        let (record, mut order) = (due.record.clone(), due.order.clone());
        let is_new = order.waiting_since.is_none();
        if is_new && order.attempts.is_empty() {
            // Told here and not where it is queued, so that it is told before all that follows.
            self.tell(CallRecord { status: CallStatus::Queued, ..record.clone() });
        }
        if is_new && let Some(turn) = self.slots.turn_behind_others(record.trunk.as_str(), now) {
            return self.wait(record, order, turn, "others wait for the trunk before it").await;
        }
        order.note(now_ms(), format!("placed from {} by the trunk {}", record.from, record.trunk));
        match self.placer.place(due).await {
            Placed::Over(record) => self.settle(*record, order).await,
            Placed::NoRoom { why, retry_after } => {
                let turn = self.slots.next_turn(record.trunk.as_str(), now.max(now_ms()), retry_after);
                order.events.pop();
                self.wait(record, order, turn, &why).await;
            }
            Placed::Left => {}
        }
    }

    /// Puts a call back that there is no room for.
    async fn wait(&self, record: CallRecord, order: CallOrder, until: i64, why: &str) {
        metrics::counter!("tandem_calls_without_room_total").increment(1);
        let id = record.id;
        if let Err(error) = self.store.wait_for_room(record, order, until, why).await {
            tracing::error!(%error, call = %id, "a call could not be put back; the node's next start closes it");
        }
    }

    fn tell(&self, record: CallRecord) {
        if let Some(journal) = &self.journal {
            journal.tell(record);
        }
    }

    /// Writes the end of a call, again if the database refuses it for a while.
    async fn settle(&self, record: CallRecord, order: CallOrder) {
        debug_assert!(record.status.is_final(), "a placed call is over when it is settled");
        let mut pause = Duration::from_millis(100);
        for attempt in 1..=ATTEMPTS {
            match self.store.settle_call(record.clone(), order.clone()).await {
                Ok(()) => {
                    metrics::counter!("tandem_calls_placed_total", "status" => record.status.as_str())
                        .increment(1);
                    return self.tell(record);
                }
                Err(error) => {
                    tracing::error!(%error, attempt, call = %record.id, "the end of a call could not be written");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        metrics::counter!("tandem_call_queue_failures_total").increment(1);
    }
}

/// Looks at a call whose time has come: may it be placed, from which number, now or later?
async fn look(store: &Store, call: StoredExecution, now: i64) -> Result<Next, (CallRecord, StoreError)> {
    let mut record = call.record;
    let order = call.order.unwrap_or_default();
    let account = record.account.as_str().to_owned();
    let agent = match store.agent(&account, record.agent.as_str()).await {
        Ok(agent) => agent,
        Err(StoreError::NotFound) => {
            let why = "the agent was deleted before the call was placed";
            return Ok(Next::End(failed(record, HangupReason::TemporaryFailure, why)));
        }
        Err(error) => return Err((record, error)),
    };
    let Some(recipient) = e164(&order.recipient) else {
        let why = format!(
            "Invalid phone number format: recipient_phone_number {:?}; give it in E.164, such as +14155550100",
            order.recipient
        );
        return Ok(Next::End(failed(record, HangupReason::NumberFormatInvalid, why)));
    };
    let digits = order.from.as_deref().map(|from| dialled::stored_key(from).unwrap_or_default());
    let number = match store.number_to_call_from(&account, &agent.id, digits.as_deref()).await {
        Ok(number) if digits.as_deref() != Some("") => number,
        Ok(_) => None,
        Err(error) => return Err((record, error)),
    };
    let Some(number) = number else {
        let why = no_number(order.from.as_deref());
        return Ok(Next::End(failed(record, HangupReason::NumberInvalid, why)));
    };
    record.trunk = number.trunk.clone().into();
    record.number = number.id.clone().into();
    record.from.clone_from(&number.number.phone_number);
    match store.is_exhausted(&account).await {
        Ok(false) => {}
        Ok(true) => {
            let mut ended = failed(
                record,
                HangupReason::BalanceLow,
                "the account's balance is used up; the call was not placed",
            );
            ended.status = CallStatus::BalanceLow;
            return Ok(Next::End(ended));
        }
        Err(error) => return Err((record, error)),
    }
    if let Some(hours) = agent_rules(&agent.body, None).calling_hours
        && !order.bypass_call_guardrails
        && let Some(until) = hours::next_opening(hours, &recipient, now)
    {
        let why = format!(
            "calling_guardrails allow calls from {}:00 to {}:00 at the recipient's place",
            hours.start, hours.end
        );
        return Ok(Next::PutOff { record, until, why });
    }
    Ok(Next::Place(Box::new(DueCall { record, order, agent, number })))
}

fn no_number(from: Option<&str>) -> String {
    match from {
        Some(from) => format!(
            "from_phone_number {from:?} is no active number on an active trunk of this account; add it with POST \
             /sip-trunks/trunks/{{trunk_id}}/numbers, or switch it and its trunk on"
        ),
        None => "this account has no active number on an active trunk that places calls; add one with POST \
                 /sip-trunks/trunks/{trunk_id}/numbers, or set the trunk's outbound_enabled"
            .to_owned(),
    }
}

/// The digits of a number in E.164: one to fifteen, of which a country code is one, so at least seven here.
pub fn e164(text: &str) -> Option<String> {
    let digits = dialled::stored_key(text)?;
    let is_number = (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0');
    is_number.then_some(digits)
}

/// A call that never came to be.
fn failed(mut record: CallRecord, reason: HangupReason, why: impl Into<String>) -> CallRecord {
    record.status = CallStatus::Failed;
    record.ended_unix_ms = Some(now_ms().unsigned_abs());
    record.hangup_by = Some(HangupBy::Error);
    record.hangup_reason = Some(reason);
    record.q850 = Some(reason.q850());
    record.error_message = Some(why.into());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_e164_are_told_from_others() {
        for (text, digits) in [
            ("+14155550100", Some("14155550100")),
            ("918800001234", Some("918800001234")),
            ("+91 88000-01234", Some("918800001234")),
            ("08800001234", None),
            ("+1", None),
            ("+1234567890123456", None),
            ("alice", None),
            ("*98", None),
            ("", None),
        ] {
            assert_eq!(e164(text).as_deref(), digits, "{text}");
        }
    }
}
