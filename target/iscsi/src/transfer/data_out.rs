//! Following the data of a writing command (RFC 7143 4.2.5, 11.7, 11.8).
//!
//! ```text
//!  expected length, as the command states it
//!  |<------------------------------------------------------------------->|
//!  | immediate | unsolicited Data-Out | R2T 0     | R2T 1     | R2T 2 .. |
//!  |<-- first burst, ends with F ---->|<- burst ->|<- burst ->|
//! ```
//!
//! DataPDUInOrder and DataSequenceInOrder are always Yes, so bytes come strictly in order of their
//! offset, in all of the task: what has come is one number, and each outstanding R2T follows from
//! how many were sent and answered. Nothing is asked for before the unsolicited data have ended, as
//! only then is it known where they end.
//!
//! Where the command turns out to want less than the initiator expects to send, or nothing as it has
//! failed already, `wanted` is less than `expected`: the rest of the unsolicited data is taken in and
//! dropped, and no R2T asks for it.

use crate::serial::{DataSn, R2tSn};

/// The most R2Ts that this target ever has outstanding in one task (RFC 7143 13.17).
pub const MAX_OUTSTANDING_R2T: u8 = 8;

/// What the login agreed upon that governs writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRules {
    /// InitialR2T: no unsolicited Data-Out (RFC 7143 13.10).
    pub initial_r2t: bool,
    /// ImmediateData: data may come with the command (RFC 7143 13.11).
    pub immediate_data: bool,
    /// FirstBurstLength in bytes: immediate and unsolicited data together (RFC 7143 13.14).
    pub first_burst: u32,
    /// MaxBurstLength in bytes: the data of one R2T (RFC 7143 13.13).
    pub max_burst: u32,
    /// MaxOutstandingR2T, 1 to 8; other values are taken for the nearest.
    pub max_outstanding_r2t: u8,
}

/// A write whose data are arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataOut {
    /// Expected data transfer length.
    expected: u32,
    /// How much of it the command can use.
    wanted: u32,
    /// How much has come: everything below this offset.
    received: u32,
    /// Up to where it may come without being asked for; then, up to where it was asked for.
    limit: u32,
    /// The end of the burst that is being received.
    burst_end: u32,
    max_burst: u32,
    /// R2TSN of the next R2T to send.
    next_r2t: R2tSn,
    /// R2TSN of the R2T whose data are being received.
    current_r2t: R2tSn,
    next_data_sn: DataSn,
    window: u8,
    unsolicited: bool,
}

/// A Ready To Transfer to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2t {
    /// Its number within the task.
    pub r2t_sn: R2tSn,
    /// The low bits of its number, for the target transfer tag: what [`Burst::Solicited`] gives back.
    pub index: u8,
    /// From where, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub len: u32,
}

/// Which sequence a Data-Out belongs to, as its target transfer tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// The reserved tag: it was not asked for.
    Unsolicited,
    /// The answer to the R2T of that index.
    Solicited(u8),
}

/// Where the data of a PDU go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The offset in the command's buffer, in bytes.
    pub offset: u32,
    /// How many bytes came.
    pub len: u32,
    /// How many of them, from the front, the command has a use for; the rest is to be dropped.
    pub keep: u32,
}

/// A rule about a command's data that the initiator broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataOutError {
    /// Immediate data although ImmediateData=No (RFC 7143 13.11).
    #[error("immediate data, which were not agreed upon")]
    ImmediateNotAllowed,
    /// Unsolicited data announced (F clear) or sent where there may be none (RFC 7143 13.10, 11.3.1).
    #[error("unsolicited data where none may come")]
    UnsolicitedNotAllowed,
    /// More unsolicited data than FirstBurstLength (RFC 7143 13.14).
    #[error("unsolicited data up to byte {end}, the first burst ends at {limit}")]
    FirstBurstExceeded {
        /// Where the data would end.
        end: u64,
        /// Where they may.
        limit: u32,
    },
    /// Data for an R2T that is not the oldest outstanding one (RFC 7143 13.19).
    #[error("data for the R2T of index {0}, which is not the one being answered")]
    WrongR2t(u8),
    /// Data PDUs are not numbered in order (RFC 7143 11.7.5).
    #[error("{got} where {expected} was expected")]
    DataSn {
        /// What came.
        got: DataSn,
        /// What should have.
        expected: DataSn,
    },
    /// Data PDUs are not in order of their offsets (RFC 7143 13.18).
    #[error("data at byte {got} where byte {expected} was expected")]
    Offset {
        /// What came.
        got: u32,
        /// What should have.
        expected: u32,
    },
    /// More data than the R2T asked for (RFC 7143 11.8.4).
    #[error("data up to byte {end}, asked for up to {limit}")]
    BurstExceeded {
        /// Where the data would end.
        end: u64,
        /// Where they may.
        limit: u32,
    },
    /// F before all that the R2T asked for has come (RFC 7143 11.7.1).
    #[error("the sequence ends at byte {end}, asked for up to {limit}")]
    EndedEarly {
        /// Where the data end.
        end: u32,
        /// Where they should.
        limit: u32,
    },
    /// All that was asked for has come, without F; or a PDU that has neither data nor F.
    #[error("the sequence goes on without F")]
    NotEnded,
}

impl DataOutError {
    /// The additional sense code and qualifier with which RFC 7143 11.4.7.2 has such a command end,
    /// ABORTED COMMAND, where the connection can go on.
    #[must_use]
    pub const fn additional_sense(self) -> (u8, u8) {
        match self {
            Self::ImmediateNotAllowed | Self::UnsolicitedNotAllowed | Self::FirstBurstExceeded { .. } => {
                (0x0c, 0x0c)
            }
            _ => (0x0c, 0x0d),
        }
    }
}

impl DataOut {
    /// Begins with a command PDU: its expected data transfer length, how much of that the command
    /// can use (at most `expected`), the length of its immediate data, and its F bit.
    ///
    /// # Errors
    /// The command PDU has immediate data or announces unsolicited data that it may not.
    #[inline]
    pub fn new(
        rules: &WriteRules,
        expected: u32,
        wanted: u32,
        immediate: u32,
        is_final: bool,
    ) -> Result<Self, DataOutError> {
        if immediate > 0 && !rules.immediate_data {
            return Err(DataOutError::ImmediateNotAllowed);
        }
        let first_burst = rules.first_burst.min(expected);
        if immediate > first_burst {
            return Err(DataOutError::FirstBurstExceeded { end: immediate.into(), limit: first_burst });
        }
        // Some initiators leave F clear although nothing is left to come: that announces nothing.
        let unsolicited = !is_final && immediate < first_burst;
        if unsolicited && rules.initial_r2t {
            return Err(DataOutError::UnsolicitedNotAllowed);
        }
        let limit = if unsolicited { first_burst } else { immediate };
        Ok(Self {
            expected,
            wanted: wanted.min(expected),
            received: immediate,
            limit,
            burst_end: limit,
            max_burst: rules.max_burst.max(1),
            next_r2t: R2tSn(0),
            current_r2t: R2tSn(0),
            next_data_sn: DataSn(0),
            window: rules.max_outstanding_r2t.clamp(1, MAX_OUTSTANDING_R2T),
            unsolicited,
        })
    }

    /// Whether all data that the command wants have come, and no more are under way.
    #[inline]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        !self.unsolicited && self.received >= self.wanted && self.received >= self.limit
    }

    /// Whether unsolicited data are still to come.
    #[inline]
    #[must_use]
    pub const fn awaits_unsolicited(&self) -> bool {
        self.unsolicited
    }

    /// How many bytes have come, used or not: from the front, without a gap.
    #[inline]
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// Expected data transfer length in bytes.
    #[inline]
    #[must_use]
    pub const fn expected(&self) -> u32 {
        self.expected
    }

    /// How many R2Ts were sent: ExpDataSN of the SCSI response (RFC 7143 11.4.8).
    #[inline]
    #[must_use]
    pub const fn r2ts_sent(&self) -> R2tSn {
        self.next_r2t
    }

    /// How many R2Ts are sent and not fully answered.
    #[inline]
    #[must_use]
    pub const fn outstanding_r2ts(&self) -> u32 {
        self.next_r2t.distance_from(self.current_r2t)
    }

    /// The command has failed: nothing further is wanted of it. What is under way, unsolicited or
    /// asked for, is still taken in; then the write [is complete](Self::is_complete).
    #[inline]
    pub fn abandon(&mut self) {
        self.wanted = 0;
    }

    /// The next R2T to send, if one is due. Call until `None`: at the start, and whenever a PDU was
    /// accepted.
    #[inline]
    pub fn poll_r2t(&mut self) -> Option<R2t> {
        if self.unsolicited || self.limit >= self.wanted || self.outstanding_r2ts() >= u32::from(self.window)
        {
            return None;
        }
        let len = self.max_burst.min(self.wanted - self.limit);
        let r2t = R2t { r2t_sn: self.next_r2t, index: low_bits(self.next_r2t), offset: self.limit, len };
        if self.outstanding_r2ts() == 0 {
            self.begin_burst(len);
        }
        self.limit += len;
        self.next_r2t = self.next_r2t.next();
        Some(r2t)
    }

    /// Takes a Data-Out PDU: which sequence it belongs to, its DataSN, buffer offset, data segment
    /// length and F bit. Says where its data go; the state has then counted them.
    ///
    /// # Errors
    /// The rule that the PDU breaks; the state is unchanged.
    #[inline]
    pub fn accept(
        &mut self,
        burst: Burst,
        data_sn: DataSn,
        offset: u32,
        len: u32,
        is_final: bool,
    ) -> Result<Placement, DataOutError> {
        match burst {
            Burst::Unsolicited if !self.unsolicited => return Err(DataOutError::UnsolicitedNotAllowed),
            Burst::Solicited(index) if self.unsolicited || self.outstanding_r2ts() == 0 => {
                return Err(DataOutError::WrongR2t(index));
            }
            Burst::Solicited(index) if index != low_bits(self.current_r2t) => {
                return Err(DataOutError::WrongR2t(index));
            }
            Burst::Unsolicited | Burst::Solicited(_) => {}
        }
        if data_sn != self.next_data_sn {
            return Err(DataOutError::DataSn { got: data_sn, expected: self.next_data_sn });
        }
        if offset != self.received {
            return Err(DataOutError::Offset { got: offset, expected: self.received });
        }
        // `burst_end` never exceeds `expected`, so a sum within it does not wrap.
        let end = u64::from(offset) + u64::from(len);
        let limit = self.burst_end;
        if end > u64::from(limit) {
            return Err(match burst {
                Burst::Unsolicited => DataOutError::FirstBurstExceeded { end, limit },
                Burst::Solicited(_) => DataOutError::BurstExceeded { end, limit },
            });
        }
        let end = offset + len;
        match burst {
            Burst::Solicited(_) if is_final && end < limit => {
                return Err(DataOutError::EndedEarly { end, limit });
            }
            _ if !is_final && (end == limit || len == 0) => return Err(DataOutError::NotEnded),
            _ => {}
        }
        self.received = end;
        self.next_data_sn = self.next_data_sn.next();
        if is_final {
            self.end_burst();
        }
        Ok(Placement { offset, len, keep: self.wanted.saturating_sub(offset).min(len) })
    }

    fn begin_burst(&mut self, len: u32) {
        self.burst_end = self.received + len;
        self.next_data_sn = DataSn(0);
    }

    fn end_burst(&mut self) {
        if self.unsolicited {
            self.unsolicited = false;
            // The initiator may send less than it might have: what is left is asked for.
            self.limit = self.received;
            return;
        }
        self.current_r2t = self.current_r2t.next();
        if self.outstanding_r2ts() > 0 {
            // All bursts but the last are of full length, and the last ends at the limit.
            self.begin_burst(self.max_burst.min(self.limit - self.received));
        }
    }
}

#[inline]
fn low_bits(sn: R2tSn) -> u8 {
    let [.., low] = sn.0.to_be_bytes();
    low
}

#[cfg(test)]
#[path = "data_out_tests.rs"]
mod tests;
