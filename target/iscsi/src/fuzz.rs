//! Entry points for fuzzing: each takes any bytes and must end, without panic, within its bounds.
//!
//! Plain functions, so that the fuzzer, the property tests and a debugger run the same code. Called
//! by the fuzz targets and by the tests here; nothing else has a use for them.

use crate::build::Counters;
use crate::chap::{Account, Credentials};
use crate::discovery::{Directory, SendTargets, TargetAddress, TextContext, TextExchange, Wanted};
use crate::frame::{Framing, Header, MAX_HEADER_LEN};
use crate::login::{
    Applicant, Authentication, Denial, InitiatorConfig, InitiatorLogin, Placement, Policy, SessionType, Step,
    TargetLogin, TargetSettings,
};
use crate::name::IscsiName;
use crate::pdu::{Bhs, CommandFlags, Isid, Itt, Opcode, Tsih, additional};
use crate::random::{Random, RandomError};
use crate::serial::{CmdSn, DataSn, StatSn};
use crate::transfer::{Burst, DataOut, WriteRules};
use std::sync::Arc;

/// Unpredictable to nobody.
struct Fixed;

impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(0x5a);
        Ok(())
    }
}

/// Lets everybody in; who names a target with an `s` has to prove a secret.
struct Lenient;

impl Policy for Lenient {
    fn check(&self, applicant: &Applicant<'_>) -> Result<Authentication, Denial> {
        if !applicant.target.is_some_and(|target| target.as_str().contains('s')) {
            return Ok(Authentication::None);
        }
        let initiator = Credentials::new("user", b"initiator secret").map_err(|_| Denial::Unavailable)?;
        let target = Credentials::new("array", b"target secret").map_err(|_| Denial::Unavailable)?;
        let account = Account::new(initiator, Some(target)).map_err(|_| Denial::Unavailable)?;
        Ok(Authentication::Chap(Arc::new([account])))
    }
}

impl Directory for Lenient {
    fn for_each(&self, visit: &mut dyn FnMut(&IscsiName, &[TargetAddress])) {
        let (Ok(name), Ok(address)) = (IscsiName::new("iqn.a:t"), "127.0.0.1:3260,1".parse()) else { return };
        visit(&name, &[address]);
    }
}

/// The PDUs at the front of a stream, with as much of their data as is there.
fn split(framing: Framing, mut bytes: &[u8]) -> impl Iterator<Item = (Header<'_>, &[u8])> {
    std::iter::from_fn(move || {
        let header = framing.read_header(bytes).ok()??;
        let data = bytes.get(header.len..header.len + header.data_len as usize)?;
        bytes = bytes.get(header.wire_len()..)?;
        Some((header, data))
    })
}

/// A stream of PDUs in the full feature phase: the first byte chooses the digests, then each PDU is
/// looked at as what it says that it is, and writes are followed.
pub fn pdu_stream(input: &[u8]) {
    let Some((&options, stream)) = input.split_first() else { return };
    let framing =
        Framing { header_digest: options & 1 != 0, data_digest: options & 2 != 0, max_data_len: 65536 };
    let rules = WriteRules {
        initial_r2t: options & 4 != 0,
        immediate_data: options & 8 == 0,
        first_burst: 65536,
        max_burst: 131_072,
        max_outstanding_r2t: options >> 4,
    };
    let mut write: Option<DataOut> = None;
    let mut text = TextExchange::new();
    for (header, data) in split(framing, stream) {
        assert!(header.len <= MAX_HEADER_LEN && header.data_len <= framing.max_data_len);
        match header.bhs.opcode() {
            Some(Opcode::ScsiCommand) => {
                let command = header.bhs.as_scsi_command();
                let _ = additional(header.ahs);
                let expected = command.expected_len.get();
                let is_final = command.flags.contains(CommandFlags::FINAL);
                write = DataOut::new(&rules, expected, expected / 2, header.data_len, is_final).ok();
            }
            Some(Opcode::DataOut) => {
                let (Some(write), pdu) = (&mut write, header.bhs.as_data_out()) else { continue };
                while write.poll_r2t().is_some() {}
                let index = pdu.ttt.get().to_be_bytes();
                let burst = if pdu.ttt.get() == crate::pdu::RESERVED_TAG {
                    Burst::Unsolicited
                } else {
                    Burst::Solicited(index[3])
                };
                let sn = DataSn::from(pdu.data_sn);
                let taken = write.accept(burst, sn, pdu.offset.get(), header.data_len, header.bhs.is_final());
                if let Ok(place) = taken {
                    assert!(place.keep <= place.len && write.received() <= write.expected());
                }
            }
            Some(Opcode::TextRequest) => text_pdu(&mut text, header.bhs, data),
            Some(Opcode::TaskManagementRequest) => {
                let _ = header.bhs.as_task_management_request().function();
            }
            Some(Opcode::LogoutRequest) => {
                let _ = header.bhs.as_logout_request().reason();
            }
            _ => {}
        }
    }
}

fn text_pdu(exchange: &mut TextExchange, bhs: &Bhs, data: &[u8]) {
    let context = TextContext {
        session_type: if bhs.is_immediate() { SessionType::Normal } else { SessionType::Discovery },
        target: None,
        max_send_data_segment_length: 512,
        directory: &Lenient,
    };
    if let Ok(reply) = exchange.on_request(bhs, data, &context, &Counters::default()) {
        assert!(reply.pdu.data.len() <= 512);
    }
}

/// A whole login as the target sees it: a stream of PDUs, then text requests.
pub fn target_login(input: &[u8]) {
    let Ok(mut login) = TargetLogin::new(Arc::new(TargetSettings::default()), &mut Fixed) else { return };
    let mut text = None;
    for (header, data) in split(Framing::LOGIN, input) {
        if let Some(exchange) = &mut text {
            text_pdu(exchange, header.bhs, data);
            continue;
        }
        match login.on_pdu(header.bhs, data, &Lenient) {
            Ok(Step::Reply(_)) => {}
            Ok(Step::Admit(asked)) => {
                let placement =
                    Placement { tsih: Tsih(1), exp_cmd_sn: asked.cmd_sn, max_cmd_sn: asked.cmd_sn.plus(31) };
                let agreed = asked.parameters;
                assert!((512..1 << 24).contains(&agreed.max_send_data_segment_length));
                assert!(login.admit(placement).is_ok(), "it asked to be admitted");
                text = Some(TextExchange::new());
            }
            Err(_) => return,
        }
    }
}

/// The text of one login request, in each stage, without the need for a header.
pub fn login_text(input: &[u8]) {
    for flags in [0x00, 0x81, 0x83, 0x87, 0x04, 0x40] {
        let Ok(mut login) = TargetLogin::new(Arc::new(TargetSettings::default()), &mut Fixed) else { return };
        let mut bytes = [0; 48];
        bytes[0] = 0x43;
        bytes[1] = flags;
        let data = input.get(..8192).unwrap_or(input);
        let bhs = Bhs::from(bytes);
        if let Ok(Step::Reply(_)) = login.on_pdu(&bhs, data, &Lenient) {
            let _ = login.on_pdu(&bhs, data, &Lenient);
        }
    }
}

/// What a hostile target can send to an initiator that logs in and asks for targets.
pub fn initiator_login(input: &[u8]) {
    let (Ok(initiator), Some((&options, stream))) = (IscsiName::new("iqn.a:i"), input.split_first()) else {
        return;
    };
    let mut config = InitiatorConfig::new(initiator, None, Isid([0; 6]));
    if options & 1 != 0 {
        let credentials = Credentials::new("user", b"initiator secret").ok();
        config.account = credentials.and_then(|initiator| Account::new(initiator, None).ok());
    }
    let Ok(mut login) = InitiatorLogin::new(config, &mut Fixed) else { return };
    let mut query: Option<SendTargets> = None;
    for (header, data) in split(Framing::LOGIN, stream) {
        if let Some(query) = &mut query {
            let _ = query.poll_transmit(CmdSn(1), StatSn(1));
            if !matches!(query.on_pdu(header.bhs, data), Ok(None)) {
                return;
            }
            continue;
        }
        let _ = login.poll_transmit();
        match login.on_pdu(header.bhs, data) {
            Ok(None) => {}
            Ok(Some(_)) => query = Some(SendTargets::new(Itt(1), &Wanted::All)),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
