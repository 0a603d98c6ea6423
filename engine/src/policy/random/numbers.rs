//! Integers and numbers within bounds.

use serde_json::{Map, Value};

use super::{
    error::SchemaError,
    node::{Node, Span},
};

/// How far an integer reaches where the schema leaves an end open.
const OPEN_INTEGERS: i128 = 9;

pub(super) fn integer(schemas: &[&Map<String, Value>], path: &str) -> Result<Node, SchemaError> {
    let mut low: Option<i128> = None;
    let mut high: Option<i128> = None;
    let mut step: i128 = 1;
    for schema in schemas {
        if let Some(bound) = schema.get("minimum").and_then(ceil) {
            low = Some(low.map_or(bound, |low| low.max(bound)));
        }
        if let Some(bound) = schema.get("exclusiveMinimum").and_then(floor) {
            low = Some(low.map_or(bound + 1, |low| low.max(bound + 1)));
        }
        if let Some(bound) = schema.get("maximum").and_then(floor) {
            high = Some(high.map_or(bound, |high| high.min(bound)));
        }
        if let Some(bound) = schema.get("exclusiveMaximum").and_then(ceil) {
            high = Some(high.map_or(bound - 1, |high| high.min(bound - 1)));
        }
        if let Some(multiple) = schema.get("multipleOf") {
            let multiple = multiple.as_f64().unwrap_or(0.0);
            let whole = multiple.fract().abs() < f64::EPSILON && multiple >= 1.0;
            if !whole || multiple > 1e15 {
                return Err(SchemaError::Keyword {
                    path: path.into(),
                    keyword: "multipleOf".into(),
                });
            }
            step = least_common_multiple(step, multiple as i128);
        }
    }
    let bounded = low.is_some() && high.is_some();
    let reach = OPEN_INTEGERS * step;
    let (low, high) = match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + reach),
        (None, Some(high)) => (high - reach, high),
        (None, None) => (0, reach),
    };
    // Actions are drawn from 64 bits, whatever the schema allows beyond.
    let (low, high) = (low.max(i128::from(i64::MIN)), high.min(i128::from(i64::MAX)));
    let first = low.div_euclid(step) * step;
    let first = if first < low { first + step } else { first };
    if first > high {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    let count = ((high - first) / step + 1).min(i128::from(u64::MAX));
    Ok(Node::Integer { low: first as i64, step: step as u64, count: count as u64, bounded })
}

pub(super) fn number(schemas: &[&Map<String, Value>], path: &str) -> Result<Node, SchemaError> {
    let mut low: Option<(f64, bool)> = None;
    let mut high: Option<(f64, bool)> = None;
    let mut multiple: Option<f64> = None;
    for schema in schemas {
        for (keyword, open) in [("minimum", false), ("exclusiveMinimum", true)] {
            if let Some(bound) = schema.get(keyword).and_then(Value::as_f64)
                && low.is_none_or(|(value, _)| bound > value || (bound >= value && open))
            {
                low = Some((bound, open));
            }
        }
        for (keyword, open) in [("maximum", false), ("exclusiveMaximum", true)] {
            if let Some(bound) = schema.get(keyword).and_then(Value::as_f64)
                && high.is_none_or(|(value, _)| bound < value || (bound <= value && open))
            {
                high = Some((bound, open));
            }
        }
        if let Some(of) = schema.get("multipleOf").and_then(Value::as_f64) {
            if multiple.is_some() || of <= 0.0 {
                return Err(SchemaError::Keyword {
                    path: path.into(),
                    keyword: "multipleOf".into(),
                });
            }
            multiple = Some(of);
        }
    }
    let bounded = low.is_some() && high.is_some();
    let reach = |end: f64| (end.abs() / 2.0).max(1.0);
    let ((low, open_low), (high, open_high)) = match (low, high) {
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, ((low.0 + reach(low.0)).min(f64::MAX), false)),
        (None, Some(high)) => (((high.0 - reach(high.0)).max(f64::MIN), false), high),
        (None, None) => ((-1.0, false), (1.0, false)),
    };
    let span = Span { low, high, open: (open_low, open_high), bounded };
    if let Some(of) = multiple {
        return multiples(&span, of, path);
    }
    if low > high || (low >= high && (open_low || open_high)) {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    Ok(Node::Number(span))
}

/// The numbers of the span with the fewest digits: whole ones where there are any. `None` where the
/// span is too narrow or too far out for this to be of use.
pub(super) fn plain(span: &Span) -> Option<Node> {
    [1.0, 0.1, 0.01, 0.001].into_iter().find_map(|of| multiples(span, of, "").ok())
}

fn multiples(span: &Span, of: f64, path: &str) -> Result<Node, SchemaError> {
    // Half a unit in the last place of the quotient: bounds are themselves often multiples.
    let slack = 1e-9;
    let mut low = (span.low / of - slack).ceil();
    let mut high = (span.high / of + slack).floor();
    if span.open.0 && low * of <= span.low + of * slack {
        low += 1.0;
    }
    if span.open.1 && high * of >= span.high - of * slack {
        high -= 1.0;
    }
    if low > high || low.abs() > 1e15 || high.abs() > 1e15 {
        return Err(SchemaError::NoValue { path: path.into() });
    }
    let text = of.to_string();
    let decimals = text.split_once('.').map_or(0, |(_, digits)| digits.len() as u32);
    let count = (high - low) as u64 + 1;
    Ok(Node::Multiple { of, decimals, low: low as i64, count, bounded: span.bounded })
}

fn ceil(value: &Value) -> Option<i128> {
    whole(value).or_else(|| value.as_f64().map(|bound| bound.ceil() as i128))
}

fn floor(value: &Value) -> Option<i128> {
    whole(value).or_else(|| value.as_f64().map(|bound| bound.floor() as i128))
}

fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn least_common_multiple(a: i128, b: i128) -> i128 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    // Each is at most 1e15; a product beyond 64 bits leaves no value, which the caller reports.
    (a / x * b).min(i128::from(i64::MAX))
}
