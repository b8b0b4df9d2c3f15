//! An initiator's question which targets there are.

use super::address::{AddressError, TargetAddress};
use super::{MAX_ANSWER, MAX_TEXT};
use crate::login::Pdu;
use crate::name::{IscsiName, NameError};
use crate::pdu::{Bhs, Itt, Opcode, TextFlags, TextRequest, Ttt, U24};
use crate::serial::{CmdSn, StatSn};
use crate::text::{REJECT, Reassembly, Text, TextError, pairs};
use zerocopy::FromZeros;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every target; in a discovery session only.
    All,
    /// The target of this session; in a normal session only.
    Own,
    /// That target.
    Named(IscsiName),
}

/// A target that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Its name.
    pub name: IscsiName,
    /// Where it can be reached; where none is told, at the address that was asked.
    pub addresses: Vec<TargetAddress>,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Something else than the answer came.
    #[error("not the answer to this text request: {0}")]
    Protocol(&'static str),
    /// The text is malformed or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A name is not an iSCSI name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The target does not answer this question here.
    #[error("the target rejects the question")]
    Rejected,
}

/// A question to a target, in a session that is logged in.
#[derive(Debug)]
pub struct SendTargets {
    itt: Itt,
    ttt: Ttt,
    /// What to send next, if it is this side's turn.
    request: Option<Vec<u8>>,
    answer: Reassembly,
    responses: u32,
}

impl SendTargets {
    /// The most responses to one question.
    const MAX_RESPONSES: u32 = 4096;

    /// Asks, as the task of that tag.
    #[must_use]
    pub fn new(itt: Itt, wanted: &Wanted) -> Self {
        let mut text = Text::new();
        text.push(
            "SendTargets",
            match wanted {
                Wanted::All => "All",
                Wanted::Own => "",
                Wanted::Named(name) => name.as_str(),
            },
        );
        Self {
            itt,
            ttt: Ttt::RESERVED,
            request: Some(text.into_bytes()),
            answer: Reassembly::new(MAX_ANSWER + MAX_TEXT),
            responses: 0,
        }
    }

    /// The request to send now, if it is this side's turn. It takes the CmdSN that is given.
    pub fn poll_transmit(&mut self, cmd_sn: CmdSn, exp_stat_sn: StatSn) -> Option<Pdu> {
        let data = self.request.take()?;
        let header = TextRequest {
            opcode: TextRequest::OPCODE.number(),
            flags: TextFlags::FINAL,
            data_len: U24::new(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            itt: self.itt.into(),
            ttt: self.ttt.into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: exp_stat_sn.into(),
            ..TextRequest::new_zeroed()
        };
        Some(Pdu { bhs: header.into(), data })
    }

    /// Takes a PDU. The answer, once it is whole.
    ///
    /// # Errors
    /// There will be none.
    pub fn on_pdu(&mut self, bhs: &Bhs, data: &[u8]) -> Result<Option<Vec<Discovered>>, QueryError> {
        if bhs.opcode() != Some(Opcode::TextResponse) || bhs.itt() != self.itt || self.request.is_some() {
            return Err(QueryError::Protocol("another PDU"));
        }
        self.responses += 1;
        if self.responses > Self::MAX_RESPONSES {
            return Err(QueryError::Protocol("it does not end"));
        }
        let response = bhs.as_text_response();
        let is_final = response.flags.contains(TextFlags::FINAL);
        let continues = response.flags.contains(TextFlags::CONTINUE);
        self.ttt = response.ttt.into();
        if is_final && continues || is_final != self.ttt.is_reserved() {
            return Err(QueryError::Protocol("flags and tag do not fit"));
        }
        // Until F is set the answer goes on, with the C bit or without.
        match self.answer.push(data, !is_final)? {
            Some(text) => read(&text).map(Some),
            None => {
                self.request = Some(Vec::new());
                Ok(None)
            }
        }
    }
}

fn read(text: &[u8]) -> Result<Vec<Discovered>, QueryError> {
    let mut found: Vec<Discovered> = Vec::new();
    for pair in pairs(text) {
        match (pair?, found.last_mut()) {
            (("TargetName", name), _) => {
                found.push(Discovered { name: IscsiName::new(name)?, addresses: Vec::new() });
            }
            (("TargetAddress", address), Some(target)) => target.addresses.push(address.parse()?),
            (("TargetAddress", _), None) => return Err(QueryError::Protocol("an address of no target")),
            (("SendTargets", REJECT), _) => return Err(QueryError::Rejected),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
