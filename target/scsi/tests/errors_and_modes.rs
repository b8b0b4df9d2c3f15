//! What initiators are told of errors below, MODE SELECT, and unit attentions.

mod common;

use common::*;
use kagami_scsi::{
    AttachError, Attention, ConfigError, Disposition, Failure, LogicalUnit, LuConfig, NexusId, Reset, Status,
    fuzz,
};
use kagami_types::{BlockCount, BlockError, BlockOp, BlockSize, Lba};

/// Key, ASC and ASCQ, and the INFORMATION field.
type Told = (Option<(u8, u8, u8)>, Option<u64>);

#[test]
fn every_block_error_has_its_sense() {
    let rig = Rig::new();
    let table: [(BlockError, Told); 13] = [
        (BlockError::OutOfRange, (Some((5, 0x21, 0)), None)),
        (BlockError::ReadMedium(Lba(77)), (Some((3, 0x11, 0)), Some(77))),
        (BlockError::WriteMedium(Lba(78)), (Some((3, 0x0c, 0)), Some(78))),
        (BlockError::Miscompare(485), (Some((0xe, 0x1d, 0)), Some(485))),
        (BlockError::Device, (Some((4, 0x44, 0)), None)),
        (BlockError::TimedOut, (Some((0xb, 0x08, 1)), None)),
        (BlockError::Gone, (Some((2, 0x04, 3)), None)),
        (BlockError::NoSpace, (Some((7, 0x27, 7)), None)),
        (BlockError::WriteProtected, (Some((7, 0x27, 0)), None)),
        (BlockError::BecomingReady, (Some((2, 0x04, 1)), None)),
        (BlockError::Busy, (None, None)),
        (BlockError::Unsupported, (Some((5, 0x20, 0)), None)),
        (BlockError::Aborted, (Some((0xb, 0, 0)), None)),
    ];
    for (error, told) in table {
        match rig.unit.failed(error) {
            Failure::Check(sense) => {
                assert_eq!((Some(parts(&sense)), sense.information()), told, "{error}");
            }
            Failure::Status(status) => assert_eq!((status, told), (Status::Busy, (None, None)), "{error}"),
        }
    }
}

/// Changes the control page's byte at `at` by `bits`, with header only.
fn select_control(rig: &mut Rig, nexus: u32, flags: u8, at: usize, bits: u8) -> Disposition {
    let mut list = rig.data(nexus, &[0x1a, 8, 0x0a, 0, 255]);
    list[0] = 0;
    list[4] &= 0x7f;
    list[4 + at] ^= bits;
    rig.send(nexus, &[0x15, flags, 0, 0, 16], &list)
}

#[test]
fn software_write_protection() {
    let mut rig = Rig::new();
    assert_eq!(select_control(&mut rig, 0, 0x10, 4, 0x08), Disposition::Good);
    assert_eq!(rig.data(0, &[0x1a, 8, 0x0a, 0, 255])[2], 0x90, "WP");
    assert_eq!(sense(rig.run(0, &ten(0x2a, 0, 0, 1))), PROTECTED);
    assert!(matches!(rig.run(0, &ten(0x28, 0, 0, 1)), Disposition::Block(_)));
    assert_eq!((rig.clear(0), rig.clear(1)), (vec![], vec![(0x2a, 1)]));
    assert_eq!(select_control(&mut rig, 0, 0x10, 4, 0x08), Disposition::Good);
    assert!(matches!(rig.run(0, &ten(0x2a, 0, 0, 1)), Disposition::Block(_)));
}

#[test]
fn descriptor_sense_and_task_aborted_status() {
    let mut rig = Rig::new();
    assert_eq!(select_control(&mut rig, 0, 0x10, 2, 0x04), Disposition::Good);
    let Disposition::Check(sense) = rig.run(0, &[0xff]) else { panic!() };
    assert_eq!(rig.unit.encode(&sense).as_ref(), [0x72, 5, 0x20, 0, 0, 0, 0, 0]);
    assert!(!rig.unit.task_aborted_status());
    assert_eq!(select_control(&mut rig, 0, 0x10, 5, 0x40), Disposition::Good);
    assert!(rig.unit.task_aborted_status());
    rig.unit.reset(Reset::LogicalUnit);
    assert!(!rig.unit.task_aborted_status(), "not saved");
    let Disposition::Check(sense) = rig.run(0, &[0xff]) else { panic!() };
    assert_eq!(rig.unit.encode(&sense).as_ref()[0], 0x70);
}

/// Header, caching page with WCE or without.
fn caching(enabled: bool) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[4..7].copy_from_slice(&[0x08, 0x12, u8::from(enabled) << 2]);
    list
}

#[test]
fn turning_the_write_cache_off_flushes_and_can_be_saved() {
    let mut rig = Rig::new();
    assert!(rig.unit.write_cache_enabled());
    let Disposition::Deferred(deferred) = rig.send(0, &[0x15, 0x11, 0, 0, 24], &caching(false)) else {
        panic!()
    };
    assert!(deferred.flush && deferred.abort.is_empty());
    let kept = deferred.persist.unwrap();
    assert!(!rig.unit.write_cache_enabled());
    rig.unit.reset(Reset::Power);
    assert!(!rig.unit.write_cache_enabled(), "saved");
    rig.clear(0);
    assert_eq!(rig.data(0, &[0x1a, 8, 0xc8, 0, 255])[6], 0, "saved values");
    assert_eq!(rig.data(0, &[0x1a, 8, 0x88, 0, 255])[6], 4, "default values");

    let mut again = LogicalUnit::new(fuzz::config(BlockSize::B512, BLOCKS)).unwrap();
    again.restore(&kept).unwrap();
    assert!(!again.write_cache_enabled());
    let mut fixed = fuzz::config(BlockSize::B512, BLOCKS);
    fixed.write_cache.changeable = false;
    let mut fixed = LogicalUnit::new(fixed).unwrap();
    fixed.restore(&kept).unwrap();
    assert!(fixed.write_cache_enabled(), "the configuration decides");
}

#[test]
fn mode_select_ten_with_block_descriptor() {
    let mut rig = Rig::new();
    let mut list = vec![0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0x27, 0x10, 0, 0, 2, 0];
    list.extend_from_slice(&caching(false)[4..]);
    let answer = rig.send(0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 36], &list);
    assert!(
        matches!(answer, Disposition::Deferred(deferred) if deferred.flush && deferred.persist.is_none())
    );
    let mut long = vec![0, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    long.extend_from_slice(&caching(true)[4..]);
    assert_eq!(rig.send(0, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 44], &long), Disposition::Good);
    assert!(rig.unit.write_cache_enabled());
}

#[test]
fn mode_select_refuses_what_cannot_be() {
    let mut rig = Rig::new();
    let mut select = |flags: u8, list: &[u8]| {
        let length = u8::try_from(list.len()).unwrap();
        rig.send(0, &[0x15, flags, 0, 0, length], list)
    };
    let changed = |at: usize, to: u8| {
        let mut list = caching(false);
        list[at] = to;
        list
    };
    assert_eq!(select(0x10, &[]), Disposition::Good);
    assert_eq!(select(0x10, &[0; 4]), Disposition::Good);
    assert_eq!(sense(select(0x00, &caching(true))), INVALID_FIELD, "PF");
    assert_eq!(sense(select(0x10, &caching(true)[..3])), LIST_LENGTH);
    assert_eq!(sense(select(0x10, &caching(true)[..23])), LIST_LENGTH);
    assert_eq!(sense(select(0x10, &caching(true)[..5])), LIST_LENGTH);
    for (at, to) in [(1, 1), (3, 7), (4, 0x07), (4, 0x48), (5, 0x11), (6, 0x01), (20, 0xff)] {
        assert_eq!(sense(select(0x10, &changed(at, to))), INVALID_LIST, "byte {at}");
    }
    let mut wrong_size = vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x10, 0];
    assert_eq!(sense(select(0x10, &wrong_size)), INVALID_LIST);
    wrong_size[10] = 2;
    assert_eq!(select(0x10, &wrong_size), Disposition::Good);
    wrong_size[7] = 1;
    assert_eq!(sense(select(0x10, &wrong_size)), INVALID_LIST);
    assert_eq!(sense(rig.send(0, &[0x15, 0x10, 0, 0, 24], &caching(true)[..20])), LIST_LENGTH);
    assert!(rig.unit.write_cache_enabled(), "nothing was changed");
    let mut fixed = Rig::with(|config| config.write_cache.changeable = false);
    assert_eq!(sense(fixed.send(0, &[0x15, 0x10, 0, 0, 24], &caching(false))), INVALID_LIST);
}

#[test]
fn one_bad_page_keeps_the_others_from_changing() {
    let mut rig = Rig::new();
    let mut list = caching(false);
    list.extend_from_slice(&[0x1c, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let answer = rig.send(0, &[0x15, 0x10, 0, 0, 36], &list);
    assert_eq!(sense(answer), INVALID_LIST);
    assert!(rig.unit.write_cache_enabled());
}

#[test]
fn what_the_device_has_lost_no_flush_makes_stable() {
    let mut rig = Rig::new();
    let flush = ten(0x35, 0, 0, 0);
    assert!(matches!(rig.run(0, &flush), Disposition::Block(BlockOp::Flush { .. })));
    rig.unit.lose_unflushed();
    rig.unit.establish_all(None, Attention::InternalReset);
    for host in [0, 1] {
        assert_eq!(sense(rig.run(host, &flush)), (6, 0x29, 4));
        assert_eq!(rig.run(host, &[0]), Disposition::Good, "all else is as ever");
        assert_eq!(sense(rig.run(host, &flush)), (3, 0x0c, 0));
        assert!(matches!(rig.run(host, &flush), Disposition::Block(BlockOp::Flush { .. })), "once");
    }
}

#[test]
fn every_command_that_flushes_tells_of_a_loss_and_then_does_nothing() {
    let off = |rig: &mut Rig| rig.send(0, &[0x15, 0x10, 0, 0, 24], &caching(false));
    let mut rig = Rig::new();
    rig.unit.lose_unflushed();
    assert_eq!(sense(off(&mut rig)), (3, 0x0c, 0));
    assert!(rig.unit.write_cache_enabled(), "nothing was changed");
    assert!(matches!(off(&mut rig), Disposition::Deferred(_)), "once");
    rig.unit.lose_unflushed();
    assert_eq!(rig.run(0, &[0x1b, 0, 0, 0, 5]), Disposition::Good, "to start flushes nothing");
    assert_eq!(sense(rig.run(0, &[0x1b, 0, 0, 0, 0])), (3, 0x0c, 0));
    assert_eq!(rig.run(0, &[0]), Disposition::Good, "not stopped");
    assert!(matches!(rig.run(0, &[0x1b, 0, 0, 0, 0]), Disposition::Block(BlockOp::Flush { .. })));
}

#[test]
fn a_session_that_is_made_again_hears_of_a_loss_that_came_before_or_meanwhile() {
    let flush = ten(0x35, 0, 0, 0);
    let hears = |rig: &mut Rig, host: u32| {
        rig.clear(host);
        matches!(rig.run(host, &flush), Disposition::Check(_))
    };
    // Lost while it was there, and while it was away.
    for early in [true, false] {
        let mut rig = Rig::new();
        rig.unit.attach(NexusId(4), id(4), 2).unwrap();
        assert!(!hears(&mut rig, 4));
        if early {
            rig.unit.lose_unflushed();
        }
        rig.unit.detach(NexusId(4));
        if !early {
            rig.unit.lose_unflushed();
        }
        rig.unit.attach(NexusId(5), id(4), 1).unwrap();
        assert!(!hears(&mut rig, 5), "another port's nexus is another nexus");
        rig.unit.attach(NexusId(6), id(4), 2).unwrap();
        assert!(hears(&mut rig, 6) && !hears(&mut rig, 6));
        rig.unit.attach(NexusId(7), id(7), 2).unwrap();
        assert!(!hears(&mut rig, 7), "nor is one that was never here told");
    }
}

#[test]
fn unit_attentions_come_first_once_and_in_order() {
    let mut rig = Rig::new();
    rig.unit.establish_all(Some(NexusId(1)), Attention::LunsChanged);
    rig.unit.establish(NexusId(0), Attention::CommandsCleared);
    rig.unit.establish(NexusId(99), Attention::CommandsCleared);
    assert_eq!(sense(rig.run(0, &ten(0x28, 0, u32::MAX, 1))), (6, 0x2f, 0));
    assert_eq!(sense(rig.run(0, &[0])), (6, 0x3f, 0x0e));
    assert_eq!(rig.run(0, &[0]), Disposition::Good);
    assert_eq!(rig.run(1, &[0]), Disposition::Good);
    assert!(matches!(rig.run(2, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Disposition::ReportLuns(_)));
    assert_eq!(rig.run(2, &[0]), Disposition::Good, "REPORT LUNS has told it");
    assert_eq!(rig.clear(3), [(0x3f, 0x0e)]);
}

#[test]
fn a_new_nexus_learns_of_power_on() {
    let mut rig = Rig::new();
    rig.unit.attach(NexusId(4), id(4), 2).unwrap();
    rig.unit.set_capacity(BlockCount(BLOCKS + 1));
    assert_eq!(rig.data(4, &[3, 1, 0, 0, 255])[..4], [0x72, 6, 0x29, 0], "descriptor format");
    assert_eq!(rig.clear(4), [(0x2a, 9)]);
    assert_eq!(rig.unit.attach(NexusId(4), id(4), 3), Err(AttachError::NoSuchPort));
    assert_eq!(rig.unit.attach(NexusId(16), id(4), 1), Err(AttachError::TooMany));
    assert!(rig.unit.is_attached(NexusId(4)));
}

#[test]
fn configurations_are_checked() {
    let refused = |change: &dyn Fn(&mut LuConfig)| {
        let mut config = fuzz::config(BlockSize::B4096, BLOCKS);
        change(&mut config);
        LogicalUnit::new(config).err()
    };
    assert_eq!(refused(&|_| {}), None);
    assert_eq!(refused(&|c| c.capacity = BlockCount(0)), Some(ConfigError::Capacity));
    assert_eq!(refused(&|c| c.capacity = BlockCount(u64::MAX)), Some(ConfigError::Capacity));
    assert_eq!(refused(&|c| c.physical_exponent = 16), Some(ConfigError::PhysicalBlock));
    assert_eq!(refused(&|c| c.target.ports.clear()), Some(ConfigError::Ports));
    assert_eq!(refused(&|c| c.target.ports[1].relative = 1), Some(ConfigError::Ports));
    assert_eq!(refused(&|c| c.target.ports[0].relative = 0), Some(ConfigError::Ports));
    assert_eq!(refused(&|c| c.target.port_group = 0), Some(ConfigError::Ports));
    assert!(matches!(refused(&|c| c.serial.clear()), Some(ConfigError::Text(_))));
    assert!(matches!(refused(&|c| c.revision = "12345".into()), Some(ConfigError::Text(_))));
    assert!(matches!(refused(&|c| c.serial = "a\nb".into()), Some(ConfigError::Text(_))));
    assert!(matches!(refused(&|c| c.limits.max_unmap = 0), Some(ConfigError::Limit(_))));
    assert!(matches!(refused(&|c| c.limits.max_unmap_descriptors = 4096), Some(ConfigError::Limit(_))));
    assert!(matches!(refused(&|c| c.limits.nexuses = 0), Some(ConfigError::Limit(_))));
}
