//! The script as a string: `faulty:size=64MiB,read_error=100-200,hang_write=5000-5010`.

use crate::script::{Action, Fault, Script, Target};
use kagami_reactor::Errno;
use std::time::Duration;

/// What is wrong with a specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It is for another back end.
    #[error("a specification begins with `faulty:`")]
    Scheme,
    /// A word that is not known.
    #[error("unknown word `{0}`")]
    Word(String),
    /// A value that cannot be understood.
    #[error("`{word}` cannot be `{value}`")]
    Value {
        /// Which word.
        word: String,
        /// What it was given.
        value: String,
    },
    /// No `size`.
    #[error("`size` is missing")]
    Size,
}

/// The largest memory that a specification can ask for.
const MAX_SIZE: u64 = 64 << 30;

/// Reads a specification; the words are described in the crate's documentation.
pub(crate) fn parse(spec: &str) -> Result<Script, SpecError> {
    let words = spec.strip_prefix("faulty:").ok_or(SpecError::Scheme)?;
    let mut script = Script::default();
    let mut hang_for = None;
    for item in words.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (word, value) = item.split_once('=').unwrap_or((item, ""));
        let wrong = || SpecError::Value { word: word.into(), value: value.into() };
        let mut fault = |target, action| -> Result<(), SpecError> {
            let (first, last) = range(value).ok_or_else(wrong)?;
            script.faults.push(Fault { target, first, last, action });
            Ok(())
        };
        match word {
            "size" => {
                script.size = size(value).filter(|size| (1..=MAX_SIZE).contains(size)).ok_or_else(wrong)?
            }
            "block" => script.block = small(value).filter(|&block| block > 0).ok_or_else(wrong)?,
            "align" => script.limits.align = small(value).ok_or_else(wrong)?,
            "memory_align" => script.limits.memory_align = small(value).ok_or_else(wrong)?,
            "max_transfer" => script.limits.max_transfer = small(value).ok_or_else(wrong)?,
            "depth" => script.limits.depth = value.parse().map_err(|_| wrong())?,
            "no_discard" if value.is_empty() => script.no_discard = true,
            "no_zero" if value.is_empty() => script.no_zero = true,
            "read_error" => fault(Target::Read, Action::Fail(Errno::IO))?,
            "write_error" => fault(Target::Write, Action::Fail(Errno::IO))?,
            "hang_read" => fault(Target::Read, Action::Hang)?,
            "hang_write" => fault(Target::Write, Action::Hang)?,
            "flush_error" if value.is_empty() => {
                script.faults.push(Fault::everywhere(Target::Flush, Action::Fail(Errno::IO)));
            }
            "hang_flush" if value.is_empty() => {
                script.faults.push(Fault::everywhere(Target::Flush, Action::Hang))
            }
            "nospace_above" => {
                let first = value.parse().map_err(|_| wrong())?;
                let action = Action::Fail(Errno::NO_SPACE);
                script.faults.push(Fault { target: Target::Write, first, last: u64::MAX, action });
            }
            "gone_after" => script.gone_after = Some(value.parse().map_err(|_| wrong())?),
            "short_every" => script.short_every = value.parse().map_err(|_| wrong())?,
            "delay" => script.delay = time(value).ok_or_else(wrong)?,
            "hang_for" => hang_for = Some(time(value).ok_or_else(wrong)?),
            _ => return Err(SpecError::Word(word.into())),
        }
    }
    if script.size == 0 {
        return Err(SpecError::Size);
    }
    script.hang_for = hang_for;
    Ok(script)
}

impl std::str::FromStr for Script {
    type Err = SpecError;

    /// Reads a specification, as [`Faulty::from_spec`](crate::Faulty::from_spec) does, without making the device.
    fn from_str(spec: &str) -> Result<Self, SpecError> {
        parse(spec)
    }
}

/// `A-B`, both included, or one block.
fn range(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// A number of bytes, with a unit or without.
fn size(value: &str) -> Option<u64> {
    let digits = value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at_checked(digits)?;
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn small(value: &str) -> Option<u32> {
    size(value).and_then(|size| u32::try_from(size).ok())
}

/// A time in `us`, `ms` or `s`.
fn time(value: &str) -> Option<Duration> {
    let digits = value.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = value.split_at_checked(digits)?;
    let number = number.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_says_what_it_means() {
        let script = parse(
            "faulty:size=64MiB,block=4096,align=4KiB,read_error=100-200,hang_write=5,nospace_above=900,\
             delay=5ms,hang_for=30s,gone_after=7,no_zero,hang_flush,depth=4",
        )
        .unwrap();
        assert_eq!((script.size, script.block, script.limits.align), (64 << 20, 4096, 4096));
        assert_eq!(
            (script.delay, script.hang_for),
            (Duration::from_millis(5), Some(Duration::from_secs(30)))
        );
        assert_eq!((script.gone_after, script.no_zero, script.no_discard), (Some(7), true, false));
        let fault = |target, first, last, action| Fault { target, first, last, action };
        assert_eq!(
            script.faults,
            [
                fault(Target::Read, 100, 200, Action::Fail(Errno::IO)),
                fault(Target::Write, 5, 5, Action::Hang),
                fault(Target::Write, 900, u64::MAX, Action::Fail(Errno::NO_SPACE)),
                fault(Target::Flush, 0, u64::MAX, Action::Hang),
            ]
        );
    }

    #[test]
    fn what_it_does_not_say_is_refused() {
        assert_eq!(parse("ram:size=1MiB").unwrap_err(), SpecError::Scheme);
        assert_eq!(parse("faulty:").unwrap_err(), SpecError::Size);
        assert_eq!(parse("faulty:size=1MiB,colour=red").unwrap_err(), SpecError::Word("colour".into()));
        for bad in [
            "size=1TB",
            "size=99999999999GiB",
            "size=0",
            "read_error=9-3",
            "read_error=x",
            "delay=5",
            "delay=ms",
            "depth=70000",
            "no_zero=1",
            "block=0",
            "hang_for=é",
            "gone_after=-1",
        ] {
            let spec = format!("faulty:{bad}");
            match parse(&spec).unwrap_err() {
                SpecError::Value { .. } | SpecError::Word(_) => {}
                other => panic!("{bad}: {other}"),
            }
        }
    }
}
