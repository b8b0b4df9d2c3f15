//! A target made of a script: bytes that answer whatever comes.

use super::*;
use crate::scsi;
use kagami_iscsi::frame::Framing;
use kagami_iscsi::pdu::Tsih;
use proptest::prelude::*;
use std::net::TcpListener;
use std::thread::JoinHandle;

const LUN: [u8; 8] = [0, 3, 0, 0, 0, 0, 0, 0];
const SOON: Duration = Duration::from_secs(10);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (host, listener.accept().unwrap().0)
}

fn session(host: TcpStream, parameters: Parameters) -> Session {
    Session::new(Established {
        stream: host,
        parameters,
        tsih: Tsih(1),
        exp_stat_sn: 100,
        cmd_sn: 7,
        max_cmd_sn: 7,
    })
}

/// The target's end: reads PDUs of the host, writes its own.
struct Target {
    stream: TcpStream,
    framing: Framing,
    stat_sn: u32,
    window: u32,
}

impl Target {
    fn next(&mut self) -> (Bhs, Vec<u8>) {
        let mut head = vec![0; self.framing.header_wire_len(0)];
        self.stream.read_exact(&mut head).unwrap();
        let header = self.framing.read_header(&head).unwrap().unwrap();
        let (bhs, len) = (*header.bhs, header.data_len as usize);
        let mut data = vec![0; header.data_wire_len as usize];
        self.stream.read_exact(&mut data).unwrap();
        assert!(self.framing.data_digest_ok(&data));
        data.truncate(len);
        (bhs, data)
    }

    fn send(&mut self, mut bhs: Bhs, data: &[u8]) {
        let common = bhs.as_scsi_response_mut();
        common.exp_cmd_sn = self.window.into();
        common.max_cmd_sn = self.window.into();
        let mut out = Vec::new();
        self.framing.append(&mut out, &bhs, data);
        // In pieces, so that nothing comes whole by luck.
        for piece in out.chunks(31) {
            self.stream.write_all(piece).unwrap();
        }
    }

    fn end(&mut self, tag: u32, status: u8, sense: &[u8]) {
        let mut bhs = Bhs::default();
        let header = bhs.as_scsi_response_mut();
        header.opcode = Opcode::ScsiResponse.number();
        header.status = status;
        header.itt = tag.into();
        header.stat_sn = self.stat_sn.into();
        self.stat_sn += 1;
        self.window += 1;
        self.send(bhs, sense);
    }

    fn ping(&mut self) {
        let mut bhs = Bhs::default();
        let header = bhs.as_nop_in_mut();
        header.opcode = Opcode::NopIn.number();
        header.flags = 0x80;
        header.itt = RESERVED_TAG.into();
        header.ttt = 9.into();
        header.stat_sn = self.stat_sn.into();
        self.send(bhs, &[]);
        let (answer, _) = self.next();
        assert_eq!(answer.as_nop_out().ttt.get(), 9);
    }

    fn data_in(&mut self, tag: u32, number: u32, offset: u32, data: &[u8], ends: bool) {
        let mut bhs = Bhs::default();
        let header = bhs.as_data_in_mut();
        header.opcode = Opcode::DataIn.number();
        header.itt = tag.into();
        header.data_sn = number.into();
        header.offset = offset.into();
        if ends {
            header.flags = DataInFlags::FINAL | DataInFlags::STATUS;
            header.stat_sn = self.stat_sn.into();
            self.stat_sn += 1;
            self.window += 1;
        }
        self.send(bhs, data);
    }

    fn r2t(&mut self, tag: u32, number: u32, offset: u32, len: u32) {
        let mut bhs = Bhs::default();
        let header = bhs.as_r2t_mut();
        header.opcode = Opcode::R2t.number();
        header.itt = tag.into();
        header.ttt = (50 + number).into();
        header.r2t_sn = number.into();
        header.offset = offset.into();
        header.desired_len = len.into();
        self.send(bhs, &[]);
    }
}

fn with_target(
    parameters: Parameters,
    script: impl FnOnce(&mut Target) + Send + 'static,
) -> (Session, JoinHandle<()>) {
    let (host, stream) = pair();
    let framing = parameters.receive_framing();
    let thread = std::thread::spawn(move || {
        let mut target = Target { stream, framing, stat_sn: 100, window: 7 };
        script(&mut target);
    });
    (session(host, parameters), thread)
}

#[test]
fn reads_in_pieces_with_a_ping_between_and_all_digests() {
    for digests in [false, true] {
        let parameters = Parameters { header_digest: digests, data_digest: digests, ..Parameters::default() };
        let (mut session, target) = with_target(parameters, |target| {
            for _ in 0..3 {
                let (bhs, _) = target.next();
                let tag = bhs.itt().0;
                assert_eq!(bhs.as_scsi_command().cdb[0], 0x88);
                target.data_in(tag, 0, 0, &[1; 300], false);
                target.ping();
                target.data_in(tag, 1, 300, &[2; 212], true);
            }
        });
        for _ in 0..3 {
            let command = scsi::Command::read(LUN, 5, 1, 512);
            let (outcome, data) = session.command(&command, &[], SOON).unwrap();
            assert_eq!((outcome.status, data.len(), data[299], data[300]), (Status::Good, 512, 1, 2));
        }
        target.join().unwrap();
    }
}

#[test]
fn writes_as_the_target_asks() {
    let parameters = Parameters {
        first_burst_length: 1024,
        max_send_data_segment_length: 700,
        data_digest: true,
        ..Parameters::default()
    };
    let (mut session, target) = with_target(parameters, |target| {
        let (bhs, mut data) = target.next();
        assert!(bhs.is_final() && data.len() == 700);
        let tag = bhs.itt().0;
        for (number, (offset, len)) in [(700, 1000), (1700, 348)].into_iter().enumerate() {
            target.r2t(tag, u32::try_from(number).unwrap(), offset, len);
            let before = data.len();
            loop {
                let (bhs, piece) = target.next();
                let header = bhs.as_data_out();
                assert_eq!((header.offset.get() as usize, header.lun), (data.len(), LUN));
                data.extend(piece);
                if bhs.is_final() {
                    break;
                }
            }
            assert_eq!(data.len() - before, len as usize);
        }
        assert!(data.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
        target.end(tag, 0, &[]);
    });
    let data: Vec<u8> = (0..=250).cycle().take(2048).collect();
    let command = scsi::Command::write(LUN, 0, 4, 512, false);
    assert!(matches!(session.command(&command, &data[1..], SOON), Err(Error::Failed(_))));
    assert_eq!(session.command(&command, &data, SOON).unwrap().0.status, Status::Good);
    target.join().unwrap();
}

#[test]
fn sense_comes_back_and_the_window_is_waited_for() {
    let (mut session, target) = with_target(Parameters::default(), |target| {
        let (bhs, _) = target.next();
        // The response closes the window; a later ping opens it.
        target.window = 6;
        target.end(bhs.itt().0, 2, &[0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 1, 0, 0, 0, 0]);
        target.window = 9;
        target.ping();
        let (bhs, _) = target.next();
        assert_eq!(bhs.cmd_sn().0, 8);
        target.end(bhs.itt().0, 0x28, &[]);
    });
    let command = scsi::Command::test_unit_ready(LUN);
    let (outcome, _) = session.command(&command, &[], SOON).unwrap();
    assert_eq!(outcome.status, Status::Check(Sense { key: 6, asc: 0x29, ascq: 1 }));
    let (outcome, _) = session.command(&command, &[], SOON).unwrap();
    assert_eq!(outcome.status, Status::Busy);
    target.join().unwrap();
}

#[test]
fn broken_rules_end_the_session() {
    type Script = fn(&mut Target, u32);
    let scripts: [Script; 7] = [
        |target, tag| target.data_in(tag, 1, 0, &[0; 512], true),
        |target, tag| target.data_in(tag, 0, 4, &[0; 508], true),
        |target, tag| target.data_in(tag, 0, 0, &[0; 516], true),
        |target, tag| target.r2t(tag, 0, 0, 512),
        |target, tag| target.end(tag + 1, 0, &[]),
        |target, tag| {
            target.stat_sn += 1;
            target.end(tag, 0, &[]);
        },
        |target, _| target.send(Bhs::default(), &[]),
    ];
    for script in scripts {
        let (mut session, target) = with_target(Parameters::default(), move |target| {
            let (bhs, _) = target.next();
            script(target, bhs.itt().0);
        });
        let command = scsi::Command::read(LUN, 5, 1, 512);
        assert!(matches!(session.command(&command, &[], SOON), Err(Error::Lost(_))));
        assert!(matches!(session.command(&command, &[], SOON), Err(Error::Lost(_))));
        session.close();
        target.join().unwrap();
    }
}

#[test]
fn silence_is_a_time_out() {
    let (host, _silent) = pair();
    let mut session = session(host, Parameters::default());
    let command = scsi::Command::test_unit_ready(LUN);
    let result = session.command(&command, &[], Duration::from_millis(20));
    assert!(matches!(result, Err(Error::TimedOut(_))), "{result:?}");
}

#[test]
fn a_logout_is_said() {
    let (session, target) = with_target(Parameters::default(), |target| {
        let (bhs, _) = target.next();
        assert_eq!(bhs.opcode(), Some(Opcode::LogoutRequest));
        let mut answer = Bhs::default();
        answer.as_logout_response_mut().opcode = Opcode::LogoutResponse.number();
        target.send(answer, &[]);
    });
    session.close();
    target.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_bytes_end_in_an_answer(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400), opcode in 0x20_u8..0x40, digests: bool,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = opcode;
        }
        let (host, mut target) = pair();
        target.write_all(&bytes).unwrap();
        drop(target);
        let parameters = Parameters { header_digest: digests, data_digest: digests, ..Parameters::default() };
        let mut session = session(host, parameters);
        let _ = session.command(&scsi::Command::read(LUN, 0, 1, 512), &[], SOON);
        session.close();
    }
}
