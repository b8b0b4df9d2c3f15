//! The admin protocol: what `kagami` asks and `kagamid` answers over the admin socket.
//!
//! A frame each way: twelve bytes of header, then JSON. A connection may ask several times, one
//! after another. The layout is in `docs/formats.md`; golden tests hold both together.
//!
//! | module | what |
//! | --- | --- |
//! | [`frame`] | the header, the limits, reading and writing one frame |
//! | [`pair`] | what is asked and told of groups of pairs |
//! | [`request`] | everything that can be asked |
//! | [`report`] | everything that is told; also what `kagami --json` prints |
//!
//! Pure: no sockets, clocks or threads. The daemon is at one end, the `kagami` tool at the other;
//! neither knows the other's insides.
#![forbid(unsafe_code)]

pub mod frame;
pub mod pair;
pub mod report;
pub mod request;
#[cfg(test)]
mod tests;

pub use frame::{FrameError, MAX_ANSWER, MAX_REQUEST, read_frame, write_frame};
pub use report::{Answer, Outcome, Refusal, Reply};
pub use request::{Call, Request};

/// The version of requests, answers and of what `--json` prints: keys may be added under it,
/// never change their meaning.
pub const SCHEMA: u32 = 1;

/// Reads a request.
///
/// # Errors
/// It is no JSON, of another schema, or not one of the requests of this version.
pub fn parse_call(body: &[u8]) -> Result<Request, Refusal> {
    /// The schema alone, so that another one is named before anything else is wrong.
    #[derive(serde::Deserialize)]
    struct Schema {
        schema: u32,
    }
    let wrong = |error: serde_json::Error| Refusal::usage(format!("the request cannot be read: {error}"));
    let Schema { schema } = serde_json::from_slice(body).map_err(wrong)?;
    if schema != SCHEMA {
        return Err(Refusal::usage(format!(
            "the request is of schema {schema}, this array speaks {SCHEMA}; use the kagami of its version"
        )));
    }
    let call: Call = serde_json::from_slice(body).map_err(wrong)?;
    Ok(call.request)
}

/// Reads an answer.
///
/// # Errors
/// It is no JSON, of another schema, or nothing that this version knows.
pub fn parse_answer(body: &[u8]) -> Result<Outcome, Refusal> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| Refusal::failed(format!("the array's answer cannot be read: {error}")))?;
    if answer.schema != SCHEMA {
        let schema = answer.schema;
        return Err(Refusal::failed(format!("the answer is of schema {schema}, this tool reads {SCHEMA}")));
    }
    Ok(answer.outcome)
}
