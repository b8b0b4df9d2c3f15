//! One side of a negotiation.
//!
//! A key is offered by one side and answered by the other, once in a login (RFC 7143 6.2, 6.3). What
//! [`Negotiator::receive`] gets is an answer where this side has offered that key, else an offer.
//! FirstBurstLength depends on MaxBurstLength, whichever comes first in the text, so its answer is
//! given by [`Negotiator::end_of_text`].

use super::keys::{COUNT, Function, Key, Rule, TABLE};
use super::parameters::{DigestPreference, Parameters, Preferences};
use crate::text::{self, IRRELEVANT, NOT_UNDERSTOOD, REJECT, Text};

const NONE: &str = "None";
const CRC32C: &str = "CRC32C";
const RFC3720: &str = "RFC3720";

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that opens connections.
    Initiator,
    /// The one that serves.
    Target,
}

/// Where this negotiation takes place: which keys mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// A discovery session.
    pub discovery: bool,
    /// The first connection of its session.
    pub leading: bool,
}

/// A negotiation that cannot go on: the login fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// A key was negotiated twice in one login (RFC 7143 6.3).
    #[error("{0} is negotiated twice")]
    Repeated(&'static str),
    /// An answer is not one that the offer allows (RFC 7143 6.2.2).
    #[error("the answer to {0} does not fit what was offered")]
    BadAnswer(&'static str),
    /// A declared value cannot be.
    #[error("{0} has a value that it cannot have")]
    BadValue(&'static str),
    /// What this side insists on was not agreed upon.
    #[error("no agreement on {0}")]
    NoAgreement(&'static str),
}

/// One side of a negotiation.
#[derive(Clone, Debug)]
pub struct Negotiator {
    role: Role,
    scope: Scope,
    preferences: Preferences,
    parameters: Parameters,
    /// Bit sets over [`Key`]: offered by this side; settled, or declared by the other side; declared
    /// by this side.
    offered: u32,
    settled: u32,
    declared: u32,
    /// The value of a FirstBurstLength that is not answered yet.
    first_burst_offer: Option<u32>,
}

const _: () = assert!(COUNT <= 32, "the sets of keys are 32 bits");

fn bit(key: Key) -> u32 {
    1 << key as u32
}

/// A value within the key's range.
fn value_of(rule: &Rule, value: &str) -> Option<u32> {
    let number = match rule.function {
        Function::And | Function::Or | Function::ObsoleteBoolean => text::boolean(value)?.into(),
        Function::Minimum | Function::Maximum | Function::Declared => text::number(value)?,
        Function::Digest => match value {
            NONE => 0,
            CRC32C => 1,
            _ => return None,
        },
        Function::Reporting => (value == RFC3720).then_some(0)?,
        Function::ObsoleteRange => return None,
    };
    (rule.least..=rule.greatest).contains(&number).then_some(number)
}

fn text_of(rule: &Rule, value: u32) -> String {
    match rule.function {
        Function::And | Function::Or | Function::ObsoleteBoolean => {
            if value == 0 { "No" } else { "Yes" }.into()
        }
        Function::Digest => if value == 0 { NONE } else { CRC32C }.into(),
        Function::Reporting => RFC3720.into(),
        Function::ObsoleteRange => REJECT.into(),
        Function::Minimum | Function::Maximum | Function::Declared => value.to_string(),
    }
}

impl Negotiator {
    /// Begins with the standard's defaults.
    #[must_use]
    pub fn new(role: Role, scope: Scope, preferences: Preferences) -> Self {
        Self {
            role,
            scope,
            preferences,
            parameters: Parameters::default(),
            offered: 0,
            settled: 0,
            declared: 0,
            first_burst_offer: None,
        }
    }

    /// What is agreed upon so far.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Says how long the data segments are that this side receives, unless it has said so already.
    pub fn declare(&mut self, out: &mut Text) {
        let key = Key::MaxRecvDataSegmentLength;
        if self.declared & bit(key) == 0 {
            self.declared |= bit(key);
            let value = self.preferences.wanted(key);
            self.parameters.max_recv_data_segment_length = value;
            out.push_number(key.rule().name, value);
        }
    }

    /// Offers every key that means something here: how an initiator begins.
    pub fn offer_all(&mut self, out: &mut Text) {
        self.declare(out);
        for rule in &TABLE {
            let offerable = !matches!(
                rule.function,
                Function::Declared
                    | Function::Reporting
                    | Function::ObsoleteBoolean
                    | Function::ObsoleteRange
            );
            // A level is only worth a key where it is not what everybody has.
            let plain_level = rule.key == Key::ISCSIProtocolLevel && self.preferences.protocol_level <= 1;
            if offerable && !plain_level {
                self.offer(rule, out);
            }
        }
    }

    /// Offers the keys that nobody has mentioned and whose defaults this side cannot live with: what
    /// a target does before it lets the initiator leave the stage. Whether there were any.
    pub fn offer_needed(&mut self, out: &mut Text) -> bool {
        let mut any = false;
        for rule in &TABLE {
            if !self.default_is_fine(rule) {
                any |= self.offer(rule, out);
            }
        }
        any
    }

    fn offer(&mut self, rule: &Rule, out: &mut Text) -> bool {
        if self.is_irrelevant(rule) || (self.offered | self.settled) & bit(rule.key) != 0 {
            return false;
        }
        self.offered |= bit(rule.key);
        if rule.function == Function::Digest {
            let list = match self.preferences.digest(rule.key) {
                DigestPreference::Never => NONE,
                DigestPreference::Allow => "None,CRC32C",
                DigestPreference::Prefer => "CRC32C,None",
                DigestPreference::Require => CRC32C,
            };
            out.push(rule.name, list);
        } else {
            out.push(rule.name, &text_of(rule, self.preferences.wanted(rule.key)));
        }
        if self.is_decided(rule) {
            self.parameters.set(rule.key, self.preferences.wanted(rule.key));
        }
        true
    }

    /// Takes a pair. Where an answer is due, it goes to `out`.
    ///
    /// # Errors
    /// The negotiation cannot go on.
    pub fn receive(&mut self, name: &str, value: &str, out: &mut Text) -> Result<(), NegotiationError> {
        let Some(key) = Key::from_name(name) else {
            // An answer is never answered (RFC 7143 6.2).
            if ![NOT_UNDERSTOOD, IRRELEVANT, REJECT].contains(&value) {
                out.push(name, NOT_UNDERSTOOD);
            }
            return Ok(());
        };
        let rule = key.rule();
        if self.settled & bit(key) != 0 {
            return Err(NegotiationError::Repeated(rule.name));
        }
        self.settled |= bit(key);
        if self.offered & bit(key) != 0 {
            return self.take_answer(rule, value);
        }
        if self.is_irrelevant(rule) {
            out.push(name, IRRELEVANT);
            return Ok(());
        }
        self.take_offer(rule, value, out)
    }

    /// Answers what had to wait for the end of the text.
    pub fn end_of_text(&mut self, out: &mut Text) {
        let Some(offer) = self.first_burst_offer.take() else { return };
        let wanted = self.preferences.wanted(Key::FirstBurstLength);
        let agreed = offer.min(wanted).min(self.parameters.max_burst_length);
        self.parameters.first_burst_length = agreed;
        out.push_number(Key::FirstBurstLength.rule().name, agreed);
    }

    /// Whether answers to what this side has offered are still to come.
    #[must_use]
    pub fn awaits_answers(&self) -> bool {
        let open = self.offered & !self.settled;
        TABLE.iter().any(|rule| open & bit(rule.key) != 0 && !self.is_decided(rule))
    }

    /// Whether this side's offer alone decides: an answer to No where both must say Yes, or to Yes where one is
    /// enough, is optional (RFC 7143 6.2.2), and the kernel's own target gives none.
    fn is_decided(&self, rule: &Rule) -> bool {
        let wanted = self.preferences.wanted(rule.key);
        let offered = self.offered & bit(rule.key) != 0;
        offered && matches!((rule.function, wanted), (Function::And, 0) | (Function::Or, 1))
    }

    /// Ends the negotiation.
    ///
    /// # Errors
    /// What this side insists on was not agreed upon.
    pub fn finish(&self) -> Result<Parameters, NegotiationError> {
        let unmet = TABLE.iter().find(|rule| {
            let open = self.settled & bit(rule.key) == 0 && !self.is_decided(rule);
            open && !self.is_irrelevant(rule) && !self.default_is_fine(rule)
        });
        if let Some(rule) = unmet {
            return Err(NegotiationError::NoAgreement(rule.name));
        }
        let digests = [
            (Key::HeaderDigest, self.parameters.header_digest),
            (Key::DataDigest, self.parameters.data_digest),
        ];
        for (key, agreed) in digests {
            if self.preferences.digest(key) == DigestPreference::Require && !agreed {
                return Err(NegotiationError::NoAgreement(key.rule().name));
            }
        }
        let mut parameters = self.parameters;
        if self.role == Role::Initiator {
            // A target whose default first burst is larger than the burst agreed upon is not worth
            // failing for; this side just sends less.
            parameters.first_burst_length = parameters.first_burst_length.min(parameters.max_burst_length);
        }
        Ok(parameters)
    }

    fn is_irrelevant(&self, rule: &Rule) -> bool {
        (rule.normal_only && self.scope.discovery) || (rule.leading_only && !self.scope.leading)
    }

    /// Whether this side can live with what holds where a key is not negotiated.
    fn default_is_fine(&self, rule: &Rule) -> bool {
        let wanted = self.preferences.wanted(rule.key);
        match rule.function {
            Function::Digest => self.preferences.digest(rule.key) != DigestPreference::Require,
            // Advice for recovery, which no side depends upon at level 0.
            _ if matches!(rule.key, Key::DefaultTime2Wait | Key::DefaultTime2Retain) => true,
            _ => fits(rule.function, wanted, rule.default),
        }
    }

    fn take_answer(&mut self, rule: &Rule, value: &str) -> Result<(), NegotiationError> {
        if [NOT_UNDERSTOOD, IRRELEVANT, REJECT].contains(&value) {
            // No agreement: the default holds, if that will do.
            return if self.default_is_fine(rule) {
                Ok(())
            } else {
                Err(NegotiationError::NoAgreement(rule.name))
            };
        }
        let bad = NegotiationError::BadAnswer(rule.name);
        let answer = value_of(rule, value).ok_or(bad)?;
        let allowed = match rule.function {
            Function::Digest => match self.preferences.digest(rule.key) {
                DigestPreference::Never => answer == 0,
                DigestPreference::Require => answer == 1,
                DigestPreference::Allow | DigestPreference::Prefer => true,
            },
            function => fits(function, self.preferences.wanted(rule.key), answer),
        };
        if !allowed {
            return Err(bad);
        }
        self.parameters.set(rule.key, answer);
        Ok(())
    }

    fn take_offer(&mut self, rule: &Rule, value: &str, out: &mut Text) -> Result<(), NegotiationError> {
        let agreed = match rule.function {
            Function::Digest => self.choose_digest(rule.key, value),
            Function::Reporting => value.split(',').any(|item| item == RFC3720).then_some(0),
            Function::ObsoleteRange => None,
            Function::Declared => {
                let declared = value_of(rule, value).ok_or(NegotiationError::BadValue(rule.name))?;
                self.parameters.set(rule.key, declared);
                return Ok(());
            }
            function => value_of(rule, value).map(|offer| {
                let wanted = self.preferences.wanted(rule.key);
                match function {
                    Function::Minimum => offer.min(wanted),
                    Function::Maximum => offer.max(wanted),
                    Function::And => offer & wanted,
                    Function::Or => offer | wanted,
                    _ => 0,
                }
            }),
        };
        let Some(agreed) = agreed else {
            out.push(rule.name, REJECT);
            return Ok(());
        };
        if rule.key == Key::FirstBurstLength {
            self.first_burst_offer = Some(agreed);
            return Ok(());
        }
        self.parameters.set(rule.key, agreed);
        out.push(rule.name, &text_of(rule, agreed));
        Ok(())
    }

    /// The first digest of the list that this side takes; with `Prefer`, CRC32C wherever it stands.
    fn choose_digest(&self, key: Key, list: &str) -> Option<u32> {
        let rule = key.rule();
        let mut offered = list.split(',').filter_map(|item| value_of(rule, item));
        match self.preferences.digest(key) {
            DigestPreference::Never => offered.find(|&digest| digest == 0),
            DigestPreference::Require => offered.find(|&digest| digest == 1),
            DigestPreference::Allow => offered.next(),
            DigestPreference::Prefer => offered.max(),
        }
    }
}

/// Whether `agreed` can be what a function makes of `wanted` and anything else.
fn fits(function: Function, wanted: u32, agreed: u32) -> bool {
    match function {
        Function::Minimum | Function::And => agreed <= wanted,
        Function::Maximum | Function::Or => agreed >= wanted,
        _ => true,
    }
}

#[cfg(test)]
#[path = "negotiator_tests.rs"]
mod tests;
