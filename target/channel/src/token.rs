//! How completions find their way: who an operation belongs to, in its token.
//!
//! Byte 7 is the kind; then 24 bits of a connection's generation or a unit's index; the low 32
//! bits are a connection's index, or a volume's own.

use crate::nexus::ConnectionId;
use kagami_reactor::Token;

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const VOLUME: u64 = 4;
const FAR_RECEIVE: u64 = 8;
const FAR_SEND: u64 = 9;
const VOLUME_KIND: u32 = 4;
const SHARD: u64 = 5;
const SHARD_KIND: u32 = 5;

/// Generations wrap at that many bits; a connection is gone long before.
pub(crate) const GENERATION: u32 = (1 << 24) - 1;

/// Whose completion it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Listener(u32),
    Receive {
        index: u32,
        generation: u32,
    },
    Send {
        index: u32,
        generation: u32,
    },
    Volume(u32),
    /// Of a virtual volume's link, by its place and which of its sockets.
    Far {
        place: u32,
        generation: u32,
    },
    Shard(u32),
    Nobody,
}

pub(crate) fn accept(listener: u32) -> Token {
    Token(ACCEPT << 56 | u64::from(listener))
}

pub(crate) fn receive(id: ConnectionId) -> Token {
    of_connection(RECEIVE, id)
}

pub(crate) fn send(id: ConnectionId) -> Token {
    of_connection(SEND, id)
}

pub(crate) fn far_receive(place: u32, generation: u32) -> Token {
    Token(FAR_RECEIVE << 56 | u64::from(generation & GENERATION) << 32 | u64::from(place))
}

pub(crate) fn far_send(place: u32, generation: u32) -> Token {
    Token(FAR_SEND << 56 | u64::from(generation & GENERATION) << 32 | u64::from(place))
}

fn of_connection(kind: u64, id: ConnectionId) -> Token {
    Token(kind << 56 | u64::from(id.generation & GENERATION) << 32 | u64::from(id.index))
}

/// The token base of the volume of the unit in that place; see `kagami_volume::VolumePlan`.
#[must_use]
pub fn volume_base(unit: u32) -> u32 {
    VOLUME_KIND << 24 | (unit & GENERATION)
}

/// The same of the shard in that place among the core's shards.
#[must_use]
pub fn shard_base(shard: u32) -> u32 {
    SHARD_KIND << 24 | (shard & GENERATION)
}

pub(crate) fn owner(Token(token): Token) -> Owner {
    let [_, a, b, c, d, e, f, g] = token.to_be_bytes();
    let low = u32::from_be_bytes([d, e, f, g]);
    let middle = u32::from_be_bytes([0, a, b, c]);
    match token >> 56 {
        ACCEPT => Owner::Listener(low),
        RECEIVE => Owner::Receive { index: low, generation: middle },
        SEND => Owner::Send { index: low, generation: middle },
        VOLUME => Owner::Volume(middle),
        FAR_RECEIVE | FAR_SEND => Owner::Far { place: low, generation: middle },
        SHARD => Owner::Shard(middle),
        _ => Owner::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_types::CoreId;

    #[test]
    fn every_kind_comes_back() {
        let id = ConnectionId { core: CoreId(3), index: 77, generation: 9 };
        assert_eq!(owner(receive(id)), Owner::Receive { index: 77, generation: 9 });
        assert_eq!(owner(send(id)), Owner::Send { index: 77, generation: 9 });
        assert_eq!(owner(accept(2)), Owner::Listener(2));
        assert_eq!(owner(far_receive(7, 3)), Owner::Far { place: 7, generation: 3 });
        assert_eq!(owner(far_send(7, 3)), Owner::Far { place: 7, generation: 3 });
        let volume = Token(u64::from(volume_base(5)) << 32 | 0xffff_ffff);
        assert_eq!(owner(volume), Owner::Volume(5));
        assert_eq!(owner(Token(u64::from(shard_base(6)) << 32 | 9)), Owner::Shard(6));
        assert_eq!(owner(Token(0)), Owner::Nobody);
    }
}
