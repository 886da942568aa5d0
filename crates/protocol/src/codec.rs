//! Protobuf within bounds. An empty element of a repeated field takes two bytes on the wire and a
//! hundred in memory, so that a request within its size could still fill a machine. Fields are
//! counted before anything is decoded.

use crate::{Refusal, limits};

/// Counts the fields of a protobuf message, the elements of repeated ones each. Fields of messages
/// inside are not counted: no message inside a request has a repeated field, and among the answers only
/// the batches of a read have one, which are counted each.
///
/// # Errors
/// `TooLarge` for more than [`limits::FIELDS`], `Malformed` for what is no protobuf: the sender is
/// to blame.
pub(crate) fn bounded(mut bytes: &[u8]) -> Result<(), Refusal> {
    let mut fields = 0;
    while !bytes.is_empty() {
        fields += 1;
        if fields > limits::FIELDS {
            return Err(Refusal::TooLarge);
        }
        skip_field(&mut bytes).ok_or_else(|| Refusal::Malformed("message".into()))?;
    }
    Ok(())
}

fn skip_field(bytes: &mut &[u8]) -> Option<()> {
    let length = match varint(bytes)? & 7 {
        0 => {
            varint(bytes)?;
            0
        }
        1 => 8,
        2 => varint(bytes)?,
        5 => 4,
        // Groups, which no message here has.
        _ => return None,
    };
    *bytes = bytes.get(usize::try_from(length).ok()?..)?;
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::call::{Call, Malformed};
    use crate::delivery::{AppendRequest, LogRead, ReadRequest};

    #[test]
    fn elements_are_counted_before_they_take_memory() {
        let read = |logs| ReadRequest {
            logs: vec![LogRead::default(); logs],
            follow: false,
        };
        assert_eq!(bounded(&read(limits::FIELDS).encode_to_vec()), Ok(()));
        let many = read(limits::FIELDS + 1).encode_to_vec();
        assert_eq!(bounded(&many), Err(Refusal::TooLarge));
        let path = "/folkmoot.delivery.v1.Logs/Read";
        assert_eq!(Call::decode(path, &many), Err(Malformed));
    }

    #[test]
    fn the_largest_commit_passes() {
        let append = AppendRequest {
            append: vec![1; 70_000],
            fence_signature: vec![2; 64],
            own_parts: vec![vec![3; 5]; 50_000],
            ..AppendRequest::default()
        };
        assert_eq!(bounded(&append.encode_to_vec()), Ok(()));
    }

    #[test]
    fn what_is_no_protobuf_is_malformed() {
        let malformed = Err(Refusal::Malformed("message".into()));
        assert_eq!(bounded(&[]), Ok(()));
        assert_eq!(bounded(&[0x08, 0x01, 0x0d, 1, 2, 3, 4]), Ok(()));
        for bytes in [
            &[0x08][..],
            &[0x0a, 0x05, 1],
            &[0x0b, 0x0c],
            &[0x0d, 1, 2, 3],
            &[0x09, 1],
            &[0xff; 11],
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ] {
            assert_eq!(bounded(bytes), malformed, "{bytes:?}");
        }
    }
}
