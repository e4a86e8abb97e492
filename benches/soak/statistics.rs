//! Percentiles, and straight lines through points.

use std::time::Duration;

/// The value below which so many thousandths of the values lie; `values` are sorted.
pub(crate) fn percentile(values: &[Duration], thousandths: usize) -> Option<Duration> {
    let last = values.len().checked_sub(1)?;
    values.get(last * thousandths / 1000).copied()
}

/// A line by least squares, and how sure its slope is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// Growth per unit of x.
    pub(crate) slope: f64,
    /// Standard error of the slope, from what is left over.
    pub(crate) error: f64,
}

/// The line through `(x, y)`; `None` for fewer than three points, or points above one another.
pub(crate) fn line(points: &[(f64, f64)]) -> Option<Line> {
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 points")]
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread <= 0.0 {
        return None;
    }
    let joint: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let slope = joint / spread;
    let left: f64 = points
        .iter()
        .map(|point| (point.1 - y - slope * (point.0 - x)).powi(2))
        .sum();
    let error = (left / (n - 2.0) / spread).sqrt();
    Some(Line { slope, error })
}

/// The lowest value in each stretch of `width` on the x axis, at its own place. What is held only
/// while there is work, buffers and connections, falls away; what is never given back stays.
pub(crate) fn floors(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    let mut floors: Vec<(f64, f64)> = Vec::new();
    let mut stretch = f64::NEG_INFINITY;
    for &point in points {
        let at = (point.0 / width).floor();
        match floors.last_mut() {
            Some(floor) if at <= stretch => {
                if point.1 < floor.1 {
                    *floor = point;
                }
            }
            _ => {
                stretch = at;
                floors.push(point);
            }
        }
    }
    floors
}
