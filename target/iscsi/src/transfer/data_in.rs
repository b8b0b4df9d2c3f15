//! Cutting the data of a reading command into Data-In PDUs.
//!
//! A PDU is no longer than the initiator's MaxRecvDataSegmentLength, a sequence no longer than
//! MaxBurstLength, and each sequence ends with the F bit (RFC 7143 11.7.1, 13.12, 13.13). Data go in
//! order, so that the next offset is all there is to remember.

use crate::serial::DataSn;

/// A read that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataIn {
    total: u32,
    sent: u32,
    max_data_len: u32,
    max_burst: u32,
    /// What is left of the current sequence.
    burst_left: u32,
    next_sn: DataSn,
    with_status: bool,
}

/// One Data-In PDU to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInPdu {
    /// Its number within the task.
    pub data_sn: DataSn,
    /// Where its data are in the command's buffer, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
    /// The F bit: it ends its sequence.
    pub last_of_sequence: bool,
    /// It is the last of the task and carries the status (the S bit).
    pub with_status: bool,
}

impl DataIn {
    /// A read of `total` bytes to an initiator that takes `max_data_len` a PDU and `max_burst` a
    /// sequence (each at least 512 after a login; 0 is taken for 1). `with_status`: the last PDU
    /// ends the task. A read of no bytes has no PDU: its status goes in a SCSI response.
    #[inline]
    #[must_use]
    pub fn new(total: u32, max_data_len: u32, max_burst: u32, with_status: bool) -> Self {
        let max_burst = max_burst.max(1);
        Self {
            total,
            sent: 0,
            max_data_len: max_data_len.max(1),
            max_burst,
            burst_left: max_burst,
            next_sn: DataSn(0),
            with_status,
        }
    }

    /// Bytes not yet given out.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.total - self.sent
    }

    /// How many PDUs were given out: ExpDataSN of a SCSI response that follows (RFC 7143 11.4.8).
    #[inline]
    #[must_use]
    pub const fn exp_data_sn(&self) -> DataSn {
        self.next_sn
    }

    /// The PDU that is next, without giving it out.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<DataInPdu> {
        self.clone().next()
    }
}

impl Iterator for DataIn {
    type Item = DataInPdu;

    #[inline]
    fn next(&mut self) -> Option<DataInPdu> {
        let left = self.remaining();
        if left == 0 {
            return None;
        }
        let len = left.min(self.max_data_len).min(self.burst_left);
        let last = len == left;
        let pdu = DataInPdu {
            data_sn: self.next_sn,
            offset: self.sent,
            len,
            last_of_sequence: last || len == self.burst_left,
            with_status: last && self.with_status,
        };
        self.sent += len;
        self.next_sn = self.next_sn.next();
        self.burst_left = if pdu.last_of_sequence { self.max_burst } else { self.burst_left - len };
        Some(pdu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_read_is_one_pdu_with_its_status() {
        let mut read = DataIn::new(4096, 262_144, 1_048_576, true);
        let only =
            DataInPdu { data_sn: DataSn(0), offset: 0, len: 4096, last_of_sequence: true, with_status: true };
        assert_eq!(read.peek(), Some(only));
        assert_eq!(read.next(), Some(only));
        assert_eq!(read.next(), None);
        assert_eq!(read.exp_data_sn(), DataSn(1));
    }

    #[test]
    fn no_bytes_no_pdu() {
        assert_eq!(DataIn::new(0, 512, 512, true).next(), None);
    }

    #[test]
    fn sequences_end_at_the_burst() {
        let cut: Vec<_> =
            DataIn::new(2560, 1000, 1500, false).map(|p| (p.offset, p.len, p.last_of_sequence)).collect();
        assert_eq!(cut, [(0, 1000, false), (1000, 500, true), (1500, 1000, false), (2500, 60, true)]);
    }

    proptest! {
        #[test]
        fn every_byte_goes_once_within_the_limits(
            total in 0u32..200_000, max_data in 512u32..9000, max_burst in 512u32..20_000, status: bool,
        ) {
            let (mut at, mut burst, mut count) = (0, 0, 0);
            for pdu in DataIn::new(total, max_data, max_burst, status) {
                prop_assert_eq!((pdu.offset, pdu.data_sn), (at, DataSn(count)));
                prop_assert!(pdu.len > 0 && pdu.len <= max_data);
                at += pdu.len;
                burst += pdu.len;
                count += 1;
                prop_assert!(burst <= max_burst);
                prop_assert_eq!(pdu.last_of_sequence, burst == max_burst || at == total);
                prop_assert_eq!(pdu.with_status, status && at == total);
                if pdu.last_of_sequence { burst = 0; }
            }
            prop_assert_eq!(at, total);
        }
    }
}
