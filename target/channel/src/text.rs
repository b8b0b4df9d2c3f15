//! Text requests in the full feature phase: SendTargets and changes of declared limits.

use crate::access::Access;
use crate::answer::Answer;
use crate::connection::Close;
use crate::full::Full;
use crate::hub::Hub;
use crate::receive::Step;
use kagami_iscsi::discovery::{Directory, TargetAddress, TextContext};
use kagami_iscsi::login::SessionType;
use kagami_iscsi::name::IscsiName;
use kagami_iscsi::pdu::Bhs;
use kagami_iscsi::serial::CmdSn;
use std::net::SocketAddr;

/// The most text in one response: it is copied beside its header, and longer answers continue.
const MOST_TEXT: u32 = 8 << 10;

/// The array's one target, as the initiator of a connection may know it.
struct Targets<'a> {
    access: &'a dyn Access,
    local: Option<SocketAddr>,
    name: Option<&'a IscsiName>,
}

impl Directory for Targets<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&IscsiName, &[TargetAddress])) {
        let Some(name) = self.name else { return };
        let portals = self.access.portals(self.local);
        let addresses: Vec<_> =
            portals.into_iter().map(|(address, tag)| TargetAddress::new(address, tag)).collect();
        visit(name, &addresses);
    }
}

impl Full {
    /// A text request (RFC 7143 11.10).
    pub(crate) fn text_request<S: Send>(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        hub: &mut Hub<S>,
    ) -> Result<Step, Close> {
        let immediate = bhs.is_immediate();
        let sn = CmdSn::from(bhs.as_text_request().cmd_sn);
        if let Some(step) = self.take_turn(immediate, sn, hub) {
            return Ok(step);
        }
        if self.urgent.len() >= Self::MOST_URGENT {
            return Err(Close::Protocol("it asks faster than it takes answers"));
        }
        let name = IscsiName::new(self.access.target()).ok();
        let directory = Targets { access: &*self.access, local: self.ends.local, name: name.as_ref() };
        let discovery = self.session.is_discovery;
        let context = TextContext {
            session_type: if discovery { SessionType::Discovery } else { SessionType::Normal },
            target: name.as_ref().filter(|_| !discovery),
            max_send_data_segment_length: self.framing_out.max_data_len.min(MOST_TEXT),
            directory: &directory,
        };
        // The numbers are filled in when the response is encoded.
        let counters = self.counters();
        match self.text.on_request(bhs, data, &context, &counters) {
            Ok(reply) => {
                if let Some(len) = reply.max_send_data_segment_length {
                    self.framing_out.max_data_len = len;
                }
                let (bhs, data) = (Box::new(reply.pdu.bhs), reply.pdu.data.into());
                self.urgent.push_back(Answer::Text { bhs, data });
            }
            Err(reason) => self.reject(reason, bhs),
        }
        Ok(Step::Taken)
    }
}
