//! A writer: one thread that takes pieces of recordings from its queue and puts them into files.
//!
//! It waits for the disk so that nobody else has to. A file that cannot be written any further is finished with what it has,
//! and the call is told. It refuses to speak to the database: the keeper hears of each beginning and each end.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use tandem_call::{CallId, Recorded, RecordingRule};
use tandem_media::recording::RecordedBlock;
use tokio::sync::mpsc::Sender;

use super::file::{Finished, RecordingFile};
use super::queue::Slip;
use super::sealing::PieceSealer;
use super::{RecordingId, RecordingKind};
use crate::secrets::Sealer;

/// Blocks of one recording between two looks at the room that is left: half a minute.
const LOOK_EVERY: u32 = 64;

/// What writers need.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) unfinished: PathBuf,
    /// Seals recordings, if they are to be.
    pub(super) sealer: Option<Sealer>,
    /// Bytes of the file system that are left to others.
    pub(super) keep_free: u64,
    pub(super) notices: Sender<Notice>,
}

/// What a writer tells the keeper.
#[derive(Debug)]
pub(super) enum Notice {
    /// A recording has begun.
    Begun {
        id: RecordingId,
        /// Its key, sealed.
        key: Option<String>,
    },
    /// It is whole, and stands among the unfinished.
    Finished { id: RecordingId, path: PathBuf, key: Option<String>, finished: Finished },
    /// It cannot be written, or not any further.
    Failed { call: CallId, why: String },
}

/// A recording under way.
struct Open {
    id: RecordingId,
    file: RecordingFile,
    key: Option<String>,
    blocks: u32,
}

/// Writes until every media thread has gone.
pub(super) fn run(desk: Desk, slips: &Receiver<Slip>) {
    let mut writer = Writer { desk, open: HashMap::new() };
    while let Ok(slip) = slips.recv() {
        writer.take(slip);
    }
    let left: Vec<CallId> = writer.open.keys().copied().collect();
    for call in left {
        writer.end(call);
    }
}

struct Writer {
    desk: Desk,
    open: HashMap<CallId, Open>,
}

impl Writer {
    fn take(&mut self, slip: Slip) {
        let Slip { call, account, recorded } = slip;
        match recorded {
            Recorded::Begin(rule) => {
                let RecordingRule { format, .. } = rule;
                let id = RecordingId { account, call, kind: RecordingKind::Call, format };
                if let Err(error) = self.begin(id) {
                    self.fail(call, &error);
                }
            }
            Recorded::Block(block) => {
                if let Err(error) = self.append(call, &block) {
                    self.fail(call, &error);
                    self.end(call);
                }
            }
            Recorded::End => self.end(call),
        }
    }

    fn begin(&mut self, id: RecordingId) -> io::Result<()> {
        super::make_private(&self.desk.unfinished)?;
        self.check_room()?;
        let sealer = self.desk.sealer.as_ref().map(|node| PieceSealer::generate(node, &id.seal_place()));
        let key = sealer.as_ref().map(|sealer| sealer.key_text().to_owned());
        let file = RecordingFile::create(&self.desk.unfinished.join(id.unfinished_name()), sealer)?;
        self.tell(Notice::Begun { id: id.clone(), key: key.clone() });
        self.open.insert(id.call, Open { id, file, key, blocks: 0 });
        metrics::gauge!("tandem_recordings").increment(1.0);
        Ok(())
    }

    fn append(&mut self, call: CallId, block: &RecordedBlock) -> io::Result<()> {
        let Some(open) = self.open.get_mut(&call) else { return Ok(()) };
        open.blocks += 1;
        let is_time_to_look = open.blocks.is_multiple_of(LOOK_EVERY);
        open.file.append(block.position, &block.samples)?;
        metrics::counter!("tandem_recording_milliseconds_total").increment(block.frames() as u64 / 8);
        if is_time_to_look { self.check_room() } else { Ok(()) }
    }

    fn end(&mut self, call: CallId) {
        let Some(Open { id, file, key, .. }) = self.open.remove(&call) else { return };
        metrics::gauge!("tandem_recordings").decrement(1.0);
        let path = file.path().to_path_buf();
        match file.finish() {
            Ok(finished) => self.tell(Notice::Finished { id, path, key, finished }),
            // It stays among the unfinished, and the next start tries once more.
            Err(error) => self.fail(call, &error),
        }
    }

    /// Refuses to fill the disk that others live on, the database first of all.
    fn check_room(&self) -> io::Result<()> {
        let room = rustix::fs::statvfs(&self.desk.unfinished)?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < self.desk.keep_free {
            let (free, keep) = (free / 1_048_576, self.desk.keep_free / 1_048_576);
            return Err(io::Error::other(format!(
                "{free} MB are left on the disk of the recordings, and recording.keep_free_mb keeps {keep} of them"
            )));
        }
        Ok(())
    }

    fn fail(&self, call: CallId, error: &io::Error) {
        tracing::warn!(execution_id = %call, %error, "a recording cannot be written");
        metrics::counter!("tandem_recording_failures_total").increment(1);
        self.tell(Notice::Failed { call, why: format!("the recording cannot be written: {error}") });
    }

    fn tell(&self, notice: Notice) {
        // Fails only when the process ends; the next start finds the file.
        let _ = self.desk.notices.blocking_send(notice);
    }
}

#[cfg(test)]
mod tests {
    use tandem_call::AccountId;
    use tokio::sync::mpsc;

    use super::*;

    fn desk(keep_free: u64) -> (tempfile::TempDir, Desk, mpsc::Receiver<Notice>) {
        let folder = tempfile::tempdir().unwrap();
        let (notices, told) = mpsc::channel(16);
        let desk = Desk { unfinished: folder.path().to_path_buf(), sealer: None, keep_free, notices };
        (folder, desk, told)
    }

    fn slip(recorded: Recorded) -> Slip {
        Slip { call: CallId(uuid::Uuid::from_u128(1)), account: AccountId::from("a"), recorded }
    }

    #[test]
    fn a_recording_is_told_at_its_beginning_and_at_its_end() {
        let (_folder, desk, mut told) = desk(0);
        let mut writer = Writer { desk, open: HashMap::new() };
        let block = RecordedBlock { position: 0, samples: vec![7; 8_000] };
        for recorded in [Recorded::Begin(RecordingRule::default()), Recorded::Block(block), Recorded::End] {
            writer.take(slip(recorded));
        }
        writer.take(slip(Recorded::End));
        assert!(matches!(told.try_recv(), Ok(Notice::Begun { .. })));
        let Ok(Notice::Finished { path, finished, .. }) = told.try_recv() else { panic!("not finished") };
        assert_eq!(finished, Finished { bytes: 16_044, duration_ms: 500 });
        assert_eq!(std::fs::metadata(path).unwrap().len(), 16_044);
        assert!(told.try_recv().is_err(), "once");
    }

    #[test]
    fn a_disk_without_room_is_told_the_call_and_nothing_is_begun() {
        let (folder, desk, mut told) = desk(u64::MAX);
        let mut writer = Writer { desk, open: HashMap::new() };
        writer.take(slip(Recorded::Begin(RecordingRule::default())));
        let Ok(Notice::Failed { why, .. }) = told.try_recv() else { panic!("not told") };
        assert!(why.contains("recording.keep_free_mb"), "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
