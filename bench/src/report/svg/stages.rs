//! Bars made of stages, in panels with scales of their own.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::theme::{INK, STAGE_COLOURS, WIDTH, anchored, cut, text};
use super::{Area, Axis, Drawn, whisker};
use crate::report::figure::{Panel, STAGES, Scale, Stages};

/// Of a bar with its gap.
const ROW: u32 = 24;
/// Left of the plot.
const LEFT: u32 = 170;
/// Above and below the bars of a panel.
const ABOVE: u32 = 24;
const BELOW: u32 = 30;
/// The legend and the unit.
const FOOT: u32 = 24;

fn panel_height(p: &Panel) -> u32 {
    ABOVE + p.bars.len() as u32 * ROW + BELOW
}

pub(super) fn height(s: &Stages) -> u32 {
    s.panels.iter().map(panel_height).sum::<u32>() + FOOT
}

pub(super) fn draw(area: &Area<'_>, s: &Stages) -> Drawn {
    let mut rest = area.clone();
    for panel in &s.panels {
        let (here, below) = rest.split_vertically(panel_height(panel));
        bars(&here, panel, &s.unit)?;
        rest = below;
    }
    let mut x = LEFT as i32;
    for (name, colour) in STAGES.iter().zip(STAGE_COLOURS) {
        rest.draw(&Rectangle::new([(x, 4), (x + 14, 16)], colour.filled()))?;
        rest.draw(&Text::new(*name, (x + 20, 10), anchored(12, INK, HPos::Left, VPos::Center)))?;
        x += 80;
    }
    if s.panels.iter().any(|p| p.limit.is_some()) {
        for part in 0..3 {
            let at = x + part * 6;
            rest.draw(&PathElement::new([(at, 10), (at + 3, 10)], INK.stroke_width(1)))?;
        }
        let style = anchored(12, INK, HPos::Left, VPos::Center);
        rest.draw(&Text::new("decode limit", (x + 22, 10), style))?;
    }
    Ok(())
}

fn bars(area: &Area<'_>, panel: &Panel, unit: &str) -> Drawn {
    area.draw(&Text::new(cut(&panel.title, 13, WIDTH - 16), (8, 4), text(13, INK)))?;
    let scale = Scale { label: unit.to_owned(), is_log: false, ticks: Vec::new() };
    let values = panel.bars.iter().flat_map(|b| [b.parts.iter().sum(), b.whole.map_or(0.0, |w| w.y)]);
    let ends = panel.bars.iter().filter_map(|b| Some(b.whole?.ends().1));
    let x = Axis::new(&scale, values.chain(panel.limit).chain([0.0]), ends, Some(WIDTH - LEFT - 24));
    let rows = panel.bars.len() as f64;
    let (_, plot) = area.split_vertically(ABOVE);
    let mut chart = ChartBuilder::on(&plot)
        .margin_right(24)
        .x_label_area_size(BELOW)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.clone(), rows..0.0)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.25))
        .light_line_style(INK.mix(0.0))
        .disable_y_mesh()
        .label_style(text(12, INK))
        .y_labels(0)
        .draw()?;
    for (i, bar) in panel.bars.iter().enumerate() {
        let row = i as f64;
        let mut from = 0.0;
        for (part, colour) in bar.parts.iter().zip(STAGE_COLOURS) {
            let corners = [(from, row + 0.18), (from + part, row + 0.82)];
            chart.draw_series((*part > 0.0).then(|| Rectangle::new(corners, colour.filled())))?;
            from += part;
        }
        if let Some(w) = bar.whole {
            let (lo, hi) = w.ends();
            let (lo, hi) = (x.at(lo), x.at(hi));
            whisker(&chart, [(lo, row + 0.5), (hi, row + 0.5)], INK.stroke_width(2))?;
            let style = if w.is_sure { INK.filled() } else { INK.stroke_width(2) };
            chart.draw_series([Circle::new((x.at(w.y), row + 0.5), 3, style)])?;
        }
        let y = ABOVE as i32 + (i as u32 * ROW + ROW / 2) as i32;
        let style = anchored(12, INK, HPos::Right, VPos::Center);
        area.draw(&Text::new(cut(&bar.name, 12, LEFT - 16), (LEFT as i32 - 8, y), style))?;
    }
    // On the bars, which would hide it, and with a rim that sets it off from any of them.
    if let Some(limit) = panel.limit {
        let line = [(limit, 0.0), (limit, rows)];
        chart.draw_series([PathElement::new(line, WHITE.mix(0.6).stroke_width(3))])?;
        chart.draw_series(DashedLineSeries::new(line, 3, 3, INK.stroke_width(1)))?;
    }
    let y = (panel_height(panel) - 18) as i32;
    area.draw(&Text::new(unit.to_owned(), (LEFT as i32 - 8, y), anchored(12, INK, HPos::Right, VPos::Center)))
}
