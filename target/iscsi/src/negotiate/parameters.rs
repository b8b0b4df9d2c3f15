//! What one side wants, and what both agreed upon.

use super::keys::Key;
use crate::frame::Framing;
use crate::transfer::{MAX_OUTSTANDING_R2T, WriteRules};

/// What a side thinks of digests (RFC 7143 13.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPreference {
    /// Never.
    Never,
    /// As the other side likes it; without, if it has no wish.
    #[default]
    Allow,
    /// With, if the other side can.
    Prefer,
    /// Always: without, there is no session.
    Require,
}

/// What one side wants, or can do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// Header digests.
    pub header_digest: DigestPreference,
    /// Data digests.
    pub data_digest: DigestPreference,
    /// The most connections of a session, 1 to 65535.
    pub max_connections: u16,
    /// Whether every write must wait for an R2T.
    pub initial_r2t: bool,
    /// Whether data may come with a command.
    pub immediate_data: bool,
    /// The longest data segment that this side receives, in bytes, 512 to 2^24 - 1.
    pub max_recv_data_segment_length: u32,
    /// The longest burst, in bytes, 512 to 2^24 - 1.
    pub max_burst_length: u32,
    /// The most unsolicited data of a command, in bytes, 512 to 2^24 - 1.
    pub first_burst_length: u32,
    /// The least time to wait before a lost connection is taken up again, in seconds, 0 to 3600.
    pub default_time2wait: u16,
    /// The longest time, after that, to keep tasks, in seconds, 0 to 3600.
    pub default_time2retain: u16,
    /// The most R2Ts outstanding in one task, 1 to 8.
    pub max_outstanding_r2t: u8,
    /// The highest protocol level (RFC 7144 7.1.1): 1 for RFC 7143, 2 for RFC 7144.
    pub protocol_level: u8,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            header_digest: DigestPreference::Allow,
            data_digest: DigestPreference::Allow,
            max_connections: 8,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            default_time2wait: 2,
            // At error recovery level 0 tasks do not outlive their connection.
            default_time2retain: 0,
            max_outstanding_r2t: MAX_OUTSTANDING_R2T,
            protocol_level: 1,
        }
    }
}

impl Preferences {
    /// What this side wants for a key, within the key's range. Digests, which are lists, apart.
    pub(super) fn wanted(&self, key: Key) -> u32 {
        let rule = key.rule();
        let value = match key {
            Key::MaxConnections => self.max_connections.into(),
            Key::InitialR2T => self.initial_r2t.into(),
            Key::ImmediateData => self.immediate_data.into(),
            Key::MaxRecvDataSegmentLength => self.max_recv_data_segment_length,
            Key::MaxBurstLength => self.max_burst_length,
            Key::FirstBurstLength => self.first_burst_length.min(self.max_burst_length),
            Key::DefaultTime2Wait => self.default_time2wait.into(),
            Key::DefaultTime2Retain => self.default_time2retain.into(),
            Key::MaxOutstandingR2T => self.max_outstanding_r2t.min(MAX_OUTSTANDING_R2T).into(),
            Key::ISCSIProtocolLevel => self.protocol_level.max(1).into(),
            Key::DataPDUInOrder | Key::DataSequenceInOrder => 1,
            // Level 0 is what there is; digests, reporting and markers are not numbers.
            _ => 0,
        };
        value.clamp(rule.least, rule.greatest)
    }

    pub(super) fn digest(&self, key: Key) -> DigestPreference {
        match key {
            Key::HeaderDigest => self.header_digest,
            Key::DataDigest => self.data_digest,
            _ => DigestPreference::Never,
        }
    }
}

/// What both sides agreed upon. Until then, and for what nobody mentioned, the standard's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Headers have digests.
    pub header_digest: bool,
    /// Data segments have digests.
    pub data_digest: bool,
    /// The most connections of the session.
    pub max_connections: u16,
    /// Every write waits for an R2T.
    pub initial_r2t: bool,
    /// Data may come with a command.
    pub immediate_data: bool,
    /// The longest data segment that this side receives, in bytes, as it has declared.
    pub max_recv_data_segment_length: u32,
    /// The longest data segment that the other side receives, in bytes, as it has declared.
    pub max_send_data_segment_length: u32,
    /// The longest burst, in bytes.
    pub max_burst_length: u32,
    /// The most unsolicited data of a command, in bytes.
    pub first_burst_length: u32,
    /// Seconds to wait before a lost connection is taken up again.
    pub default_time2wait: u16,
    /// Seconds, after that, for which tasks are kept.
    pub default_time2retain: u16,
    /// The most R2Ts outstanding in one task.
    pub max_outstanding_r2t: u16,
    /// Error recovery level: 0.
    pub error_recovery_level: u8,
    /// Protocol level (RFC 7144 7.1.1).
    pub protocol_level: u8,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_recv_data_segment_length: 8192,
            max_send_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65536,
            default_time2wait: 2,
            default_time2retain: 20,
            max_outstanding_r2t: 1,
            error_recovery_level: 0,
            protocol_level: 1,
        }
    }
}

impl Parameters {
    /// How PDUs that this side receives are framed.
    #[must_use]
    pub const fn receive_framing(&self) -> Framing {
        Framing {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            max_data_len: self.max_recv_data_segment_length,
        }
    }

    /// How PDUs that this side sends are framed.
    #[must_use]
    pub const fn send_framing(&self) -> Framing {
        Framing {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            max_data_len: self.max_send_data_segment_length,
        }
    }

    /// What governs writes.
    #[must_use]
    pub fn write_rules(&self) -> WriteRules {
        WriteRules {
            initial_r2t: self.initial_r2t,
            immediate_data: self.immediate_data,
            first_burst: self.first_burst_length,
            max_burst: self.max_burst_length,
            max_outstanding_r2t: u8::try_from(self.max_outstanding_r2t).unwrap_or(MAX_OUTSTANDING_R2T),
        }
    }

    /// These parameters with those that belong to the whole session taken from `session`: what holds
    /// on a connection that joins a session (RFC 7143 13, scope SW).
    #[must_use]
    pub const fn joined_to(&self, session: &Self) -> Self {
        Self {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            max_recv_data_segment_length: self.max_recv_data_segment_length,
            max_send_data_segment_length: self.max_send_data_segment_length,
            ..*session
        }
    }

    /// Sets what was agreed upon for a key. Values come from the table's ranges, so none is cut off.
    pub(super) fn set(&mut self, key: Key, value: u32) {
        let short = u16::try_from(value).unwrap_or(u16::MAX);
        let byte = u8::try_from(value).unwrap_or(u8::MAX);
        let yes = value != 0;
        match key {
            Key::HeaderDigest => self.header_digest = yes,
            Key::DataDigest => self.data_digest = yes,
            Key::MaxConnections => self.max_connections = short,
            Key::InitialR2T => self.initial_r2t = yes,
            Key::ImmediateData => self.immediate_data = yes,
            Key::MaxRecvDataSegmentLength => self.max_send_data_segment_length = value,
            Key::MaxBurstLength => self.max_burst_length = value,
            Key::FirstBurstLength => self.first_burst_length = value,
            Key::DefaultTime2Wait => self.default_time2wait = short,
            Key::DefaultTime2Retain => self.default_time2retain = short,
            Key::MaxOutstandingR2T => self.max_outstanding_r2t = short,
            Key::ErrorRecoveryLevel => self.error_recovery_level = byte,
            Key::ISCSIProtocolLevel => self.protocol_level = byte,
            Key::DataPDUInOrder
            | Key::DataSequenceInOrder
            | Key::TaskReporting
            | Key::OFMarker
            | Key::IFMarker
            | Key::OFMarkInt
            | Key::IFMarkInt => {}
        }
    }
}
