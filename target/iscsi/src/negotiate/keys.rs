//! The operational keys, as one table (RFC 7143 13, RFC 7144 7.1.1).

/// An operational key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the key of that name in RFC 7143 13")]
pub enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPDUInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    TaskReporting,
    ISCSIProtocolLevel,
    OFMarker,
    IFMarker,
    OFMarkInt,
    IFMarkInt,
}

/// By which function two values become one (RFC 7143 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A number: the smaller.
    Minimum,
    /// A number: the larger.
    Maximum,
    /// Yes where both say Yes.
    And,
    /// Yes where one says Yes.
    Or,
    /// A number that each side states for itself.
    Declared,
    /// A list of digests, the first that the other side takes.
    Digest,
    /// A list of ways to report the end of tasks, of which only RFC3720 is taken.
    Reporting,
    /// Not used any more: the answer is No (RFC 7143 13.25).
    ObsoleteBoolean,
    /// Not used any more: the answer is Reject (RFC 7143 13.25).
    ObsoleteRange,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The key.
    pub key: Key,
    /// As it is written.
    pub name: &'static str,
    /// How values are agreed upon.
    pub function: Function,
    /// The least number it can have; for booleans, 0 for No.
    pub least: u32,
    /// The greatest.
    pub greatest: u32,
    /// What holds where it is not negotiated.
    pub default: u32,
    /// Only on the first connection of a session (use LO).
    pub leading_only: bool,
    /// Means nothing in a discovery session.
    pub normal_only: bool,
}

/// How many keys there are.
pub(super) const COUNT: usize = 20;

const YES: u32 = 1;
const MAX_LENGTH: u32 = (1 << 24) - 1;

const fn rule(key: Key, name: &'static str, function: Function, range: (u32, u32), default: u32) -> Rule {
    let (least, greatest) = range;
    Rule { key, name, function, least, greatest, default, leading_only: false, normal_only: false }
}

impl Rule {
    const fn leading(mut self) -> Self {
        self.leading_only = true;
        self
    }

    const fn normal(mut self) -> Self {
        self.normal_only = true;
        self
    }
}

/// Every operational key, in the order of [`Key`].
#[rustfmt::skip]
pub static TABLE: [Rule; COUNT] = {
    use Function as F;
    use Key as K;
    [
        rule(K::HeaderDigest, "HeaderDigest", F::Digest, (0, 1), 0),
        rule(K::DataDigest, "DataDigest", F::Digest, (0, 1), 0),
        rule(K::MaxConnections, "MaxConnections", F::Minimum, (1, 65535), 1).leading().normal(),
        rule(K::InitialR2T, "InitialR2T", F::Or, (0, 1), YES).leading().normal(),
        rule(K::ImmediateData, "ImmediateData", F::And, (0, 1), YES).leading().normal(),
        rule(K::MaxRecvDataSegmentLength, "MaxRecvDataSegmentLength", F::Declared, (512, MAX_LENGTH), 8192),
        rule(K::MaxBurstLength, "MaxBurstLength", F::Minimum, (512, MAX_LENGTH), 262_144).leading().normal(),
        rule(K::FirstBurstLength, "FirstBurstLength", F::Minimum, (512, MAX_LENGTH), 65536).leading().normal(),
        rule(K::DefaultTime2Wait, "DefaultTime2Wait", F::Maximum, (0, 3600), 2).leading(),
        rule(K::DefaultTime2Retain, "DefaultTime2Retain", F::Minimum, (0, 3600), 20).leading(),
        rule(K::MaxOutstandingR2T, "MaxOutstandingR2T", F::Minimum, (1, 65535), 1).leading().normal(),
        rule(K::DataPDUInOrder, "DataPDUInOrder", F::Or, (0, 1), YES).leading().normal(),
        rule(K::DataSequenceInOrder, "DataSequenceInOrder", F::Or, (0, 1), YES).leading().normal(),
        rule(K::ErrorRecoveryLevel, "ErrorRecoveryLevel", F::Minimum, (0, 2), 0).leading(),
        rule(K::TaskReporting, "TaskReporting", F::Reporting, (0, 0), 0).leading().normal(),
        rule(K::ISCSIProtocolLevel, "iSCSIProtocolLevel", F::Minimum, (0, 31), 1).leading().normal(),
        rule(K::OFMarker, "OFMarker", F::ObsoleteBoolean, (0, 1), 0),
        rule(K::IFMarker, "IFMarker", F::ObsoleteBoolean, (0, 1), 0),
        rule(K::OFMarkInt, "OFMarkInt", F::ObsoleteRange, (0, 0), 0),
        rule(K::IFMarkInt, "IFMarkInt", F::ObsoleteRange, (0, 0), 0),
    ]
};

impl Key {
    /// The key of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|rule| rule.name == name).map(|rule| rule.key)
    }

    /// What is known of it.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_keys() {
        for (index, rule) in TABLE.iter().enumerate() {
            assert_eq!(rule.key as usize, index);
            assert_eq!(rule.key.rule(), rule);
            assert_eq!(Key::from_name(rule.name), Some(rule.key));
            assert!((rule.least..=rule.greatest).contains(&rule.default), "{}", rule.name);
        }
        assert_eq!(Key::from_name("headerdigest"), None, "keys are case sensitive");
    }
}
