//! A recording read back: from the disk or the object store, opened if it is sealed, as a stream of bytes.
//!
//! It refuses to hold more of it than a piece.

use std::io;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::AsyncReadExt as _;

use super::Inner;
use super::objects::ObjectFault;
use super::sealing::{self, PieceSealer, SealedError};
use crate::store::{StoreError, StoredRecording};

/// Read from a file at once.
const READ_BYTES: usize = 32 * 1024;

/// Why a recording cannot be read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum PlaybackError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read.
    #[error("the recording's file cannot be used: {0}")]
    File(io::Error),
    /// The object store fails.
    #[error(transparent)]
    Objects(#[from] ObjectFault),
    /// It is sealed and does not open.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// It is in an object store, and this node has none.
    #[error(
        "the recording is in an object store and this node is not told of any; give it [recording] keep = \"s3\" and [recording.s3]"
    )]
    NoObjectStore,
    /// It is on another node's disk.
    #[error("the recording is on the disk of the node {0}; ask that node")]
    OtherNode(String),
    /// It is not finished.
    #[error("the recording is not finished")]
    Unfinished,
}

/// A recording, ready to be read.
pub struct Playback {
    /// What it is.
    pub content_type: &'static str,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// A name for who saves it.
    pub file_name: String,
    /// What is in it.
    pub body: Body,
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playback").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

type Chunks = BoxStream<'static, Result<Bytes, io::Error>>;

impl Playback {
    pub(super) async fn open(inner: &Inner, row: &StoredRecording) -> Result<Self, PlaybackError> {
        let chunks = match row.state.as_str() {
            StoredRecording::RECORDING => return Err(PlaybackError::Unfinished),
            StoredRecording::STORED => {
                let objects = inner.objects.as_ref().ok_or(PlaybackError::NoObjectStore)?;
                stream_of(objects.get(&row.place).await?.into_data_stream())
            }
            _ if row.node != inner.node => return Err(PlaybackError::OtherNode(row.node.clone())),
            _ => {
                let file = tokio::fs::File::open(inner.folder.join(&row.place))
                    .await
                    .map_err(PlaybackError::File)?;
                file_chunks(file)
            }
        };
        let body = match &row.key {
            None => Body::from_stream(chunks),
            Some(key) => {
                let place = crate::store::recording_place(&row.call, &row.kind);
                let sealer = PieceSealer::open(&inner.sealer, &place, key)?;
                Body::from_stream(opened(chunks, sealer))
            }
        };
        let name = if row.kind == "call" { "" } else { "-transfer" };
        Ok(Self {
            content_type: row.content_type(),
            bytes: row.bytes,
            file_name: format!("{}{name}.{}", row.call, row.format),
            body,
        })
    }
}

fn stream_of(data: BodyDataStream) -> Chunks {
    data.map(|chunk| chunk.map_err(io::Error::other)).boxed()
}

fn file_chunks(file: tokio::fs::File) -> Chunks {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; READ_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(chunk), file)))
    })
    .boxed()
}

/// The plain text of a sealed recording.
fn opened(chunks: Chunks, sealer: PieceSealer) -> Chunks {
    let reading = Opening { chunks, sealer, held: Vec::new(), next: Next::Prologue };
    stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.piece().await?.map(|piece| (Bytes::from(piece), reading)))
    })
    .boxed()
}

/// What is read of a sealed recording next.
enum Next {
    Prologue,
    Piece(u64),
}

struct Opening {
    chunks: Chunks,
    sealer: PieceSealer,
    held: Vec<u8>,
    next: Next,
}

impl Opening {
    /// The next piece; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>, io::Error> {
        loop {
            match self.next {
                Next::Prologue => {
                    if let Some((_, length)) = sealing::read_prologue(&self.held).map_err(io::Error::other)? {
                        self.held.drain(..length);
                        self.next = Next::Piece(0);
                        continue;
                    }
                }
                Next::Piece(index) => {
                    let opened = self.sealer.open_piece(index, &self.held).map_err(io::Error::other)?;
                    if let Some((plain, length)) = opened {
                        self.held.drain(..length);
                        self.next = Next::Piece(index + 1);
                        return Ok(Some(plain));
                    }
                }
            }
            match self.chunks.next().await {
                Some(chunk) => self.held.extend_from_slice(&chunk?),
                None if self.held.is_empty() => return Ok(None),
                None => return Err(io::Error::other("the recording breaks off in the middle of a piece")),
            }
        }
    }
}
