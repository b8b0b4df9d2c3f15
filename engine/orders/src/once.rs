//! Once or not at all: what becomes of an order whose giver is known.
//!
//! A record may be given again, in another slot, by another way, after either array was started again, and each time it is
//! decided here whether it is done, or was done before, or must not be. The decision needs what only the executing array
//! has: the generation of its tables, and what it remembers of the record's id. The array makes a change and its result
//! durable in one transaction; only so does this hold over a crash.

use crate::sign::{self, LONGEST_MILLIS};
use crate::{ANY_GENERATION, Code, Order, Request, Right};

/// What an array remembers of an order that changed something, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before<'a> {
    /// [`sign::fingerprint`] of its record.
    pub fingerprint: [u8; 16],
    /// The number of the code with which it ended.
    pub code: u16,
    /// What was done, or why it was not.
    pub message: &'a str,
}

/// What is to become of an order.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// It is to be done.
    Execute(&'static Order),
    /// It was done, or refused, before: with this code and message.
    Again(Code, &'a str),
}

/// Why an order is not done, and what its giver is told.
pub type Refusal = (Code, String);

/// Decides what becomes of an order.
///
/// `record` are its bytes, `right` what its giver may, `generation` that of the tables now, `millis` the time since 1970,
/// `before` what is remembered of its id.
///
/// # Errors
/// It is not to be done; why.
pub fn judge<'a>(
    request: &Request,
    record: &[u8],
    right: Right,
    generation: u64,
    millis: u64,
    before: Option<Before<'a>>,
) -> Result<Way<'a>, Refusal> {
    let no = |code, why: String| Err((code, why));
    let Some(order) = Order::by_number(request.order) else {
        return no(Code::UnknownOrder, format!("there is no order {}", request.order));
    };
    if right < order.right {
        let (name, has, needs) = (order.name, right.word(), order.right.word());
        return no(Code::Unauthorised, format!("{name} needs the right {needs}; this is {has}"));
    }
    if let Some(before) = before.filter(|_| order.is_change()) {
        if before.fingerprint != sign::fingerprint(record) {
            let why = "that request id was used for another record; take a new one";
            return no(Code::IdReused, why.to_owned());
        }
        // Whatever has changed since, and also after its signature has expired.
        return Ok(Way::Again(Code::from_number(before.code).unwrap_or(Code::Failed), before.message));
    }
    if request.is_signed() {
        if request.expires < millis {
            return no(Code::Expired, "the signature has expired; look at the clocks".to_owned());
        }
        if request.expires - millis > LONGEST_MILLIS {
            let why = "the signature would hold for more than an hour; look at the clocks";
            return no(Code::Expired, why.to_owned());
        }
    }
    order.check(&request.parameters)?;
    if order.is_change() && request.generation == ANY_GENERATION {
        let why = format!("name the generation that it acts on; now it is {generation}");
        return no(Code::GenerationNeeded, why);
    }
    if order.is_change() && request.generation != generation {
        let meant = request.generation;
        return no(
            Code::Stale,
            format!("it was meant for generation {meant}, now it is {generation}; look again"),
        );
    }
    Ok(Way::Execute(order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parameters, Tag};
    use kagami_types::Uuid;

    fn change(generation: u64) -> (Request, Vec<u8>) {
        let order = Order::by_name("volume-delete").unwrap();
        let mut request = Request::new(order.number, Uuid::from_u128(7), Uuid::from_u128(8));
        request.generation = generation;
        request.parameters = Parameters::new().text(Tag::Volume, "v");
        let record = request.encode().unwrap();
        (request, record)
    }

    fn code(outcome: Result<Way<'_>, Refusal>) -> Code {
        match outcome {
            Ok(Way::Execute(_)) => Code::Done,
            Ok(Way::Again(code, _)) => code,
            Err((code, _)) => code,
        }
    }

    #[test]
    fn changes_are_compared_and_remembered() {
        let (request, record) = change(5);
        let judge = |right, generation, before| code(judge(&request, &record, right, generation, 0, before));
        assert_eq!(judge(Right::Admin, 5, None), Code::Done);
        assert_eq!(judge(Right::Admin, 6, None), Code::Stale);
        assert_eq!(judge(Right::Read, 5, None), Code::Unauthorised);
        let before = Before { fingerprint: sign::fingerprint(&record), code: 13, message: "in use" };
        assert_eq!(judge(Right::Admin, 9, Some(before)), Code::Refused, "whatever has changed since");
        assert_eq!(judge(Right::Read, 9, Some(before)), Code::Unauthorised);
        let other = Before { fingerprint: [1; 16], ..before };
        assert_eq!(judge(Right::Admin, 5, Some(other)), Code::IdReused);
        let (request, record) = change(ANY_GENERATION);
        let outcome = super::judge(&request, &record, Right::Admin, 5, 0, None);
        assert_eq!(code(outcome), Code::GenerationNeeded);
    }

    #[test]
    fn what_only_looks_is_done_as_often_as_it_is_asked() {
        let order = Order::by_name("volumes").unwrap();
        let request = Request::new(order.number, Uuid::from_u128(7), Uuid::from_u128(8));
        let record = request.encode().unwrap();
        let before = Before { fingerprint: [1; 16], code: 0, message: "" };
        let way = judge(&request, &record, Right::Read, 5, 0, Some(before)).unwrap();
        assert!(matches!(way, Way::Execute(found) if found.number == order.number));
    }
}
