//! Lines through points with intervals.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::theme::{INK, WIDTH, anchored, colour, cut, text, text_px};
use super::{Area, Axis, Drawn, whisker};
use crate::report::figure::{Curves, Series};

/// Of the plot alone.
const PLOT: u32 = 320;
/// Of a line of the legend.
const ROW: u32 = 19;
/// Left of the plot.
const LEFT: u32 = 66;
/// Right of it: what the level is.
const RIGHT: u32 = 52;

fn legend_columns(c: &Curves) -> u32 {
    let widest = c.series.iter().map(|s| text_px(&s.name, 12) + 44).max().unwrap_or(1);
    ((WIDTH - LEFT) / widest.max(120)).clamp(1, 4)
}

pub(super) fn height(c: &Curves) -> u32 {
    // One curve is what the title says.
    let rows = if c.series.len() > 1 { (c.series.len() as u32).div_ceil(legend_columns(c)) } else { 0 };
    PLOT + rows * ROW + 6
}

pub(super) fn draw(area: &Area<'_>, c: &Curves) -> Drawn {
    let (plot, legend) = area.split_vertically(PLOT);
    let marks = || c.series.iter().flat_map(|s| &s.points);
    let x = Axis::new(&c.x, marks().map(|m| m.x), std::iter::empty(), Some(WIDTH - LEFT - RIGHT));
    let ends = marks().flat_map(|m| <[f64; 2]>::from(m.value.ends()));
    let y = Axis::new(&c.y, marks().map(|m| m.value.y).chain(c.level.iter().map(|l| l.0)), ends, None);
    let mut chart = ChartBuilder::on(&plot)
        .margin_right(RIGHT)
        .margin_top(8)
        .x_label_area_size(44)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.25))
        .light_line_style(INK.mix(0.0))
        .label_style(text(12, INK))
        .axis_desc_style(text(13, INK))
        .x_desc(cut(&c.x.label, 13, 560))
        .y_desc(cut(&c.y.label, 13, PLOT - 40))
        .draw()?;
    if let Some((from, to)) = c.flips {
        let corners = [(x.at(from), y.lo), (x.at(to), y.hi)];
        let is_there = corners.iter().all(|(x, _)| x.is_finite());
        chart.draw_series(is_there.then(|| Rectangle::new(corners, INK.mix(0.18).filled())))?;
    }
    if let Some((level, name)) = &c.level {
        let at = y.at(*level);
        chart.draw_series(DashedLineSeries::new([(x.lo, at), (x.hi, at)], 6, 4, INK.stroke_width(1)))?;
        let style = anchored(12, INK, HPos::Left, VPos::Center);
        chart.draw_series([
            EmptyElement::at((x.hi, at)) + Text::new(cut(name, 12, RIGHT - 8), (5, 0), style)
        ])?;
    }
    for (i, s) in c.series.iter().enumerate() {
        let colour = if s.is_limit { INK } else { colour(i) };
        let line = s.points.iter().map(|m| (x.at(m.x), y.at(m.value.y)));
        if s.is_limit {
            chart.draw_series(DashedLineSeries::new(line, 3, 3, colour.stroke_width(1)))?;
            continue;
        }
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        for m in &s.points {
            if let (Some(lo), Some(hi)) = (m.value.lo, m.value.hi) {
                let at = x.at(m.x);
                whisker(&chart, [(at, y.at(lo)), (at, y.at(hi))], colour.stroke_width(1))?;
            }
            let at = (x.at(m.x), y.at(m.value.y));
            chart.plotting_area().draw(&marker(i, m.value.is_sure, colour, at))?;
        }
    }
    if c.series.len() > 1 { names(&legend, c) } else { Ok(()) }
}

fn names(area: &Area<'_>, c: &Curves) -> Drawn {
    let columns = legend_columns(c);
    let width = (WIDTH - LEFT) / columns;
    for (i, Series { name, is_limit, .. }) in c.series.iter().enumerate() {
        let x = (LEFT + i as u32 % columns * width) as i32;
        let y = (i as u32 / columns * ROW + ROW / 2) as i32;
        let colour = if *is_limit { INK } else { colour(i) };
        if *is_limit {
            for part in 0..3 {
                let at = x + part * 9;
                area.draw(&PathElement::new([(at, y), (at + 5, y)], colour.stroke_width(1)))?;
            }
        } else {
            area.draw(&PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(2)))?;
            area.draw(&marker(i, true, colour, (x + 12, y)))?;
        }
        let style = anchored(12, INK, HPos::Left, VPos::Center);
        area.draw(&Text::new(cut(name, 12, width - 40), (x + 32, y), style))?;
    }
    Ok(())
}

/// A shape of its own for neighbours in the legend, hollow where fewer than six launches stand behind it.
fn marker<'a, B, C>(i: usize, is_sure: bool, colour: RGBColor, at: C) -> DynElement<'a, B, C>
where
    B: DrawingBackend + 'a,
    C: Clone + 'a,
{
    let style = if is_sure { colour.filled() } else { colour.stroke_width(1) };
    match i % 3 {
        0 => (EmptyElement::at(at) + Circle::new((0, 0), 4, style)).into_dyn(),
        1 => (EmptyElement::at(at) + Rectangle::new([(-4, -4), (4, 4)], style)).into_dyn(),
        _ => {
            let corners = vec![(0, -5), (5, 4), (-5, 4), (0, -5)];
            if is_sure {
                (EmptyElement::at(at) + Polygon::new(corners, style)).into_dyn()
            } else {
                (EmptyElement::at(at) + PathElement::new(corners, style)).into_dyn()
            }
        }
    }
}
