//! Colours, letters and ticks.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels of a chart; a page scales it down.
pub(super) const WIDTH: u32 = 720;
/// Letters and axes, for a light ground.
pub(super) const INK: RGBColor = RGBColor(0x59, 0x63, 0x6e);
/// In its place where the reader prefers dark; each is still read on the other's ground, since a page may differ from
/// what its reader prefers.
pub(super) const DARK_INK: RGBColor = RGBColor(0x9a, 0xa4, 0xaf);
/// Colours with a contrast of 3 or more on white and on the dark of code forges, chosen so that the nearest two are as far
/// apart as can be, in OKLab, as they are and as those see them who lack red or green.
const PALETTE: [RGBColor; 9] = [
    RGBColor(0x63, 0x8a, 0xff),
    RGBColor(0xef, 0x6b, 0x13),
    RGBColor(0x31, 0xa8, 0x76),
    RGBColor(0xab, 0x35, 0x97),
    RGBColor(0x73, 0x43, 0xde),
    RGBColor(0x06, 0xa2, 0xc6),
    RGBColor(0xa3, 0x5f, 0x00),
    RGBColor(0xad, 0x44, 0x59),
    RGBColor(0x7a, 0x82, 0x90),
];
/// prepare, walk, fault, retry, consume.
pub(super) const STAGE_COLOURS: [RGBColor; 5] = [PALETTE[6], PALETTE[0], PALETTE[7], PALETTE[8], PALETTE[2]];

/// Of the `i`th design of a chart.
pub(super) fn colour(i: usize) -> RGBColor {
    PALETTE[i % PALETTE.len()]
}

/// Letters of so many pixels.
pub(super) fn text(px: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", px).into_font().color(&colour)
}

/// The same, to be placed by this point.
pub(super) fn anchored(px: u32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    text(px, colour).pos(Pos::new(h, v))
}

/// Of a letter, for each pixel that its size is given as: an SVG does not say which letters it will be shown with, and wide
/// ones (DejaVu, Verdana) take 0.58 of their size, which plotters writes as pixels / 1.24.
const LETTER: f64 = 0.48;

/// How wide a text is, about.
pub(super) fn text_px(text: &str, px: u32) -> u32 {
    (text.chars().count() as f64 * f64::from(px) * LETTER).ceil() as u32
}

/// Words in lines of so many pixels.
pub(super) fn lines(text: &str, px: u32, width: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_px(line, px) + text_px(word, px) + px / 2 <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// As much of a text as fits so many pixels.
pub(super) fn cut(text: &str, px: u32, width: u32) -> String {
    if text_px(text, px) <= width {
        return text.to_owned();
    }
    let fits = (f64::from(width) / (f64::from(px) * LETTER)) as usize;
    text.chars().take(fits.saturating_sub(1)).chain(['…']).collect()
}

/// Round numbers within a decade.
const STEPS: [&[f64]; 7] = [
    &[1.0],
    &[1.0, 3.0],
    &[1.0, 2.0, 5.0],
    &[1.0, 2.0, 3.0, 5.0],
    &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
    &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
    FINEST,
];
const FINEST: &[f64] =
    &[1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 9.5];

/// Round numbers between two ends, five or so; on a logarithmic scale the ends are logarithms and so are the places.
pub(super) fn ticks(is_log: bool, lo: f64, hi: f64) -> Vec<(f64, String)> {
    if is_log {
        let of = |steps: &[f64]| -> Vec<(f64, String)> {
            let decades = (lo.floor() as i32)..=(hi.ceil() as i32);
            let all = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            all.map(|x| (x.log10(), named(x))).filter(|(at, _)| (lo..=hi).contains(at)).collect()
        };
        // The coarsest that has four.
        return STEPS.iter().map(|s| of(s)).find(|t| t.len() >= 4).unwrap_or_else(|| of(FINEST));
    }
    let rough = (hi - lo) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
    let first = (lo / step).ceil() as i64;
    let last = (hi / step).floor() as i64;
    (first..=last).map(|i| i as f64 * step).map(|x| (x, named(x))).collect()
}

/// A tick's name, short.
fn named(x: f64) -> String {
    let short = |x: f64, unit: &str| {
        let text = format!("{x:.3}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match x.abs() {
        a if a >= 1e9 => short(x / 1e9, "G"),
        a if a >= 1e6 => short(x / 1e6, "M"),
        a if a >= 1e4 => short(x / 1e3, "k"),
        a if a >= 0.001 || a == 0.0 => short(x, ""),
        _ => format!("{x:.0e}"),
    }
}

/// Black or white, whichever is read more easily on this (the contrast of WCAG).
pub(super) fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    if luminance > 0.179 { BLACK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_between_the_ends_and_are_round() {
        for (is_log, lo, hi) in [
            (true, 0.0, 3.0),
            (true, -0.05, 0.05),
            (true, -0.52, 0.02),
            (true, 0.0, 0.37),
            (true, 0.3, 0.9),
            (true, -2.0, 6.0),
            (false, 0.0, 7.3),
            (false, -5.0, 1e6),
        ] {
            let ticks = ticks(is_log, lo, hi);
            assert!((3..=9).contains(&ticks.len()), "{is_log} {lo} {hi}: {ticks:?}");
            assert!(ticks.iter().all(|(x, _)| (lo..=hi).contains(x)));
        }
        assert_eq!(ticks(true, 0.0, 3.0).last().unwrap().1, "1000");
    }

    #[test]
    fn every_colour_is_seen_on_light_and_on_dark_and_letters_are_read_on_it() {
        let luminance = |RGBColor(r, g, b): RGBColor| {
            let linear = |c: u8| (f64::from(c) / 255.0).powf(2.2);
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        let contrast = |a: RGBColor, b: RGBColor| {
            let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
            a.max(b) / a.min(b)
        };
        for colour in PALETTE {
            for ground in [WHITE, RGBColor(0x0d, 0x11, 0x17)] {
                assert!(contrast(colour, ground) > 2.9, "{colour:?} on {ground:?}");
            }
            assert!(contrast(colour, ink_on(colour)) > 4.4, "{colour:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_short_ones_are_not() {
        assert_eq!(cut("map_order", 12, 200), "map_order");
        assert!(cut(&"x".repeat(100), 12, 100).chars().count() < 20);
        assert_eq!(lines("one two three", 12, 40).len(), 3);
    }
}
