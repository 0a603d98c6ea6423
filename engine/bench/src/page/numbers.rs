//! Numbers as people read them, with spaces before units at which no line breaks. What is not a number is a
//! dash.

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// A count, with separators: `12,345`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Any number, to three digits or so.
pub(super) fn quantity(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => NONE.to_owned(),
        size if size >= 1e15 => format!("{value:.1e}"),
        size if size >= 100.0 => {
            let sign = if value < 0.0 { "−" } else { "" };
            format!("{sign}{}", count(size.round() as u64))
        }
        size if size >= 10.0 => format!("{value:.1}"),
        size if size < 1e-9 => "0".to_owned(),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}

/// A number for an axis: `1`, `2.5k`, `10M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 999_999_500.0 => (value / 1e9, "G"),
        size if size >= 999_999.5 => (value / 1e6, "M"),
        size if size >= 10_000.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if !scaled.is_finite() {
        return NONE.to_owned();
    }
    let digits = match scaled.abs() {
        size if size >= 1e6 => return format!("{value:.0e}"),
        size if size >= 1000.0 && unit.is_empty() => return count(size.round() as u64),
        size if size >= 10.0 || size == 0.0 => 1,
        size if size >= 0.1 => 2,
        size if size >= 0.001 => 4,
        _ => return format!("{value:.0e}"),
    };
    format!("{}{unit}", trimmed(format!("{scaled:.digits$}")))
}

/// Milliseconds, in the unit that suits.
pub(super) fn milliseconds(value: f64) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value >= 60_000.0 => seconds(value / 1000.0),
        _ if value >= 1000.0 => format!("{}\u{a0}s", quantity(value / 1000.0)),
        _ if value > 0.0 && value < 0.1 => format!("{}\u{a0}µs", quantity(value * 1000.0)),
        _ => format!("{}\u{a0}ms", quantity(value)),
    }
}

/// Seconds, in the unit that suits.
pub(super) fn seconds(value: f64) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        _ if value >= 1e9 => format!("{}\u{a0}s", quantity(value)),
        _ if value >= 3600.0 => {
            let minutes = (value / 60.0).round() as u64;
            format!("{}\u{a0}h {}\u{a0}min", count(minutes / 60), minutes % 60)
        }
        _ if value >= 60.0 => {
            let seconds = value.round() as u64;
            format!("{}\u{a0}min {}\u{a0}s", seconds / 60, seconds % 60)
        }
        _ if value >= 10.0 => format!("{}\u{a0}s", trimmed(format!("{value:.1}"))),
        _ if value < 0.01 => format!("{}\u{a0}s", quantity(value)),
        _ => format!("{}\u{a0}s", trimmed(format!("{value:.2}"))),
    }
}

/// Microseconds.
pub(super) fn microseconds(value: f64) -> String {
    if value.is_finite() { format!("{}\u{a0}µs", quantity(value)) } else { NONE.to_owned() }
}

/// Bytes, in the unit that suits.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let mut scaled = value;
    let mut unit = 0;
    while scaled.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{}\u{a0}{}", quantity(scaled), UNITS[unit])
}

/// A share as a percentage, which is 100 % only where nothing is missing.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        NONE.to_owned()
    } else if percent.abs() >= 1000.0 {
        format!("{}\u{a0}%", quantity(percent))
    } else if percent < 100.0 && percent > 99.9 {
        format!("{:.2}\u{a0}%", percent.min(99.99))
    } else {
        format!("{}\u{a0}%", trimmed(format!("{percent:.1}")))
    }
}

/// How many times as much: `2.4×`.
pub(super) fn times(value: f64) -> String {
    if value.is_finite() { format!("{}×", quantity(value)) } else { NONE.to_owned() }
}

/// A moment, in UTC: `2026-11-26 19:42 UTC`.
pub(super) fn moment(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (year, month, day) = date(minutes / (24 * 60));
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60 % 24, minutes % 60)
}

/// The date of a day since 1970, by the rules of the Gregorian calendar.
const fn date(days: u64) -> (u64, u64, u64) {
    // In years that begin in March, so that the day that is inserted is the last; eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    (year + era * 400, month, day)
}

/// Without zeros at the end of decimals.
fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spaced(text: &str) -> String {
        let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
        let unit = unit.replace(" s", "\u{a0}s");
        if unit.is_empty() { number.to_owned() } else { format!("{number}\u{a0}{unit}") }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.25, 6.254, 42.0, 1234.6, f64::NAN, 4e-5].map(quantity),
            ["0", "0.25", "6.25", "42.0", "1,235", "–", "4.0e-5"]
        );
        assert_eq!(
            [0.0, 0.5, 1.0, 2500.0, 20_000.0, 1.5e6, 3e9].map(short),
            ["0", "0.5", "1", "2,500", "20k", "1.5M", "3G"]
        );
        assert_eq!(
            [0.02, 4.5, 1500.0, 61_000.0].map(milliseconds),
            ["20.0 µs", "4.50 ms", "1.50 s", "1 min 1 s"].map(spaced)
        );
        assert_eq!(
            [12.0, 2048.0, 3.5e9].map(bytes),
            ["12.0 B", "2.00 KiB", "3.26 GiB"].map(spaced)
        );
    }

    #[test]
    fn a_percentage_is_whole_only_where_nothing_is_missing() {
        assert_eq!(
            [1.0, 0.999_999, 0.9995, 0.95, 0.0, f64::INFINITY].map(percent),
            ["100 %", "99.99 %", "99.95 %", "95 %", "0 %", "–"].map(spaced)
        );
    }

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_722_145_000), "2026-11-26 19:42 UTC");
        assert!(moment(u64::MAX).ends_with("UTC"));
    }
}
