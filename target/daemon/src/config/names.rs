//! Names: arrays, volumes, groups, operators, and iSCSI names.

/// The longest name of an array, volume, group or operator.
pub const MAX_NAME: usize = 63;
/// The longest iSCSI name in bytes (RFC 7143 4.2.7.1).
pub const MAX_ISCSI_NAME: usize = 223;

/// Checks a name of ours. Colons and slashes are left out, as `ARRAY:LUN` and paths use them.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} characters"));
    }
    if let Some(c) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        return Err(format!("{c:?} cannot be in a name; letters, digits, '.', '_' and '-' can"));
    }
    if name.starts_with(['.', '-']) {
        return Err("a name starts with a letter, a digit or '_'".to_owned());
    }
    Ok(())
}

/// Checks an iSCSI name: iqn., eui. or naa. (RFC 7143 4.2.7.3 to 4.2.7.6), in the lower case
/// that it has on the wire.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_iscsi_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_ISCSI_NAME {
        return Err(format!("an iSCSI name has at most {MAX_ISCSI_NAME} bytes"));
    }
    if name.contains(|c: char| c.is_ascii_uppercase()) {
        return Err("an iSCSI name is written in lower case".to_owned());
    }
    // The underscore is not in RFC 3722's set, but initiators with it exist.
    if let Some(c) = name
        .chars()
        .find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && !matches!(c, '.' | '-' | ':' | '_'))
    {
        return Err(format!("{c:?} cannot be in an iSCSI name"));
    }
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(rest) = name.strip_prefix("iqn.") {
        return if is_dated_domain(rest) {
            Ok(())
        } else {
            Err("an iqn. name goes on with a year, a month and a domain, as in iqn.2026-11.org.example:x"
                .to_owned())
        };
    }
    if let Some(rest) = name.strip_prefix("eui.") {
        return if rest.len() == 16 && hex(rest) {
            Ok(())
        } else {
            Err("an eui. name goes on with 16 hexadecimal digits".to_owned())
        };
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return if matches!(rest.len(), 16 | 32) && hex(rest) {
            Ok(())
        } else {
            Err("a naa. name goes on with 16 or 32 hexadecimal digits".to_owned())
        };
    }
    Err("an iSCSI name starts with iqn., eui. or naa.".to_owned())
}

/// "yyyy-mm." and a domain, and maybe a colon and more.
fn is_dated_domain(rest: &str) -> bool {
    let Some((date, rest)) = rest.split_once('.') else { return false };
    let Some((year, month)) = date.split_once('-') else { return false };
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let month_ok = digits(month, 2) && matches!(month.parse(), Ok(1..=12u8));
    let domain = rest.split(':').next().unwrap_or_default();
    digits(year, 4) && month_ok && !domain.is_empty() && domain.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names() {
        for good in [
            "iqn.2026-11.io.kagami:local",
            "iqn.1993-08.org.debian:01:host1",
            "iqn.1991-05.com.microsoft:win-1.example.org",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(check_iscsi_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "kagami",
            "iqn.",
            "iqn.2026-13.io:x",
            "iqn.26-11.io:x",
            "iqn.2026-11.:x",
            "iqn.2026-11.a..b",
            "IQN.2026-11.io:x",
            "iqn.2026-11.io:a b",
            "eui.12",
            "naa.1234567890abcdeg",
        ] {
            assert!(check_iscsi_name(bad).is_err(), "{bad}");
        }
        assert!(check_iscsi_name(&format!("iqn.2026-11.io:{}", "x".repeat(250))).is_err());
    }

    #[test]
    fn own_names() {
        assert!(check_name("db-1.a_b").is_ok());
        for bad in ["", "a:b", "a b", "..", "-x", "é", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
