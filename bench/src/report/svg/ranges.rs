//! A point or a bar a row, each with its interval.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::theme::{INK, WIDTH, anchored, colour, cut, lines, text};
use super::{Area, Axis, Drawn, whisker};
use crate::report::figure::Ranges;
use crate::tables::ratio;

/// Of a row with a name of one line, and of each further line.
const ROW: u32 = 22;
const LINE: u32 = 14;
/// Lines of a name at most.
const LINES: usize = 3;
/// The axis below.
const BELOW: u32 = 46;
/// Right of the plot: the figures.
const RIGHT: u32 = 64;

fn left(r: &Ranges) -> u32 {
    if r.is_bars { 170 } else { 300 }
}

/// A name in the lines that it gets; what does not fit them is cut, and seen to be.
fn name(r: &Ranges, name: &str) -> Vec<String> {
    let mut name = lines(name, 12, left(r) - 16);
    if name.len() > LINES {
        let rest = name.split_off(LINES - 1).join(" ");
        name.push(cut(&rest, 12, left(r) - 16));
    }
    name
}

fn row_height(r: &Ranges) -> u32 {
    let most = r.rows.iter().map(|row| name(r, &row.name).len() as u32).max().unwrap_or(1);
    ROW + (most - 1) * LINE
}

pub(super) fn height(r: &Ranges) -> u32 {
    r.rows.len() as u32 * row_height(r) + BELOW + 8
}

pub(super) fn draw(area: &Area<'_>, r: &Ranges) -> Drawn {
    let (left, row_height) = (left(r), row_height(r));
    let ends = r.rows.iter().flat_map(|row| <[f64; 2]>::from(row.value.ends()));
    // 1 is what every row is measured by.
    let values = r.rows.iter().map(|row| row.value.y).chain([1.0]);
    let x = Axis::new(&r.x, values, ends, Some(WIDTH - left - RIGHT));
    let rows = r.rows.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_right(RIGHT)
        .margin_top(8)
        .x_label_area_size(BELOW)
        .y_label_area_size(left)
        .build_cartesian_2d(x.clone(), rows..0.0)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.25))
        .light_line_style(INK.mix(0.0))
        .disable_y_mesh()
        .label_style(text(12, INK))
        .axis_desc_style(text(13, INK))
        .x_desc(r.x.label.clone())
        .y_labels(0)
        .draw()?;
    if let Some(percent) = r.percent {
        let least = 1.0 + percent / 100.0;
        let corners = [(x.at(1.0 / least).max(x.lo), 0.0), (x.at(least).min(x.hi), rows)];
        chart.draw_series([Rectangle::new(corners, INK.mix(0.25).filled())])?;
    }
    chart.draw_series(DashedLineSeries::new(
        [(x.at(1.0), 0.0), (x.at(1.0), rows)],
        6,
        4,
        INK.stroke_width(1),
    ))?;
    for (i, row) in r.rows.iter().enumerate() {
        let (y, v) = (i as f64 + 0.5, row.value);
        let colour = if row.is_limit { INK } else { colour(0) };
        let at = x.at(v.y);
        if r.is_bars {
            let bar = Rectangle::new([(x.at(1.0), y - 0.3), (at, y + 0.3)], colour.mix(0.6).filled());
            chart.draw_series([bar])?;
        }
        if let (Some(lo), Some(hi)) = (v.lo, v.hi) {
            whisker(&chart, [(x.at(lo), y), (x.at(hi), y)], colour.stroke_width(2))?;
        }
        if !row.is_limit {
            let style = if v.is_sure { colour.filled() } else { colour.stroke_width(2) };
            chart.draw_series([Circle::new((at, y), 4, style)])?;
        }
        let middle = 8 + (i as u32 * row_height + row_height / 2) as i32;
        let name = name(r, &row.name);
        for (j, line) in name.iter().enumerate() {
            let y = middle + LINE as i32 * j as i32 - LINE as i32 * (name.len() as i32 - 1) / 2;
            let style = anchored(12, INK, HPos::Right, VPos::Center);
            area.draw(&Text::new(line.clone(), (left as i32 - 8, y), style))?;
        }
        let style = anchored(12, INK, HPos::Right, VPos::Center);
        area.draw(&Text::new(ratio(v.y), (WIDTH as i32 - 8, middle), style))?;
    }
    Ok(())
}
