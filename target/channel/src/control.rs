//! The short PDUs of the full feature phase: pings and logout.

use crate::answer::Answer;
use crate::connection::Close;
use crate::full::Full;
use crate::hub::Hub;
use crate::receive::Step;
use kagami_iscsi::build::AsyncMessage;
use kagami_iscsi::pdu::{AsyncEvent, Bhs, Cid, Itt, LogoutReason, LogoutStatus, RejectReason, Ttt};
use kagami_iscsi::serial::CmdSn;

/// The most of a ping's data that comes back. Initiators send none or little; what is sent
/// back is held in memory until it went out.
const MOST_ECHO: usize = 8 << 10;

/// Our pings' tag. There is at most one on its way.
const PING: Ttt = Ttt(0x4b41_4741);

impl Full {
    /// A ping, or the answer to ours (RFC 7143 11.18).
    pub(crate) fn nop_out<S: Send>(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        hub: &mut Hub<S>,
    ) -> Result<Step, Close> {
        let nop = bhs.as_nop_out();
        let immediate = bhs.is_immediate();
        let (itt, ttt, sn) = (Itt::from(nop.itt), Ttt::from(nop.ttt), CmdSn::from(nop.cmd_sn));
        if !itt.is_reserved() && !ttt.is_reserved() {
            self.reject(RejectReason::InvalidPduField, bhs);
            return Ok(Step::Taken);
        }
        if let Some(step) = self.take_turn(immediate, sn, hub) {
            return Ok(step);
        }
        if ttt == PING {
            self.pinged = None;
        }
        if !itt.is_reserved() {
            let most = MOST_ECHO.min(self.framing_out.max_data_len as usize).min(data.len());
            let data = data.get(..most).unwrap_or_default().into();
            if self.urgent.len() < Self::MOST_URGENT {
                self.urgent.push_back(Answer::Pong { itt, data });
            } else {
                return Err(Close::Protocol("it asks faster than it takes answers"));
            }
        }
        Ok(Step::Taken)
    }

    /// Answers that wait to go out, beyond which a host that does not read is cut off.
    pub(crate) const MOST_URGENT: usize = 1024;

    /// Sends a ping, to hear whether the host is still there.
    pub(crate) fn ping(&mut self, now: kagami_types::Time) {
        self.pinged = Some(now);
        self.urgent.push_back(Answer::Ping { ttt: PING });
    }

    /// Tells the host that its session will end, and that it may come back after a while
    /// (RFC 7143 11.9.1, event 3).
    pub(crate) fn announce_end(&mut self) {
        let time2wait = self.parameters.default_time2wait;
        self.answers.push_back(Answer::Async(AsyncMessage {
            event: AsyncEvent::DropSession,
            vendor_code: 0,
            lun: [0; 8],
            parameters: [0, time2wait, 0],
            data_len: 0,
        }));
    }

    /// A logout request (RFC 7143 11.14). The connection ends when the answer is out.
    pub(crate) fn logout<S: Send>(&mut self, bhs: &Bhs, hub: &mut Hub<S>) -> Result<Step, Close> {
        let request = bhs.as_logout_request();
        let immediate = bhs.is_immediate();
        let (itt, sn) = (Itt::from(request.itt), CmdSn::from(request.cmd_sn));
        if let Some(step) = self.take_turn(immediate, sn, hub) {
            return Ok(step);
        }
        let status = match request.reason() {
            Ok(LogoutReason::CloseSession) => {
                self.leaving = Some(Leaving::Session);
                LogoutStatus::Closed
            }
            Ok(LogoutReason::CloseConnection) if Cid(request.cid.get()) == self.cid => {
                self.leaving = Some(Leaving::Connection);
                LogoutStatus::Closed
            }
            Ok(LogoutReason::CloseConnection) => LogoutStatus::CidNotFound,
            Ok(LogoutReason::RemoveForRecovery) => LogoutStatus::RecoveryNotSupported,
            Err(_) => {
                self.reject(RejectReason::InvalidPduField, bhs);
                return Ok(Step::Taken);
            }
        };
        // Behind everything that was answered before.
        self.answers.push_back(Answer::Logout { itt, status });
        Ok(Step::Taken)
    }
}

/// What a host has logged out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// This connection; others of the session go on.
    Connection,
    /// The session.
    Session,
}
