//! The target's side of text exchanges in the full feature phase.

use super::address::TargetAddress;
use super::{MAX_ANSWER, MAX_TEXT};
use crate::build::Counters;
use crate::login::{Outbox, Pdu, SessionType};
use crate::name::IscsiName;
use crate::negotiate::Key;
use crate::pdu::{Bhs, Itt, RejectReason, TextFlags, TextRequest, TextResponse, Ttt, U24};
use crate::text::{IRRELEVANT, NOT_UNDERSTOOD, REJECT, Reassembly, Text, number, pairs};
use std::fmt;
use zerocopy::FromZeros;

/// Says which targets the initiator of a session may see, and where.
pub trait Directory {
    /// Calls `visit` with each target and its addresses.
    fn for_each(&self, visit: &mut dyn FnMut(&IscsiName, &[TargetAddress]));
}

/// The session that a text request came in.
#[derive(Clone, Copy)]
pub struct TextContext<'a> {
    /// What the session is for.
    pub session_type: SessionType,
    /// The target of a normal session.
    pub target: Option<&'a IscsiName>,
    /// The initiator's MaxRecvDataSegmentLength in bytes.
    pub max_send_data_segment_length: u32,
    /// What the initiator may see.
    pub directory: &'a dyn Directory,
}

impl fmt::Debug for TextContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextContext")
            .field("session_type", &self.session_type)
            .field("target", &self.target)
            .field("max_send_data_segment_length", &self.max_send_data_segment_length)
            .finish_non_exhaustive()
    }
}

/// The answer to a text request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextReply {
    /// The response. Its StatSN is the one given, and advances.
    pub pdu: Pdu,
    /// The initiator has declared another MaxRecvDataSegmentLength: it holds after this response.
    pub max_send_data_segment_length: Option<u32>,
}

/// The text exchange of a connection: at most one is open.
#[derive(Debug)]
pub struct TextExchange {
    incoming: Reassembly,
    outgoing: Outbox,
    /// The task and the tag of the open exchange.
    open: Option<(Itt, Ttt)>,
    next_tag: u32,
    declared: Option<u32>,
}

impl Default for TextExchange {
    fn default() -> Self {
        Self::new()
    }
}

impl TextExchange {
    /// Without an open exchange.
    #[must_use]
    pub fn new() -> Self {
        Self {
            incoming: Reassembly::new(MAX_TEXT),
            outgoing: Outbox::default(),
            open: None,
            next_tag: 0,
            declared: None,
        }
    }

    /// Takes a text request, which is known to be one: its header and its data segment.
    ///
    /// # Errors
    /// The reason with which the request is to be rejected; the exchange is over.
    pub fn on_request(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        context: &TextContext<'_>,
        counters: &Counters,
    ) -> Result<TextReply, RejectReason> {
        let result = self.advance(bhs.as_text_request(), data, context, counters);
        if result.is_err() {
            self.clear();
        }
        result
    }

    /// Ends the open exchange, if any: its task was aborted.
    pub fn clear(&mut self) {
        *self = Self { next_tag: self.next_tag, ..Self::new() };
    }

    fn advance(
        &mut self,
        request: &TextRequest,
        data: &[u8],
        context: &TextContext<'_>,
        counters: &Counters,
    ) -> Result<TextReply, RejectReason> {
        let (itt, ttt) = (Itt::from(request.itt), Ttt::from(request.ttt));
        let continues = request.flags.contains(TextFlags::CONTINUE);
        let is_final = request.flags.contains(TextFlags::FINAL);
        // RFC 7143 11.10.2: text that goes on is not the last.
        if continues && is_final {
            return Err(RejectReason::ProtocolError);
        }
        if ttt.is_reserved() {
            // RFC 7143 11.10.4: it begins anew, whatever was open.
            self.clear();
        } else if self.open != Some((itt, ttt)) {
            return Err(RejectReason::InvalidPduField);
        }
        if self.outgoing.is_open() {
            if !data.is_empty() || continues {
                return Err(RejectReason::ProtocolError);
            }
        } else {
            let text = self.incoming.push(data, continues).map_err(|_| RejectReason::ProtocolError)?;
            if let Some(text) = text {
                self.take_text(&text, context)?;
            }
        }
        let limit = usize::try_from(context.max_send_data_segment_length).unwrap_or(MAX_TEXT).min(MAX_TEXT);
        let (part, more) = self.outgoing.take(limit);
        let over = is_final && !more;
        let flags = match (over, more) {
            (true, _) => TextFlags::FINAL,
            (false, true) => TextFlags::CONTINUE,
            (false, false) => TextFlags::empty(),
        };
        let tag = if over { Ttt::RESERVED } else { self.new_tag() };
        self.open = (!over).then_some((itt, tag));
        let header = TextResponse {
            opcode: TextResponse::OPCODE.number(),
            flags,
            data_len: U24::new(u32::try_from(part.len()).unwrap_or(u32::MAX)),
            itt: itt.into(),
            ttt: tag.into(),
            stat_sn: counters.stat_sn.into(),
            exp_cmd_sn: counters.exp_cmd_sn.into(),
            max_cmd_sn: counters.max_cmd_sn.into(),
            ..TextResponse::new_zeroed()
        };
        let declared = if over { self.declared.take() } else { None };
        Ok(TextReply { pdu: Pdu { bhs: header.into(), data: part }, max_send_data_segment_length: declared })
    }

    fn new_tag(&mut self) -> Ttt {
        let tag = Ttt(self.next_tag);
        self.next_tag = self.next_tag.wrapping_add(1);
        if Ttt(self.next_tag).is_reserved() {
            self.next_tag = 0;
        }
        tag
    }

    fn take_text(&mut self, text: &[u8], context: &TextContext<'_>) -> Result<(), RejectReason> {
        let mut out = Text::new();
        let mut asked = false;
        for pair in pairs(text) {
            let (key, value) = pair.map_err(|_| RejectReason::ProtocolError)?;
            match key {
                "SendTargets" if asked => return Err(RejectReason::ProtocolError),
                "SendTargets" => {
                    asked = true;
                    send_targets(value, context, &mut out);
                }
                "MaxRecvDataSegmentLength" => {
                    let rule = Key::MaxRecvDataSegmentLength.rule();
                    let length = number(value).filter(|n| (rule.least..=rule.greatest).contains(n));
                    let length = length.ok_or(RejectReason::ProtocolError)?;
                    if self.declared.replace(length).is_some() {
                        return Err(RejectReason::ProtocolError);
                    }
                }
                "InitiatorAlias" => {}
                _ if [NOT_UNDERSTOOD, IRRELEVANT, REJECT].contains(&value) => {}
                // Known, but only for the login (RFC 7143 13, use LO and IO).
                _ if Key::from_name(key).is_some() || is_login_key(key) => out.push(key, REJECT),
                _ => out.push(key, NOT_UNDERSTOOD),
            }
        }
        self.outgoing.put(out.into_bytes());
        Ok(())
    }
}

fn is_login_key(key: &str) -> bool {
    matches!(
        key,
        "InitiatorName"
            | "TargetName"
            | "TargetAlias"
            | "TargetAddress"
            | "TargetPortalGroupTag"
            | "SessionType"
            | "AuthMethod"
    ) || key.starts_with("CHAP_")
}

/// Answers SendTargets (RFC 7143 appendix C). `All` is for discovery sessions; without a value it means
/// the session's own target; any other value names a target. What there is not, or may not be
/// seen, has an empty answer.
fn send_targets(value: &str, context: &TextContext<'_>, out: &mut Text) {
    let discovery = context.session_type == SessionType::Discovery;
    let wanted = match (value, discovery) {
        ("All", true) => None,
        ("All", false) | ("", true) => {
            out.push("SendTargets", REJECT);
            return;
        }
        ("", false) => context.target.cloned(),
        (name, _) => IscsiName::new(name).ok(),
    };
    if wanted.is_none() && value != "All" {
        return;
    }
    // RFC 7143 appendix C: in a normal session only the session's own target is told.
    if !discovery && wanted.as_ref() != context.target {
        return;
    }
    let mut room = MAX_ANSWER;
    context.directory.for_each(&mut |name, addresses| {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            return;
        }
        let mut record = Text::new();
        record.push("TargetName", name.as_str());
        for address in addresses {
            record.push("TargetAddress", &address.to_string());
        }
        match room.checked_sub(record.as_bytes().len()) {
            Some(left) => {
                room = left;
                out.append(record);
            }
            // A target is told with all its addresses or not at all.
            None => room = 0,
        }
    });
}
