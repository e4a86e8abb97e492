//! The picture: what was accepted and published, what waited, what memory was taken, and beneath it
//! when which fault was there. SVG by hand, for a light page.

use std::fmt::{Display, Write as _};

use super::faults::{Fault, Happened, Side};
use super::probe::Sample;
use super::report::{Report, thousands};

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 156.0;
const RIGHT: f64 = 1172.0;
const TOP: f64 = 78.0;
/// Between two panels.
const GAP: f64 = 34.0;
/// One line of faults.
const ROW: f64 = 19.0;
/// Points of a curve: more than a screen shows makes a file that nobody opens.
const POINTS_MAX: usize = 600;
/// Bands over the panels are for runs in which they can be told apart, and for faults of the broker
/// of at least so many seconds: those are what the curves show.
const BANDS_MAX: usize = 160;
const BAND_SECONDS_MIN: f64 = 1.0;
/// What lasts shorter is still seen, in pixels.
const MARK_MIN: f64 = 2.5;

const INK: &str = "#111827";
const MUTED: &str = "#6b7280";
const GRID: &str = "#e5e7eb";
const ACCEPTED: &str = "#2563eb";
const PUBLISHED: &str = "#059669";
const WAITING: &str = "#d97706";
const MEMORY: &str = "#7c3aed";

/// Seconds to pixels, and back to what is written below.
#[derive(Clone, Copy)]
struct Time {
    seconds: f64,
}

impl Time {
    fn x(self, at: f64) -> f64 {
        LEFT + (at / self.seconds).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// About ten marks, at times that people use.
    fn step(self) -> f64 {
        const STEPS: [f64; 14] = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
            7200.0,
        ];
        let steps = STEPS.iter().copied();
        steps
            .filter(|step| self.seconds / step <= 11.0)
            .reduce(f64::min)
            .unwrap_or(14_400.0)
    }
}

/// Hours, minutes and seconds, without what is zero in front.
fn time_label(seconds: f64) -> String {
    let whole = seconds.round();
    let (hours, minutes) = ((whole / 3600.0).floor(), (whole / 60.0).floor() % 60.0);
    let seconds = whole % 60.0;
    if hours > 0.0 {
        format!("{hours:.0}:{minutes:02.0}:{seconds:02.0}")
    } else {
        format!("{minutes:.0}:{seconds:02.0}")
    }
}

/// A curve in a panel.
struct Curve {
    name: &'static str,
    color: &'static str,
    filled: bool,
    points: Vec<(f64, f64)>,
}

/// The whole picture.
pub(crate) fn svg(report: &Report<'_>) -> String {
    let outcome = report.outcome;
    let last = outcome.samples.last().map_or(1.0, |sample| sample.at);
    let time = Time {
        seconds: last.max(1.0),
    };
    let samples = &outcome.samples;
    let accepted = Curve {
        name: "accepted per second",
        color: ACCEPTED,
        filled: false,
        points: rates(samples, |sample| sample.accepted),
    };
    let published = Curve {
        name: "delivered per second",
        color: PUBLISHED,
        filled: false,
        points: rates(samples, |sample| sample.delivered),
    };
    let waiting = Curve {
        name: "events waiting in the journals",
        color: WAITING,
        filled: true,
        points: peaks(samples, |sample| sample.waiting),
    };
    let memory = Curve {
        name: "resident memory of the gateway that is never restarted, MiB",
        color: MEMORY,
        filled: true,
        points: peaks(samples, |sample| sample.memory_mib),
    };
    let panels = [
        (190.0, vec![published, accepted]),
        (110.0, vec![waiting]),
        (110.0, vec![memory]),
    ];
    let faults: Vec<_> = report
        .faults()
        .into_iter()
        .filter(|(_, times)| *times > 0)
        .collect();
    let panels_height: f64 = panels.iter().map(|(height, _)| height + GAP).sum();
    let rows_top = TOP + panels_height;
    #[expect(clippy::cast_precision_loss, reason = "eleven kinds")]
    let rows_bottom = rows_top + faults.len() as f64 * ROW;
    let mut page = Page::new(rows_bottom + 46.0);
    page.title(report);
    if outcome.chronicle.len() <= BANDS_MAX {
        let lasts = |one: &&Happened| one.to.unwrap_or(last) - one.from >= BAND_SECONDS_MIN;
        let of_broker = |one: &&Happened| one.fault.side() == Side::Broker;
        for one in outcome.chronicle.iter().filter(of_broker).filter(lasts) {
            page.band(time, one, TOP, rows_bottom);
        }
    }
    page.time_marks(time, TOP, rows_bottom);
    page.end_of_load(time.x(outcome.plan.length.as_secs_f64()), TOP, rows_bottom);
    let mut top = TOP;
    for (height, curves) in &panels {
        page.panel(time, top, *height, curves);
        top += height + GAP;
    }
    page.fault_rows(time, rows_top, &faults, &outcome.chronicle);
    page.end()
}

// === values ===

/// Growth per second of a counter, in as many points as there is room for.
#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53")]
fn rates(samples: &[Sample], counter: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS_MAX).max(1);
    let picked: Vec<_> = samples.iter().step_by(every).collect();
    let between = picked.iter().zip(picked.iter().skip(1));
    between
        .map(|(a, b)| {
            let grown = counter(b).saturating_sub(counter(a)) as f64;
            (b.at, grown / (b.at - a.at).max(0.001))
        })
        .collect()
}

/// The highest value around each point.
fn peaks(samples: &[Sample], value: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS_MAX).max(1);
    samples
        .chunks(every)
        .filter_map(|chunk| {
            let highest = chunk.iter().map(value).reduce(f64::max)?;
            Some((chunk.last()?.at, highest))
        })
        .collect()
}

/// The end of a scale that begins at zero, and the step between its lines: 1, 2 or 5 times a power
/// of ten.
fn scale(highest: f64) -> (f64, f64) {
    let rough = (highest.max(1.0) * 1.05) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
        .max(1.0);
    ((highest.max(1.0) / step).ceil() * step, step)
}

// === drawing ===

struct Page(String);

impl Page {
    fn new(height: f64) -> Self {
        let mut page = Self(String::new());
        page.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif\" \
             font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>"
        ));
        page
    }

    fn put(&mut self, what: impl Display) {
        let _infallible = writeln!(self.0, "{what}");
    }

    fn end(mut self) -> String {
        self.put("</svg>");
        self.0
    }

    fn text(&mut self, x: f64, y: f64, color: &str, more: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\"{more}>{text}</text>"
        ));
    }

    fn title(&mut self, report: &Report<'_>) {
        let outcome = report.outcome;
        let books = outcome.ledger.books();
        let title = format!(
            "{} faults, {} events acknowledged, {} lost",
            outcome.chronicle.len(),
            thousands(books.counts.acknowledged),
            books.missing().len()
        );
        let bold = " font-size=\"20\" font-weight=\"600\"";
        self.text(LEFT, 32.0, INK, bold, &title);
        let under = format!(
            "Load for {}: two gateways, one RabbitMQ node, {} messages delivered, {} of them \
             duplicates; seed {}",
            time_label(outcome.plan.length.as_secs_f64()),
            thousands(books.counts.delivered),
            thousands(books.counts.duplicates),
            outcome.plan.seed
        );
        self.text(LEFT, 52.0, MUTED, "", &under);
    }

    /// Where a fault was, behind everything.
    fn band(&mut self, time: Time, one: &Happened, top: f64, bottom: f64) {
        let (from, width) = span(time, one);
        let color = color(one.fault.side());
        self.put(format_args!(
            "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{:.1}\" \
             fill=\"{color}\" opacity=\"0.06\"/>",
            bottom - top
        ));
    }

    fn time_marks(&mut self, time: Time, top: f64, bottom: f64) {
        let step = time.step();
        let mut at = 0.0;
        while at <= time.seconds {
            let x = time.x(at);
            self.put(format_args!(
                "<path d=\"M{x:.1} {top}V{bottom:.1}\" stroke=\"{GRID}\"/>"
            ));
            let middle = " text-anchor=\"middle\"";
            self.text(x, bottom + 20.0, MUTED, middle, &time_label(at));
            at += step;
        }
    }

    /// After it, what waited is published, and nothing comes.
    fn end_of_load(&mut self, x: f64, top: f64, bottom: f64) {
        self.put(format_args!(
            "<path d=\"M{x:.1} {top}V{bottom:.1}\" stroke=\"{MUTED}\" stroke-dasharray=\"3 3\"/>"
        ));
        let end = " text-anchor=\"end\"";
        self.text(x - 6.0, top + 10.0, MUTED, end, "load ends");
    }

    fn panel(&mut self, time: Time, top: f64, height: f64, curves: &[Curve]) {
        let values = curves.iter().flat_map(|curve| &curve.points);
        let highest = values.map(|point| point.1).fold(0.0, f64::max);
        let (end, step) = scale(highest);
        // The names of the curves stand above the highest line.
        let (top, height) = (top + 18.0, height - 18.0);
        let y = |value: f64| top + height - value / end * height;
        let mut line = 0.0;
        while line <= end {
            let at = y(line);
            self.put(format_args!(
                "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{GRID}\"/>"
            ));
            let right = " text-anchor=\"end\"";
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and not below zero"
            )]
            let label = thousands(line as u64);
            self.text(LEFT - 8.0, at + 4.0, MUTED, right, &label);
            line += step;
        }
        let mut x = LEFT;
        // In the order of a legend: the last drawn is on top, and named first.
        for curve in curves.iter().rev() {
            self.text(
                x,
                top - 8.0,
                curve.color,
                " font-weight=\"600\"",
                curve.name,
            );
            x += 190.0;
        }
        for curve in curves {
            let mut path = String::new();
            for (n, (at, value)) in curve.points.iter().enumerate() {
                let letter = if n == 0 { 'M' } else { 'L' };
                let _infallible = write!(path, "{letter}{:.1} {:.1}", time.x(*at), y(*value));
            }
            if let (true, Some(first), Some(last)) =
                (curve.filled, curve.points.first(), curve.points.last())
            {
                let (from, to, floor) = (time.x(first.0), time.x(last.0), y(0.0));
                self.put(format_args!(
                    "<path d=\"{path}L{to:.1} {floor:.1}L{from:.1} {floor:.1}Z\" \
                     fill=\"{}\" opacity=\"0.15\"/>",
                    curve.color
                ));
            }
            self.put(format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" \
                 stroke-linejoin=\"round\"/>",
                curve.color
            ));
        }
    }

    fn fault_rows(
        &mut self,
        time: Time,
        top: f64,
        faults: &[(Fault, usize)],
        chronicle: &[Happened],
    ) {
        let mut y = top;
        for (fault, times) in faults {
            let color = color(fault.side());
            let label = format!("{fault} \u{d7}{times}");
            let right = " text-anchor=\"end\"";
            self.text(LEFT - 8.0, y + 13.5, color, right, &label);
            self.put(format_args!(
                "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"{GRID}\"/>"
            ));
            for one in chronicle.iter().filter(|one| one.fault == *fault) {
                let (from, width) = span(time, one);
                self.put(format_args!(
                    "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
                     rx=\"1.5\" fill=\"{color}\"/>",
                    y + 4.0,
                    ROW - 8.0
                ));
            }
            y += ROW;
        }
    }
}

fn color(side: Side) -> &'static str {
    match side {
        Side::Gateway => "#b45309",
        Side::Broker => "#be185d",
    }
}

/// Where a fault begins, and how wide it is.
fn span(time: Time, one: &Happened) -> (f64, f64) {
    let from = time.x(one.from);
    let to = time.x(one.to.unwrap_or(time.seconds));
    (from, (to - from).max(MARK_MIN))
}
