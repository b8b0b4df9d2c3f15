//! Sizes and times as the configuration writes them.

use kagami_types::ByteLen;
use std::time::Duration;

/// Reads a size: a whole number and B, KiB, MiB, GiB or TiB; "0" needs no unit.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn parse_size(text: &str) -> Result<ByteLen, String> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "" if number == 0 => 1,
        "" => return Err(format!("\"{text}\" has no unit; sizes take B, KiB, MiB, GiB, TiB")),
        other => return Err(format!("\"{other}\" is no unit of size; sizes take B, KiB, MiB, GiB, TiB")),
    };
    // 2^63 is where file offsets end.
    match number.checked_mul(factor) {
        Some(bytes) if bytes < 1 << 63 => Ok(ByteLen(bytes)),
        _ => Err(format!("\"{text}\" is too large")),
    }
}

/// Reads a time: a whole number and ms, s, m or h; "0" needs no unit.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "" if number == 0 => 1,
        "" => return Err(format!("\"{text}\" has no unit; times take ms, s, m, h")),
        other => return Err(format!("\"{other}\" is no unit of time; times take ms, s, m, h")),
    };
    // A hundred years, so that adding one to a clock cannot overflow.
    match number.checked_mul(factor) {
        Some(millis) if millis <= 100 * 366 * 24 * 3_600_000 => Ok(Duration::from_millis(millis)),
        _ => Err(format!("\"{text}\" is too long")),
    }
}

fn split(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(format!("\"{text}\" does not start with a whole number"));
    }
    let number = digits.parse().map_err(|_| format!("\"{text}\" is too large"))?;
    Ok((number, unit.trim_start_matches(' ')))
}

/// Writes a size in the largest unit that says it exactly, so that it can be read back.
#[must_use]
pub fn format_size(len: ByteLen) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if len.0 >= 1 << shift && len.0.is_multiple_of(1 << shift) {
            return format!("{}{unit}", len.0 >> shift);
        }
    }
    format!("{}B", len.0)
}

/// Writes a time in the largest unit that says it exactly, so that it can be read back.
#[must_use]
pub fn format_time(time: Duration) -> String {
    let millis = time.as_millis();
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_as_documented() {
        assert_eq!(parse_size("10GiB"), Ok(ByteLen(10 << 30)));
        assert_eq!(parse_size("512 B"), Ok(ByteLen(512)));
        assert_eq!(parse_size("0"), Ok(ByteLen(0)));
        assert_eq!(parse_time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7200)));
        for wrong in
            ["", "GiB", "10", "10GB", "10gib", "-1B", "1.5GiB", "16777216TiB", "99999999999999999999B"]
        {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["10", "5us", "5 days", "1e3s", "99999999999h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn sizes_survive_writing(bytes in 0u64..1 << 63) {
            prop_assert_eq!(parse_size(&format_size(ByteLen(bytes))), Ok(ByteLen(bytes)));
        }

        #[test]
        fn times_survive_writing(millis in 0u64..1 << 40) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(parse_time(&format_time(time)), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = parse_size(&text);
            let _ = parse_time(&text);
        }
    }
}
