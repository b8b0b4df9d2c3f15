//! Whatever a peer says, an array only says no: see [`peer`].

mod peer;

/// The same numbers for the same seed.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24).to_le_bytes()[0]
    };
    (0..1200).map(|_| next()).collect()
}

#[test]
fn nothing_that_a_peer_says_does_harm() {
    for seed in 1..=400 {
        let data = bytes(seed);
        let run = std::panic::catch_unwind(|| peer::run(&data));
        assert!(run.is_ok(), "seed {seed}");
    }
}
