//! How an order can end.

use std::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal, $exit:literal, $word:literal, $doc:literal;)*) => {
        /// A result code. The numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $doc] $name = $code,)*
        }

        impl Code {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code of that number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its number.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $code),* }
            }

            /// One word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// The exit code of a program that ends for it.
            #[must_use]
            pub fn exit(self) -> u8 {
                match self { $(Self::$name => $exit),* }
            }

            /// Whether what was wanted is so now.
            #[must_use]
            pub fn is_success(self) -> bool {
                matches!(self, Self::Done | Self::Already | Self::Swapped | Self::TakenOver)
            }

            /// What it means, in one line.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc),* }
            }
        }
    };
}

codes! {
    Done = 0, 0, "done", "It is done.";
    Failed = 1, 1, "failed", "It was tried and failed; nothing has changed.";
    Malformed = 2, 1, "malformed", "The record is incomplete after 10 s, or whole and without meaning.";
    Unsupported = 3, 1, "unsupported", "The record's version or features are not known here.";
    UnknownOrder = 4, 2, "unknown-order", "There is no order of that number.";
    NotYet = 5, 3, "not-yet", "The number is kept for an order that this version does not have.";
    BadParameter = 6, 2, "bad-parameter", "A parameter is missing, unknown or wrong; nothing has changed.";
    Unauthorised = 7, 3, "unauthorised", "The initiator or operator may not give this order.";
    BadSignature = 8, 3, "bad-signature", "The operator is unknown, or the signature is not the operator's.";
    SignatureNeeded = 9, 3, "signature-needed", "The order came by another array, from which only signed ones are taken.";
    Expired = 10, 3, "expired", "The signature has expired, or would hold for longer than an hour.";
    Stale = 11, 3, "stale", "The array is not at the generation that the order names; nothing has changed.";
    GenerationNeeded = 12, 3, "generation-needed", "An order that changes something must name the generation that it acts on.";
    Refused = 13, 3, "refused", "Not in this state; nothing has changed.";
    UnknownArray = 14, 5, "unknown-array", "The target array is not this one, and none that this one knows a command device of.";
    Unreachable = 15, 5, "unreachable", "The target array cannot be reached at the moment.";
    TooManyHops = 16, 3, "too-many-hops", "The record has passed too many arrays.";
    Busy = 17, 4, "busy", "Too many orders wait; nothing has changed.";
    TimedOut = 18, 4, "timed-out", "It took too long; whether it was done is not known: the same record again tells.";
    TooLarge = 19, 1, "too-large", "What the order returns is larger than what can be returned.";
    NoSuchResult = 20, 1, "no-such-result", "The result that is to be continued is no longer kept: give the order again.";
    IdReused = 21, 3, "id-reused", "The request id was used before, for another record; nothing has changed.";
    Already = 22, 12, "already", "It was so already; nothing has changed.";
    Swapped = 23, 10, "swapped", "The sides of the group are exchanged.";
    TakenOver = 24, 11, "taken-over", "The secondary was made writable without the last writes of the primary.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
