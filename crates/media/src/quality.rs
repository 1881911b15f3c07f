//! What a listener would say of a path: the E-model of ITU-T G.107, from the loss and the delay that were measured.
//!
//! The rating R is 93.2 (G.107 with every default: quiet rooms, ordinary telephones, no echo), less what delay costs (Idd,
//! clause 7.5) and what loss costs a codec with concealment (Ie,eff, clause 7.4, with the codec's figures of G.113 Appendix
//! I: Ie 0 and Bpl 25.1 for G.711 with concealment). Loss is taken as scattered (BurstR 1), for bursts are not measured. It
//! is an estimate of the path, not of the speech: nothing here listens. G.722 is rated as G.711 is, on the scale of the telephone
//! band: what its wider band is worth (G.107.1) is not in it.

/// R of a path that costs nothing.
const R_DEFAULT: f64 = 93.2;
/// Equipment impairment of G.711 (G.113 Appendix I).
const IE: f64 = 0.0;
/// Robustness of G.711 with concealment against scattered loss (G.113 Appendix I).
const BPL: f64 = 25.1;

/// The rating R, 0 to 93.2, of a path with this share of its packets lost or too late (0 to 1) and this delay from mouth to
/// ear, in milliseconds.
#[must_use]
pub fn rating(loss: f64, delay_ms: f64) -> f64 {
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    let impairment = IE + (95.0 - IE) * percent / (percent + BPL);
    (R_DEFAULT - delay_impairment(delay_ms) - impairment).clamp(0.0, R_DEFAULT)
}

/// The mean opinion score of a rating, 1 to 4.5 (G.107 Annex B).
#[must_use]
pub fn opinion(rating: f64) -> f64 {
    let r = rating.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// Idd of G.107: nothing up to 100 ms. Beyond ten seconds nobody talks any more, and the formula leaves what numbers hold.
fn delay_impairment(delay_ms: f64) -> f64 {
    let delay_ms = delay_ms.min(10_000.0);
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    let root = |value: f64| (1.0 + value.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_that_the_recommendations_print() {
        // G.107 Annex B: R 93.2 is MOS 4.41, 80 is 4.03, 70 is 3.60, 60 is 3.10, 50 is 2.58.
        for (r, mos) in [(93.2, 4.41), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!((opinion(r) - mos).abs() < 0.01, "R {r}: {}", opinion(r));
        }
        assert!((rating(0.0, 50.0) - 93.2).abs() < 1e-9);
        // G.107, figure of Idd: about 3 at 200 ms without echo, 14 at 300 ms, 24 at 400 ms.
        for (delay, least, most) in [(200.0, 2.0, 4.0), (300.0, 12.0, 16.0), (400.0, 22.0, 26.0)] {
            let cost = R_DEFAULT - rating(0.0, delay);
            assert!((least..most).contains(&cost), "{delay} ms cost {cost}");
        }
        // Bpl is the loss in percent that costs half of 95.
        assert!((rating(0.251, 0.0) - (93.2 - 47.5)).abs() < 1e-9);
    }

    #[test]
    fn more_loss_and_more_delay_are_never_better_and_nothing_leaves_the_scale() {
        let mut last = f64::MAX;
        for step in 0..=100 {
            let r = rating(f64::from(step) / 100.0, f64::from(step) * 10.0);
            assert!(r <= last && (1.0..=4.5).contains(&opinion(r)));
            last = r;
        }
        assert!(opinion(rating(5.0, f64::INFINITY)) >= 1.0);
    }
}
