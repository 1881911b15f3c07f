//! The barest framing of RFC 6455 for peers that trust each other: whole messages below 64 KiB,
//! no fragments, no extensions. Both roles, so that the floor can be client and the echo server.

/// Text message.
pub const TEXT: u8 = 1;
/// Binary message.
pub const BINARY: u8 = 2;
/// The peer goes.
pub const CLOSE: u8 = 8;
/// Keep-alive.
pub const PING: u8 = 9;
/// Answer to a keep-alive.
pub const PONG: u8 = 10;

/// Appends one frame. A client masks (RFC 6455, 5.3), a server does not.
pub fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match u16::try_from(payload.len()).expect("messages below 64 KiB") {
        length @ 0..=125 => out.push(mask_bit | length as u8),
        length => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    match mask {
        None => out.extend_from_slice(payload),
        Some(key) => {
            out.extend_from_slice(&key);
            let start = out.len();
            out.extend_from_slice(payload);
            mask_in_place(&mut out[start..], key);
        }
    }
}

/// RFC 6455, 5.3; eight bytes at a time.
fn mask_in_place(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// One frame at the head of a buffer: its opcode, where its payload lies, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// RFC 6455, 5.2.
    pub opcode: u8,
    /// Where the (unmasked) payload lies in the buffer.
    pub payload: std::ops::Range<usize>,
}

/// Finds the frame at the head of `buffer` and unmasks it in place; `None` when it is not all there.
pub fn read_frame(buffer: &mut [u8]) -> Option<Frame> {
    let (&first, &second) = (buffer.first()?, buffer.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?])), 4),
        127 => panic!("messages below 64 KiB"),
        short => (usize::from(short), 2),
    };
    let key = if second & 0x80 == 0 {
        None
    } else {
        let key: [u8; 4] = buffer.get(at..at + 4)?.try_into().expect("four bytes");
        at += 4;
        Some(key)
    };
    let payload = at..at + length;
    let bytes = buffer.get_mut(payload.clone())?;
    if let Some(key) = key {
        mask_in_place(bytes, key);
    }
    Some(Frame { opcode: first & 0x0f, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for (length, mask) in [(5, None), (160, Some([1, 2, 3, 4])), (372, Some([9, 0, 7, 255]))] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut out = Vec::new();
            write_frame(&mut out, BINARY, &payload, mask);
            for cut in 0..out.len() {
                assert_eq!(read_frame(&mut out[..cut].to_vec()), None);
            }
            let frame = read_frame(&mut out).expect("whole");
            assert_eq!((frame.opcode, &out[frame.payload.clone()]), (BINARY, payload.as_slice()));
            assert_eq!(frame.payload.end, out.len());
        }
    }
}
