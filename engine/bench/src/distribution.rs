//! Distributions from histograms.

use hdrhistogram::Histogram;

use crate::report::{Bucket, Distribution};

/// Buckets of a decade, where a hundred of them do for all.
const PER_DECADE: f64 = 40.0;
/// About so many buckets at the most.
const BUCKETS_MAX: f64 = 100.0;
const NS_PER_MS: f64 = 1e6;
/// The longest duration that is told from longer ones: an hour, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// The corrected form of one duration has at most so many entries.
const CORRECTIONS_MAX: u64 = 100_000;

/// A histogram of nanoseconds, exact to a thousandth.
pub(crate) fn histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    Histogram::new_with_max(LONGEST_NS, 3)
}

/// Corrected for coordinated omission: where a request took long, as if others had been sent meanwhile at the
/// interval of the median, and had all waited for its end.
pub(crate) fn corrected(histogram: &Histogram<u64>) -> Histogram<u64> {
    let median = histogram.value_at_quantile(0.5);
    histogram.clone_correct(median.max(histogram.max() / CORRECTIONS_MAX))
}

/// What a histogram of nanoseconds says, in milliseconds.
pub(crate) fn distribution(histogram: &Histogram<u64>) -> Distribution {
    if histogram.is_empty() {
        return Distribution::default();
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / NS_PER_MS;
    Distribution {
        count: histogram.len(),
        mean: histogram.mean() / NS_PER_MS,
        min: histogram.min() as f64 / NS_PER_MS,
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / NS_PER_MS,
        buckets: buckets(histogram),
    }
}

/// Buckets of equal ratio from the shortest to the longest. Those between that are empty are there, so that each
/// begins where the one before ends.
fn buckets(histogram: &Histogram<u64>) -> Vec<Bucket> {
    let ms = |ns: u64| (ns.max(1) as f64) / NS_PER_MS;
    let (first, last) = (ms(histogram.min()).log10(), ms(histogram.max()).log10());
    let width = (1.0 / PER_DECADE).max((last - first) / BUCKETS_MAX);
    let place = |ns: u64| ((ms(ns).log10() / width).floor()) as i64;
    let (low, high) = (place(histogram.min()), place(histogram.max()));
    let up_to = |place: i64| 10f64.powf((place + 1) as f64 * width);
    let mut buckets: Vec<Bucket> =
        (low..=high).map(|place| Bucket { up_to: up_to(place), count: 0 }).collect();
    for value in histogram.iter_recorded() {
        let index = usize::try_from(place(value.value_iterated_to()) - low).unwrap_or(0);
        let index = index.min(buckets.len() - 1);
        buckets[index].count += value.count_at_value();
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_was_recorded_in_order() {
        let mut histogram = histogram().unwrap();
        for ms in [1, 2, 3, 3, 50, 4000] {
            histogram.record(ms * 1_000_000).unwrap();
        }
        let told = distribution(&histogram);
        assert_eq!(told.count, 6);
        assert!((told.p50 - 3.0).abs() < 0.01, "{told:?}");
        assert_eq!(told.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 6);
        assert!(told.buckets.len() <= 102, "{}", told.buckets.len());
        assert!(told.buckets.is_sorted_by(|a, b| a.up_to < b.up_to));
        assert!(told.buckets.last().is_some_and(|bucket| bucket.up_to >= told.max * 0.999));
        assert_eq!(distribution(&super::histogram().unwrap()), Distribution::default());
    }

    #[test]
    fn a_stall_is_seen_by_those_who_would_have_waited() {
        let mut histogram = histogram().unwrap();
        histogram.record_n(1_000_000, 99).unwrap();
        histogram.record(100_000_000).unwrap();
        let (before, after) = (distribution(&histogram), distribution(&corrected(&histogram)));
        assert!(before.p95 < 1.1, "{before:?}");
        // About a hundred more would have come while one took 100 ms.
        assert!((195..=200).contains(&after.count), "{after:?}");
        assert!(after.p95 > 80.0, "{after:?}");
        assert!((after.max - before.max).abs() < 1e-9);
    }

    #[test]
    fn a_stall_of_very_many_medians_is_corrected_in_bounded_time() {
        let mut histogram = histogram().unwrap();
        histogram.record_n(100, 100).unwrap();
        histogram.record(LONGEST_NS).unwrap();
        assert!(corrected(&histogram).len() <= 101 + CORRECTIONS_MAX);
    }
}
