//! A matrix of fields, coloured by a number or by a name, hatched where nothing is resolved.

use plotters::prelude::*;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};
use plotters::style::text_anchor::{HPos, VPos};

use super::theme::{INK, WIDTH, anchored, colour, cut, ink_on, text_px};
use super::{Area, Drawn};
use crate::report::figure::{Field, Grid};

/// Of a row of fields, and of each further line in them.
const ROW: u32 = 24;
const LINE: u32 = 14;
/// Of a line of the legend.
const LEGEND: u32 = 19;
/// Between two hatches.
const HATCH: i32 = 7;

fn left(g: &Grid) -> u32 {
    let widest = g.rows.iter().chain([&g.y]).map(|r| text_px(r, 12)).max().unwrap_or(0);
    (widest + 20).clamp(90, 300)
}

fn row_height(g: &Grid) -> u32 {
    let lines = g.fields.iter().map(|f| f.text.lines().count() as u32).max().unwrap_or(1).max(1);
    ROW + (lines - 1) * LINE
}

fn column(g: &Grid) -> u32 {
    // Names want more room than numbers.
    let most = if g.unit.is_some() { 110 } else { 150 };
    ((WIDTH - left(g) - 8) / (g.columns.len() as u32).max(1)).clamp(8, most)
}

/// Names of columns stand upright where they do not fit.
fn is_upright(g: &Grid) -> bool {
    g.columns.iter().any(|c| text_px(c, 12) + 6 > column(g))
}

fn above(g: &Grid) -> u32 {
    let longest = g.columns.iter().map(|c| text_px(c, 12)).max().unwrap_or(0);
    20 + if is_upright(g) { longest.min(160) + 4 } else { 20 }
}

/// Whether a field of this width holds its words.
fn is_held(f: &Field, width: u32) -> bool {
    f.text.lines().all(|l| text_px(l, 11) <= width)
}

/// Names that colour fields, in the order of their first field.
fn names(g: &Grid) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in g.fields.iter().filter_map(|f| f.name.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|n| (crate::questions::registry_order(n), *n));
    names
}

pub(super) fn height(g: &Grid) -> u32 {
    let legend = (names(g).len() as u32).div_ceil(4).max(1);
    above(g) + g.rows.len() as u32 * row_height(g) + legend * LEGEND + 12
}

pub(super) fn draw(area: &Area<'_>, g: &Grid) -> Drawn {
    let (left, column, above) = (left(g) as i32, column(g) as i32, above(g) as i32);
    let height = row_height(g) as i32;
    let names = names(g);
    let values = || g.fields.iter().filter_map(|f| f.value);
    let (lo, hi) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    area.draw(&Text::new(g.x.clone(), (left, 2), anchored(12, INK, HPos::Left, VPos::Top)))?;
    area.draw(&Text::new(
        cut(&g.y, 12, left as u32 - 16),
        (left - 8, 2),
        anchored(12, INK, HPos::Right, VPos::Top),
    ))?;
    for (i, name) in g.columns.iter().enumerate() {
        let x = left + i as i32 * column + column / 2;
        if is_upright(g) {
            let style = anchored(12, INK, HPos::Left, VPos::Center).transform(FontTransform::Rotate270);
            area.draw(&Text::new(cut(name, 12, 160), (x, above - 6), style))?;
        } else {
            let style = anchored(12, INK, HPos::Center, VPos::Bottom);
            area.draw(&Text::new(name.clone(), (x, above - 6), style))?;
        }
    }
    for (i, name) in g.rows.iter().enumerate() {
        let y = above + i as i32 * height + height / 2;
        let style = anchored(12, INK, HPos::Right, VPos::Center);
        area.draw(&Text::new(cut(name, 12, left as u32 - 12), (left - 8, y), style))?;
    }
    // Names stand in all fields or in none, as on the page: a map with gaps reads as if something were missing there.
    let is_worded = names.is_empty() || g.fields.iter().all(|f| is_held(f, column as u32 - 2));
    for row in 0..g.rows.len() {
        for at in 0..g.columns.len() {
            let (x, y) = (left + at as i32 * column, above + row as i32 * height);
            let corners = [(x + 1, y + 1), (x + column - 1, y + height - 1)];
            match g.fields.iter().find(|f| f.row == row && f.column == at) {
                Some(f) => {
                    let fill = fill(f, &names, &|v| shade(v, lo, hi, g.is_log));
                    field(area, corners, f, fill, is_worded)?;
                }
                // Not measured: an empty frame is no value.
                None => area.draw(&Rectangle::new(corners, INK.mix(0.2)))?,
            }
        }
    }
    legend(area, g, &names, (lo, hi))
}

fn fill(f: &Field, names: &[&str], shade: &dyn Fn(f64) -> RGBColor) -> RGBColor {
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap_or(0);
    match (f.value, f.name.as_deref()) {
        (Some(v), _) => shade(v),
        (None, Some(name)) => colour(place(name)),
        (None, None) => INK,
    }
}

fn shade(v: f64, lo: f64, hi: f64, is_log: bool) -> RGBColor {
    let share = match hi > lo {
        true if is_log => (v / lo).ln() / (hi / lo).ln(),
        true => (v - lo) / (hi - lo),
        false => 0.0,
    };
    ViridisRGB.get_color(share.clamp(0.0, 1.0) as f32)
}

fn field(area: &Area<'_>, corners: [(i32, i32); 2], f: &Field, fill: RGBColor, is_worded: bool) -> Drawn {
    let [(x0, y0), (x1, y1)] = corners;
    area.draw(&Rectangle::new(corners, fill.filled()))?;
    let (width, height) = (x1 - x0, y1 - y0);
    if f.is_hatched {
        let mut d = HATCH;
        while d < width + height {
            let from = if d <= height { (x0, y0 + d) } else { (x0 + d - height, y1) };
            let to = if d <= width { (x0 + d, y0) } else { (x1, y0 + d - width) };
            area.draw(&PathElement::new([from, to], WHITE.mix(0.75).stroke_width(1)))?;
            d += HATCH;
        }
    }
    let lines: Vec<&str> = f.text.lines().collect();
    if !is_worded || !is_held(f, width as u32) {
        return Ok(());
    }
    let (middle, top) = (x0 + width / 2, y0 + (height - LINE as i32 * (lines.len() as i32 - 1)) / 2);
    let ink = ink_on(fill);
    for (i, line) in lines.iter().enumerate() {
        let y = top + i as i32 * LINE as i32;
        if f.is_hatched {
            // Words on hatching need a ground of their own.
            let half = text_px(line, 11) as i32 / 2;
            area.draw(&Rectangle::new([(middle - half, y - 7), (middle + half, y + 7)], fill.filled()))?;
        }
        let style = anchored(11, ink, HPos::Center, VPos::Center);
        area.draw(&Text::new((*line).to_owned(), (middle, y), style))?;
    }
    Ok(())
}

fn legend(area: &Area<'_>, g: &Grid, names: &[&str], ends: (f64, f64)) -> Drawn {
    let y = (above(g) + g.rows.len() as u32 * row_height(g) + 8) as i32;
    let style = || anchored(12, INK, HPos::Left, VPos::Center);
    if let Some(unit) = &g.unit {
        let x = 8;
        for i in 0..40 {
            let at = x + i * 3;
            let colour = ViridisRGB.get_color(i as f32 / 39.0);
            area.draw(&Rectangle::new([(at, y + 2), (at + 3, y + 14)], colour.filled()))?;
        }
        let number = crate::tables::number;
        let how = if g.is_log { ", logarithmic" } else { "" };
        let words = format!("{} to {} {unit}{how}", number(ends.0), number(ends.1));
        return area.draw(&Text::new(words, (x + 128, y + 8), style()));
    }
    let width = (WIDTH - 16) / 4;
    for (i, name) in names.iter().enumerate() {
        let x = 8 + (i as u32 % 4 * width) as i32;
        let y = y + (i as u32 / 4 * LEGEND) as i32;
        area.draw(&Rectangle::new([(x, y + 2), (x + 14, y + 14)], colour(i).filled()))?;
        area.draw(&Text::new(cut(name, 12, width - 30), (x + 20, y + 8), style()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Body, Figure};

    fn map(texts: [&str; 2]) -> String {
        let field = |column: usize| Field {
            column,
            row: 0,
            text: texts[column].to_owned(),
            value: None,
            name: Some(["map_order", "extents"][column].to_owned()),
            is_hatched: column == 0,
            note: String::new(),
        };
        let grid = Grid {
            is_log: false,
            x: "x".to_owned(),
            y: "y".to_owned(),
            columns: ["0", "1"].map(str::to_owned).to_vec(),
            rows: vec!["row".to_owned()],
            fields: vec![field(0), field(1)],
            unit: None,
        };
        let figure = Figure {
            id: "map-1".to_owned(),
            title: "A map".to_owned(),
            place: String::new(),
            body: Body::Grid(grid),
            left_out: Vec::new(),
        };
        super::super::svg(&figure).unwrap()
    }

    #[test]
    fn names_stand_in_all_fields_of_a_map_or_in_none_and_hatching_stays() {
        let hatches = |svg: &str| svg.matches("<polyline").count();
        let all = map(["short\nor one", "other\nnext"]);
        assert!(all.contains("or one") && all.contains("next"), "{all}");
        let none = map(["far longer than any field is wide\nor one", "other\nnext"]);
        assert!(!none.contains("or one") && !none.contains("next"), "{none}");
        assert!(hatches(&all) > 5 && hatches(&all) == hatches(&none));
    }
}
