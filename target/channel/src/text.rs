use crate::connection::Close;
use crate::full::Full;
use crate::hub::Hub;
use crate::receive::Step;
use kagami_iscsi::pdu::Bhs;
#[derive(Debug, Default)]
pub(crate) struct TextExchange;
impl Full {
    pub(crate) fn text_request<S: Send>(&mut self, _: &Bhs, _: &[u8], _: &mut Hub<S>) -> Result<Step, Close> {
        Ok(Step::Taken)
    }
}
