//! A target that says something else than it means: PDUs are changed on their way to the host.
//!
//! For showing that hosts notice. It follows the stream from the first byte on, header by header, and so
//! works only without digests.

use crate::options::Tamper;

/// Bytes of a basic header segment (RFC 7143 11.2.1).
const HEADER: usize = 48;
const LOGIN_RESPONSE: u8 = 0x23;
const SCSI_RESPONSE: u8 = 0x21;
const CHECK_CONDITION: u8 = 0x02;

/// How far it is in the stream.
#[derive(Debug)]
pub(crate) struct Tampering {
    what: Tamper,
    header: [u8; HEADER],
    filled: usize,
    /// Bytes of data until the next header.
    skip: usize,
}

impl Tampering {
    pub(crate) fn new(what: Tamper) -> Self {
        Self { what, header: [0; HEADER], filled: 0, skip: 0 }
    }

    /// The next byte of the stream; what it becomes.
    pub(crate) fn pass(&mut self, byte: u8) -> u8 {
        if self.skip > 0 {
            self.skip -= 1;
            return byte;
        }
        let at = self.filled;
        if let Some(place) = self.header.get_mut(at) {
            *place = byte;
        }
        self.filled += 1;
        if self.filled == HEADER {
            self.filled = 0;
            let [_, _, _, _, additional, high, middle, low, ..] = self.header;
            let data = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.skip = usize::from(additional) * 4 + data.next_multiple_of(4);
        }
        let opcode = self.header[0] & 0x3f;
        match self.what {
            // MaxCmdSN, at bytes 32 to 35: 256 more, where that carries nothing.
            Tamper::Window if at == 34 && opcode != LOGIN_RESPONSE => byte.saturating_add(1),
            Tamper::Status if at == 3 && opcode == SCSI_RESPONSE && byte == CHECK_CONDITION => 0,
            _ => byte,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u8, data: &[u8]) -> Vec<u8> {
        let mut pdu = vec![0; HEADER];
        (pdu[0], pdu[3], pdu[7]) = (SCSI_RESPONSE, status, u8::try_from(data.len()).unwrap());
        pdu.extend_from_slice(data);
        pdu.resize(pdu.len().next_multiple_of(4), 0);
        pdu
    }

    fn through(what: Tamper, bytes: &[u8]) -> Vec<u8> {
        let mut tampering = Tampering::new(what);
        bytes.iter().map(|byte| tampering.pass(*byte)).collect()
    }

    #[test]
    fn only_the_named_field_of_every_header_is_changed() {
        let bytes = [response(2, &[SCSI_RESPONSE, 0, 0, 2, 2]), response(2, &[]), response(8, &[])].concat();
        let good = [response(0, &[SCSI_RESPONSE, 0, 0, 2, 2]), response(0, &[]), response(8, &[])].concat();
        assert_eq!(through(Tamper::Status, &bytes), good);
        let changed: Vec<usize> = through(Tamper::Window, &bytes)
            .iter()
            .zip(&bytes)
            .enumerate()
            .filter(|(_, (new, old))| new != old)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(changed, [34, 56 + 34, 104 + 34]);
    }
}
