//! Nothing panics, and the rules of `fuzz::run` hold, whatever the bytes.

use kagami_scsi::fuzz;
use kagami_scsi::table::ROWS;
use proptest::prelude::*;

/// A command of the table with some of its bits changed, behind a control byte and before its
/// parameter list.
fn near_valid() -> impl Strategy<Value = Vec<u8>> {
    let parts = (any::<u8>(), 0..ROWS.len(), any::<[u8; 16]>(), any::<bool>());
    (parts, prop::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 0..100)).prop_map(
        |((control, row, noise, wild), list)| {
            let row = &ROWS[row];
            let mut cdb = noise;
            for (at, byte) in cdb.iter_mut().enumerate() {
                let mask = row.usage.get(at).copied().unwrap_or(0);
                // Long fields rarely hit anything: their high bytes are mostly zero.
                let small = at + 2 < row.usage.len() && at > 2 && !wild;
                *byte = if small { 0 } else { *byte & mask };
            }
            cdb[0] = row.opcode;
            if let Some(action) = row.service_action {
                cdb[1] = (cdb[1] & 0xe0) | action;
            }
            let mut length = u8::try_from(list.len()).unwrap();
            if row.opcode == 0x5f && !wild {
                (length, cdb[8]) = (24, 24);
            }
            let mut list = list;
            list.resize(usize::from(length), 0);
            let mut bytes = vec![control];
            bytes.extend_from_slice(&cdb);
            bytes.push(length);
            bytes.extend_from_slice(&list);
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_at_all(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::run(&data);
    }

    #[test]
    fn sequences_of_nearly_valid_commands(commands in prop::collection::vec(near_valid(), 1..40)) {
        fuzz::run(&commands.concat());
    }
}
