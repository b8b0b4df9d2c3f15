//! Parameter data, byte by byte.

mod common;

use common::*;
use kagami_scsi::{Disposition, ReportLuns, Role, Rotation, absent, report_luns};
use kagami_types::{BlockCount, BlockSize, Lun};

fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(length, 0);
    bytes
}

#[test]
fn standard_inquiry() {
    let mut rig = Rig::new();
    let mut golden = b"\x00\x00\x06\x12\x5b\x10\x00\x02KAGAMI  VOLUME          1   ".to_vec();
    golden.resize(58, 0);
    golden.extend_from_slice(&[0, 0xa0, 9, 0x60, 4, 0x60, 4, 0xc0, 5, 0xc0, 6, 0]);
    assert_eq!(rig.inquiry(None), padded(&golden, 96));
    for length in [0, 5, 36, 95, 96] {
        assert_eq!(rig.data(0, &[0x12, 0, 0, 0, length]), padded(&golden, 96)[..usize::from(length)]);
    }
    assert_eq!(sense(rig.run(0, &[0x12, 0, 1, 0, 96])), INVALID_FIELD);
    assert_eq!(sense(rig.run(0, &[0x12, 1, 0x81, 0, 96])), INVALID_FIELD);
    let mut device = Rig::with(|config| config.role = Role::Command);
    assert_eq!(&device.inquiry(None)[16..32], b"COMMAND DEVICE  ");
}

#[test]
fn vital_product_data() {
    let mut rig = Rig::with(|config| config.physical_exponent = 3);
    assert_eq!(rig.inquiry(Some(0x00)), [0, 0, 0, 7, 0, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    assert_eq!(rig.inquiry(Some(0x80)), b"\x00\x80\x00\x106f1d33ab52c04c5e");
    assert_eq!(rig.inquiry(Some(0x86)), padded(&[0, 0x86, 0, 0x3c, 0, 7, 1], 64));
    let mut limits = vec![0, 0xb0, 0, 0x3c, 0, 128, 0, 8, 0, 0, 0x80, 0, 0, 0, 8, 0];
    limits.extend_from_slice(&[0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
    limits.extend_from_slice(&[0, 0, 0, 0, 0, 0x80, 0, 0]);
    assert_eq!(rig.inquiry(Some(0xb0)), padded(&limits, 64));
    assert_eq!(rig.inquiry(Some(0xb1)), padded(&[0, 0xb1, 0, 0x3c, 0, 1], 64));
    assert_eq!(rig.inquiry(Some(0xb2)), [0, 0xb2, 0, 4, 0, 0xe4, 2, 0]);
}

#[test]
fn vital_product_data_of_a_thick_disk() {
    let mut rig = Rig::with(|config| {
        config.thin = false;
        config.rotation = Rotation::PerMinute(7200);
        config.write_cache.enabled = false;
        config.write_cache.changeable = false;
        config.limits.write_same_to_end = false;
    });
    assert_eq!(rig.inquiry(Some(0xb2)), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
    assert_eq!(rig.inquiry(Some(0xb1))[4..6], [0x1c, 0x20]);
    assert_eq!(rig.inquiry(Some(0x86))[6], 0);
    let limits = rig.inquiry(Some(0xb0));
    assert_eq!(limits[4], 1, "WSNZ");
    assert_eq!(limits[20..36], [0; 16], "nothing of UNMAP");
}

#[test]
fn device_identification() {
    let mut rig = Rig::new();
    let mut golden = vec![0, 0x83, 0, 0];
    golden.extend_from_slice(&[0x01, 0x03, 0, 16]);
    golden.extend_from_slice(&0x6024_b47b_52c0_4c5e_9d1e_8a77_1234_5678_u128.to_be_bytes());
    golden.extend_from_slice(&[0x02, 0x01, 0, 40]);
    golden.extend_from_slice(b"KAGAMI  6f1d33ab52c04c5e9d1e8a7712345678");
    golden.extend_from_slice(&[0x51, 0x94, 0, 4, 0, 0, 0, 1]);
    golden.extend_from_slice(&[0x51, 0x95, 0, 4, 0, 0, 0, 1]);
    golden.extend_from_slice(&[0x53, 0x98, 0, 36]);
    golden.extend_from_slice(b"iqn.2026-11.io.kagami:test,t,0x0001\0");
    golden.extend_from_slice(&[0x53, 0xa8, 0, 28]);
    golden.extend_from_slice(b"iqn.2026-11.io.kagami:test\0\0");
    golden[3] = u8::try_from(golden.len() - 4).unwrap();
    assert_eq!(rig.inquiry(Some(0x83)), golden);
}

#[test]
fn capacity() {
    let mut rig = Rig::of(BlockSize::B4096, |config| config.physical_exponent = 1);
    assert_eq!(rig.data(0, &[0x25]), [0, 0, 0x27, 0x0f, 0, 0, 0x10, 0]);
    let long = [0, 0, 0, 0, 0, 0, 0x27, 0x0f, 0, 0, 0x10, 0, 0, 1, 0xc0, 0];
    assert_eq!(rig.data(0, &sixteen(0x9e, 0x10, 0, 96)), padded(&long, 32));
    for length in 0..16 {
        assert_eq!(rig.data(0, &sixteen(0x9e, 0x10, 0, length)), long[..length as usize]);
    }
    let mut huge = Rig::with(|config| config.capacity = BlockCount(1 << 32));
    assert_eq!(huge.data(0, &[0x25])[..4], [0xff; 4]);
    assert_eq!(huge.data(0, &sixteen(0x9e, 0x10, 0, 8)), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let mut huger = Rig::with(|config| config.capacity = BlockCount((1 << 32) + 1));
    assert_eq!(huger.data(0, &[0x25])[..4], [0xff; 4]);
}

const ERROR_RECOVERY: [u8; 12] = [0x01, 0x0a, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RECONNECT: [u8; 16] = [0x02, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CACHING: [u8; 20] = [0x88, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x8a, 0x0a, 0x02, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn all_mode_pages() {
    let mut rig = Rig::new();
    let mut golden = vec![83, 0, 0x10, 8, 0, 0, 0x27, 0x10, 0, 0, 2, 0];
    for page in [&ERROR_RECOVERY[..], &RECONNECT, &CACHING, &CONTROL, &EXCEPTIONS] {
        golden.extend_from_slice(page);
    }
    assert_eq!(rig.data(0, &[0x1a, 0, 0x3f, 0, 0xff]), golden);
    assert_eq!(rig.data(0, &[0x1a, 0, 0x3f, 0xff, 0xff]), golden);
    assert_eq!(rig.data(0, &[0x1a, 0, 0x3f, 0, 4]), golden[..4]);
    let ten = rig.data(0, &[0x5a, 0x08, 0x3f, 0, 0, 0, 0, 1, 0]);
    assert_eq!(ten[..8], [0, 78, 0, 0x10, 0, 0, 0, 0]);
    assert_eq!(ten[8..], golden[12..]);
    let long = rig.data(0, &[0x5a, 0x10, 0x08, 0, 0, 0, 0, 1, 0]);
    let header = [0, 42, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(long[..24], header);
    assert_eq!(long[24..], CACHING);
}

#[test]
fn mode_page_controls() {
    let mut rig = Rig::new();
    let mut page =
        |control: u8, code: u8| rig.data(0, &[0x1a, 8, control << 6 | code, 0, 0xff])[4..].to_vec();
    for control in [0, 2, 3] {
        assert_eq!(page(control, 0x08), CACHING);
        assert_eq!(page(control, 0x0a), CONTROL);
        assert_eq!(page(control, 0x1c), EXCEPTIONS);
    }
    assert_eq!(page(1, 0x08), padded(&[0x88, 0x12, 0x04], 20));
    assert_eq!(page(1, 0x0a), padded(&[0x8a, 0x0a, 0x04, 0, 0x08, 0x40], 12));
    assert_eq!(page(1, 0x01), padded(&[0x01, 0x0a], 12));
    for refused in [[0x1a, 0, 0x00, 0, 255], [0x1a, 0, 0x09, 0, 255], [0x1a, 0, 0x0a, 1, 255]] {
        assert_eq!(sense(rig.run(0, &refused)), INVALID_FIELD);
    }
    let mut protected = Rig::with(|config| config.read_only = true);
    assert_eq!(protected.data(0, &[0x1a, 8, 0x0a, 0, 255])[..4], [15, 0, 0x90, 0]);
    let mut fixed = Rig::with(|config| config.write_cache.changeable = false);
    assert_eq!(fixed.data(0, &[0x1a, 8, 0x48, 0, 255])[4..], padded(&[0x88, 0x12], 20));
}

#[test]
fn target_port_groups() {
    let mut rig = Rig::new();
    let group = [0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    let mut golden = vec![0, 0, 0, 16];
    golden.extend_from_slice(&group);
    assert_eq!(rig.data(0, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0]), golden);
    assert_eq!(rig.data(0, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8]), golden[..8]);
    let mut golden = vec![0, 0, 0, 20, 0x10, 0, 0, 0];
    golden.extend_from_slice(&group);
    assert_eq!(rig.data(0, &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 1, 0]), golden);
    assert_eq!(sense(rig.run(0, &[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 1, 0])), INVALID_FIELD);
}

#[test]
fn task_management_functions() {
    let mut rig = Rig::new();
    assert_eq!(rig.data(0, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 255]), [0xda, 0, 0, 0]);
    let extended = padded(&[0xda, 0, 0, 12], 16);
    assert_eq!(rig.data(0, &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255]), extended);
    assert_eq!(sense(rig.run(0, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 3])), INVALID_FIELD);
}

#[test]
fn luns() {
    let mut rig = Rig::new();
    let request = |select, allocation| ReportLuns { well_known_only: select, allocation };
    for (select, well_known_only) in [(0, false), (1, true), (2, false)] {
        let answer = rig.run(0, &[0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(answer, Disposition::ReportLuns(request(well_known_only, 256)));
    }
    assert_eq!(sense(rig.run(0, &[0xa0, 0, 3, 0, 0, 0, 0, 0, 1, 0])), INVALID_FIELD);
    assert_eq!(sense(rig.run(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15])), INVALID_FIELD);
    let luns = [0, 300].map(|number| Lun::new(number).unwrap());
    let mut out = vec![1, 2, 3];
    report_luns(request(false, 1000), luns, &mut out);
    let golden = [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2c, 0, 0, 0, 0, 0, 0];
    assert_eq!(out, golden);
    report_luns(request(false, 16), luns, &mut out);
    assert_eq!(out, golden[..16]);
    report_luns(request(true, 16), luns, &mut out);
    assert_eq!(out, [0; 8]);
}

#[test]
fn where_nothing_is() {
    let mut out = Vec::new();
    assert_eq!(absent(&cdb(&[0x12, 0x20, 0, 0, 36]), &mut out), Disposition::DataIn);
    assert_eq!(out[..5], [0x7f, 0, 6, 0x12, 0x5b]);
    assert_eq!(out.len(), 36);
    assert_eq!(absent(&cdb(&[3, 0, 0, 0, 255]), &mut out), Disposition::DataIn);
    assert_eq!((out[2], out[12]), (5, 0x25));
    assert_eq!(absent(&cdb(&[3, 1, 0, 0, 255]), &mut out), Disposition::DataIn);
    assert_eq!(out, [0x72, 5, 0x25, 0, 0, 0, 0, 0]);
    let answer = absent(&cdb(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16]), &mut out);
    assert!(matches!(answer, Disposition::ReportLuns(_)));
    for refused in [&[0x00][..], &[0x28], &[0x25], &[0xff], &[0x5e, 0x1f]] {
        assert_eq!(sense(absent(&cdb(refused), &mut out)), (5, 0x25, 0));
    }
    assert_eq!(sense(absent(&cdb(&[0x12, 1, 0, 0, 36]), &mut out)), INVALID_FIELD);
}
