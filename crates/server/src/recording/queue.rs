//! The way from the media threads to the writers: bounded queues, one for each writer, that nobody waits for.
//!
//! A block that finds its queue full is handed back as lost. The beginning and the end of a recording are kept until the
//! queue takes them: there are as many as calls.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tandem_call::{AccountId, CallId, Recorded};

use super::writer::{self, Desk};

/// Slips that may wait for a writer: at 16 KiB a block, 16 MiB, which 500 recorded calls make in a second.
const QUEUE: usize = 1_024;

/// Writers at most: each is a thread that mostly waits for the disk.
const WRITERS_MAX: usize = 4;

/// A piece of a recording on its way.
#[derive(Debug)]
pub(super) struct Slip {
    pub(super) call: CallId,
    pub(super) account: AccountId,
    pub(super) recorded: Recorded,
}

/// What a media thread hands recordings to. Each clone is one thread's.
#[derive(Debug)]
pub struct RecordingQueue {
    writers: Arc<[SyncSender<Slip>]>,
    /// Beginnings and ends that the full queue did not take.
    backlog: VecDeque<Slip>,
}

impl Clone for RecordingQueue {
    fn clone(&self) -> Self {
        Self { writers: Arc::clone(&self.writers), backlog: VecDeque::new() }
    }
}

impl RecordingQueue {
    /// Starts the writers, one for each core.
    pub(super) fn start(desk: Desk) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(WRITERS_MAX);
        let mut writers = Vec::with_capacity(count);
        for number in 0..count {
            let (queue, slips) = sync_channel(QUEUE);
            let desk = desk.clone();
            std::thread::Builder::new()
                .name(format!("recording-{number}"))
                .spawn(move || writer::run(desk, &slips))?;
            writers.push(queue);
        }
        Ok(Self { writers: writers.into(), backlog: VecDeque::new() })
    }

    /// Hands a piece on. A block that cannot be taken is lost: its samples of one side are returned.
    pub(crate) fn send(&mut self, call: CallId, account: &AccountId, recorded: Recorded) -> usize {
        let is_block = matches!(recorded, Recorded::Block(_));
        let slip = Slip { call, account: account.clone(), recorded };
        // What waits must not be overtaken by what comes after it.
        self.flush();
        let refused = if self.backlog.is_empty() { self.try_send(slip).err() } else { Some(slip) };
        match refused {
            None => 0,
            Some(Slip { recorded: Recorded::Block(block), .. }) if is_block => block.frames(),
            Some(slip) => {
                self.backlog.push_back(slip);
                0
            }
        }
    }

    /// Tries again what was not taken. To be called now and then.
    pub(crate) fn flush(&mut self) {
        while let Some(slip) = self.backlog.pop_front() {
            if let Err(slip) = self.try_send(slip) {
                self.backlog.push_front(slip);
                return;
            }
        }
    }

    fn try_send(&self, slip: Slip) -> Result<(), Slip> {
        let writer = (slip.call.0.as_u128() % self.writers.len() as u128) as usize;
        match self.writers[writer].try_send(slip) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(slip)) => Err(slip),
            // The writer has ended with the process.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// A queue whose writer has gone, for tests of threads that record nothing.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        Self { writers: Arc::new([sync_channel(1).0]), backlog: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::RecordingRule;
    use tandem_media::recording::RecordedBlock;

    use super::*;

    #[test]
    fn blocks_are_lost_when_nobody_writes_but_beginnings_and_ends_are_not() {
        let (sender, slips) = sync_channel(4);
        let mut queue = RecordingQueue { writers: Arc::new([sender]), backlog: VecDeque::new() };
        let call = CallId(uuid::Uuid::from_u128(1));
        let account = AccountId::from("a");
        let block = |position| Recorded::Block(RecordedBlock { position, samples: vec![0; 8] });
        assert_eq!(queue.send(call, &account, Recorded::Begin(RecordingRule::default())), 0);
        let lost: Vec<usize> = (0..5).map(|at| queue.send(call, &account, block(at))).collect();
        assert_eq!(lost, [0, 0, 0, 4, 4]);
        assert_eq!(queue.send(call, &account, Recorded::End), 0);
        assert_eq!(queue.send(call, &account, block(9)), 4, "nothing overtakes an end");
        let taken: Vec<Recorded> = slips.try_iter().map(|slip| slip.recorded).collect();
        assert_eq!(taken.len(), 4);
        queue.flush();
        assert_eq!(slips.try_recv().unwrap().recorded, Recorded::End);
    }
}
