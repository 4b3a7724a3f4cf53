//! Figures as SVG, drawn with plotters: for documents.
//!
//! The background is transparent, every colour of a mark has a contrast of 3 or more against white and against the dark of
//! code forges, and letters go by what the reader prefers. Logarithmic scales are linear ones of logarithms
//! here, so that one chart type does and ticks are where measurements are.

mod curves;
mod grid;
mod ranges;
mod stages;
mod theme;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::figure::{Body, Figure, Scale};
use theme::{INK, WIDTH, lines, text, text_px};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'c, 'a, Y> = ChartContext<'c, SVGBackend<'a>, Cartesian2d<Axis, Y>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// One chart as a file.
///
/// # Errors
/// None with figures that hold what they promise.
pub(crate) fn svg(figure: &Figure) -> Result<String> {
    let title = lines(&figure.title, 15, WIDTH - 16);
    let place = lines(&figure.place, 12, WIDTH - 16);
    let left_out = match figure.left_out.len() {
        0 => Vec::new(),
        n => vec![format!("{n} left out: see the text")],
    };
    let head = 8 + 20 * title.len() as u32 + 17 * place.len() as u32 + 4;
    let foot = 18 * left_out.len() as u32 + 4;
    let height = head + body_height(&figure.body) + foot;
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area();
        let draw = || -> Drawn {
            let mut y = 8;
            for line in &title {
                root.draw(&Text::new(line.clone(), (8, y), text(15, INK)))?;
                y += 20;
            }
            for line in &place {
                root.draw(&Text::new(line.clone(), (8, y), text(12, INK)))?;
                y += 17;
            }
            let (_, rest) = root.split_vertically(head);
            let (body, below) = rest.split_vertically(body_height(&figure.body));
            match &figure.body {
                Body::Curves(c) => curves::draw(&body, c)?,
                Body::Stages(s) => stages::draw(&body, s)?,
                Body::Ranges(r) => ranges::draw(&body, r)?,
                Body::Grid(g) => grid::draw(&body, g)?,
            }
            for line in &left_out {
                below.draw(&Text::new(line.clone(), (8, 0), text(12, INK)))?;
            }
            root.present()
        };
        draw().map_err(|e| anyhow!("{}: {e}", figure.id))?;
    }
    Ok(described(&out, figure))
}

fn body_height(body: &Body) -> u32 {
    match body {
        Body::Curves(c) => curves::height(c),
        Body::Stages(s) => stages::height(s),
        Body::Ranges(r) => ranges::height(r),
        Body::Grid(g) => grid::height(g),
    }
}

/// Says what the image is to those who do not see it, and lets its letters go by what the reader prefers.
fn described(svg: &str, figure: &Figure) -> String {
    let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let hex = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
    let (ink, dark) = (hex(theme::INK), hex(theme::DARK_INK));
    let style = format!(
        "<style>@media (prefers-color-scheme: dark) {{ [fill=\"{ink}\"] {{ fill: {dark} }} [stroke=\"{ink}\"] {{ stroke: {dark} }} }}</style>\n"
    );
    let title = format!("<title>{}</title>\n<desc>{}</desc>\n", escape(&figure.title), escape(&figure.place));
    let Some((tag, rest)) = svg.split_once(">\n") else { return svg.to_owned() };
    format!("{tag} role=\"img\">\n{title}{style}{rest}\n")
}

/// A scale with its ends, ready to be drawn.
#[derive(Clone)]
struct Axis {
    is_log: bool,
    lo: f64,
    hi: f64,
    /// Transformed places and their names.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Around `values`, and around the `ends` of their intervals as far as they are not many times wider: a chart of
    /// intervals that say nothing would show nothing. With ticks whose names fit `room` pixels if there is such a limit.
    fn new(
        scale: &Scale,
        values: impl Iterator<Item = f64>,
        ends: impl Iterator<Item = f64>,
        room: Option<u32>,
    ) -> Axis {
        let at = |x: f64| if scale.is_log { x.log10() } else { x };
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.map(at) {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        if lo > hi {
            (lo, hi) = (0.0, 1.0);
        }
        let wide = if scale.is_log { 8f64.log10() } else { 2.0 * (hi - lo).max(hi.abs()) };
        let (least, most) = (lo - wide, hi + wide);
        for v in ends.map(at) {
            (lo, hi) = (lo.min(v.max(least)), hi.max(v.min(most)));
        }
        // A curve that is flat still has a height, and a tick above and below it.
        let least = if scale.is_log { 1.3f64.log10() } else { (hi.abs() * 0.1).max(1e-9) };
        if hi - lo < least {
            let middle = f64::midpoint(lo, hi);
            (lo, hi) = (middle - least / 2.0, middle + least / 2.0);
        }
        let margin = 0.05 * (hi - lo);
        let floor = if !scale.is_log && lo >= 0.0 { 0.0 } else { lo - margin };
        let (lo, hi) = (if scale.is_log { lo - margin } else { floor }, hi + margin);
        let named: Vec<(f64, String)> = scale.ticks.iter().map(|(x, name)| (at(*x), name.clone())).collect();
        let mut ticks = if named.is_empty() { theme::ticks(scale.is_log, lo, hi) } else { named };
        if let Some(room) = room {
            let px = |x: f64| (x - lo) / (hi - lo) * f64::from(room);
            let mut end = f64::NEG_INFINITY;
            ticks.retain(|(x, name)| {
                let half = f64::from(text_px(name, 12)) / 2.0;
                let fits = px(*x) - half > end + 6.0;
                end = if fits { px(*x) + half } else { end };
                fits
            });
        }
        Axis { is_log: scale.is_log, lo, hi, ticks }
    }
    /// Where a value is drawn; at the frame if it lies outside.
    fn at(&self, x: f64) -> f64 {
        (if self.is_log { x.log10() } else { x }).clamp(self.lo, self.hi)
    }
}

/// An interval: a line with a cap at each end that lies within the chart; one without goes on beyond the frame.
fn whisker<Y>(chart: &Chart<'_, '_, Y>, ends: [(f64, f64); 2], style: ShapeStyle) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    let (x, y) = (chart.x_range(), chart.y_range());
    let is_flat = ends[0].1 == ends[1].1;
    let plot = chart.plotting_area();
    plot.draw(&PathElement::new(ends, style))?;
    for (at, (cx, cy)) in ends.iter().map(|end| (if is_flat { end.0 } else { end.1 }, *end)) {
        let frame = if is_flat { (x.start, x.end) } else { (y.start, y.end) };
        if at > frame.0 && at < frame.1 {
            let cap = if is_flat { [(0, -4), (0, 4)] } else { [(-4, 0), (4, 0)] };
            plot.draw(&(EmptyElement::at((cx, cy)) + PathElement::new(cap, style)))?;
        }
    }
    Ok(())
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.lo) / (self.hi - self.lo);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let is_fine = hint.weight().allow_light_points();
        if is_fine { Vec::new() } else { self.ticks.iter().map(|(x, _)| *x).collect() }
    }
    fn range(&self) -> std::ops::Range<f64> {
        self.lo..self.hi
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        let tick = self.ticks.iter().find(|(x, _)| (x - place).abs() < 1e-9);
        tick.map(|(_, name)| name.clone()).unwrap_or_default()
    }
}
