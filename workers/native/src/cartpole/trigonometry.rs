//! Sine and cosine as straight-line arithmetic.
//!
//! The standard library calls the platform's, one at a time: that would keep the step loop from
//! being vectorised and make its last digits depend on the machine.

use std::f64::consts::FRAC_2_PI;

/// Adding and subtracting it rounds to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// π/2 in two parts, the first with zeros at its end, so that multiples of it are exact.
const HALF_PI_HIGH: f64 = 1.570_796_326_734_125_6;
const HALF_PI_LOW: f64 = 6.077_100_506_506_192e-11;

/// The sine and cosine of `angle` (radians): exact to about 1e-15 for angles up to 1e5.
#[inline(always)]
pub(super) fn sin_cos(angle: f64) -> (f64, f64) {
    let shifted = angle * FRAC_2_PI + ROUND;
    let quarters = shifted - ROUND;
    let quadrant = shifted.to_bits();
    let r = angle - quarters * HALF_PI_HIGH - quarters * HALF_PI_LOW;
    let z = r * r;
    // Taylor's polynomials: on |r| ≤ π/4 the first term left out is below 1e-16.
    let sine = r
        * (1.0
            + z * (-1.0 / 6.0
                + z * (1.0 / 120.0
                    + z * (-1.0 / 5_040.0
                        + z * (1.0 / 362_880.0
                            + z * (-1.0 / 39_916_800.0
                                + z * (1.0 / 6_227_020_800.0
                                    - z * (1.0 / 1_307_674_368_000.0))))))));
    let cosine = 1.0
        + z * (-0.5
            + z * (1.0 / 24.0
                + z * (-1.0 / 720.0
                    + z * (1.0 / 40_320.0
                        + z * (-1.0 / 3_628_800.0
                            + z * (1.0 / 479_001_600.0 - z * (1.0 / 87_178_291_200.0)))))));
    let odd = quadrant & 1 == 1;
    let (sine, cosine) = if odd { (cosine, sine) } else { (sine, cosine) };
    let sine_sign = (quadrant & 2) << 62;
    let cosine_sign = (quadrant.wrapping_add(1) & 2) << 62;
    (f64::from_bits(sine.to_bits() ^ sine_sign), f64::from_bits(cosine.to_bits() ^ cosine_sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in -200_000..200_000 {
            let angle = f64::from(i) * 0.000_37;
            let (sine, cosine) = sin_cos(angle);
            assert!((sine - angle.sin()).abs() < 1e-14, "sin {angle}");
            assert!((cosine - angle.cos()).abs() < 1e-14, "cos {angle}");
        }
        assert!(sin_cos(f64::NAN).0.is_nan());
    }
}
