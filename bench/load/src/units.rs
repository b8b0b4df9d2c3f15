//! Sizes, times and lists as they are written on the command line.
//!
//! Pure text to numbers; called by the command line only.

use std::time::Duration;

/// Reads a size: a whole number followed by `B`, `KiB`, `MiB`, `GiB` or `TiB`; no unit means bytes.
///
/// # Errors
/// Another unit, not a number, or more than 2^64 bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a size such as 4KiB"))?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" | "K" | "k" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        _ => return Err(format!("'{unit}' is not a unit of size: B, KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// Reads a time: a whole number followed by `us`, `ms`, `s`, `m` or `h`.
///
/// # Errors
/// No unit, another unit, or not a number.
pub fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a time such as 5s"))?;
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(format!("'{text}' needs a unit of time: us, ms, s, m or h")),
    };
    number.checked_mul(micros).map(Duration::from_micros).ok_or_else(|| format!("'{text}' is too long"))
}

/// Reads a list of logical unit numbers: `0,3-5`.
///
/// # Errors
/// Not numbers, a range that runs backwards, or a number above 16383.
pub fn luns(text: &str) -> Result<Vec<u16>, String> {
    let number = |part: &str| {
        part.trim()
            .parse::<u16>()
            .ok()
            .filter(|n| *n <= kagami_types::Lun::MAX)
            .ok_or_else(|| format!("'{part}' is not a LUN between 0 and {}", kagami_types::Lun::MAX))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to)?);
                if from > to {
                    return Err(format!("'{part}' runs backwards"));
                }
                all.extend(from..=to);
            }
            None => all.push(number(part)?),
        }
    }
    Ok(all)
}

/// Writes a size with the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("4KiB"), Ok(4096));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("2 MiB"), Ok(2 << 20));
        assert!(size("4KB").is_err());
        assert!(size("x").is_err());
        assert!(size("99999999999TiB").is_err());
        assert_eq!(show_size(4096), "4 KiB");
        assert_eq!(show_size(4097), "4097 B");
        assert_eq!(show_size(0), "0 B");
    }

    #[test]
    fn times() {
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(time("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("5").is_err());
        assert!(time("s").is_err());
    }

    #[test]
    fn lun_lists() {
        assert_eq!(luns("0"), Ok(vec![0]));
        assert_eq!(luns("0,3-5"), Ok(vec![0, 3, 4, 5]));
        assert!(luns("5-3").is_err());
        assert!(luns("16384").is_err());
        assert!(luns("").is_err());
    }
}
