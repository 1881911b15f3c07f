//! What names a dialog: RFC 3261 12.

use bytes::Bytes;

/// "A dialog is identified at each UA with a dialog ID, which consists of a Call-ID value, a local tag and
/// a remote tag." RFC 3261 12. A peer of RFC 2543 has no tag: then the remote tag is empty (12.1.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DialogId {
    pub(crate) call_id: Bytes,
    pub(crate) local_tag: Bytes,
    pub(crate) remote_tag: Bytes,
}
