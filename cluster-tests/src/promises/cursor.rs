//! What a cursor claims, read from its text without the node's own code.
//!
//! To a client a cursor is opaque. A judge has to know which writes it claims, else it can only compare what stands at
//! the end. The form is described in `src/wire/cursor.rs`; checksum and set are not looked at here.

use std::collections::BTreeMap;

/// Of each process that wrote, how many of its writes: those up to this number.
pub type Vector = BTreeMap<u64, u64>;

/// The parts of a cursor that judges look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The writes that it claims.
    pub vector: Vector,
    /// The process that gave it, unless it is within a scan that another process began.
    pub process: Option<u64>,
    /// Within a scan: the last name that is done.
    pub scanned: Option<String>,
}

const HAS_PLACE: u8 = 1;
const HAS_SCAN: u8 = 2;

impl Cursor {
    /// Reads a cursor; `None` if it is not of the known form.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let bytes = from_base64url(text.strip_prefix("c1.")?)?;
        let mut rest = Rest(bytes.get(..bytes.len().checked_sub(4)?)?);
        let flags = *rest.take(1)?.first()?;
        let _set_and_subscription = rest.take(16)?;
        let _reflected = rest.number()?;
        let vector = rest.vector()?;
        let process = match flags & HAS_PLACE {
            0 => None,
            _ => {
                let process = match rest.number()? {
                    0 => rest.fixed()?,
                    at => vector.get(usize::try_from(at).ok()? - 1)?.0,
                };
                let _position = rest.number()?;
                Some(process)
            }
        };
        let scanned = match flags & HAS_SCAN {
            0 => None,
            _ => {
                let _vector = rest.vector()?;
                let _reflected = rest.number()?;
                let length = usize::try_from(rest.number()?).ok()?;
                Some(String::from_utf8_lossy(rest.take(length)?).into_owned())
            }
        };
        Some(Self { vector: vector.into_iter().collect(), process, scanned })
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn fixed(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// LEB128.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn vector(&mut self) -> Option<Vec<(u64, u64)>> {
        (0..self.number()?).map(|_| Some((self.fixed()?, self.number()?))).collect()
    }
}

fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use vwatch::core::feed as product;
    use vwatch::core::vector as product_vector;
    use vwatch::core::{Incarnation, Stamp};

    use super::*;

    #[test]
    fn reads_what_a_node_writes() {
        let mut vector = product_vector::Vector::default();
        vector.raise(Incarnation(7), 300);
        vector.raise(Incarnation(u64::MAX), 1);
        let mut cursor = product::Cursor {
            set: 1,
            subscription: 2,
            vector: vector.clone(),
            reflected: Stamp::ZERO,
            at: Some((Incarnation(u64::MAX), 99)),
            scan: None,
        };
        let read = Cursor::read(&vwatch::wire::cursor::encode(&cursor)).expect("a cursor");
        assert_eq!(read.vector, BTreeMap::from([(7, 300), (u64::MAX, 1)]));
        assert_eq!((read.process, read.scanned), (Some(u64::MAX), None));
        cursor.at = Some((Incarnation(5), 0));
        cursor.scan =
            Some(product::Scan { vector, reflected: Stamp::ZERO, after: b"a/1"[..].into(), from: None });
        let read = Cursor::read(&vwatch::wire::cursor::encode(&cursor)).expect("a cursor");
        assert_eq!((read.process, read.scanned.as_deref()), (Some(5), Some("a/1")));
        assert_eq!(Cursor::read("c1."), None);
        assert_eq!(Cursor::read("c1.!"), None);
    }
}
