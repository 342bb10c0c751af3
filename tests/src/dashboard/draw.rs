//! Panels as SVG.

use std::fmt::Write as _;

use super::ask::{Answer, Line, STEP};
use super::paint::{
    ALERT, ALERTS, CARD, COLOURS, EDGE, FAINT, FINE, GRID, GROUND, TEXT, axis, escaped, number,
};
use super::{Panel, Picture};

const WIDTH: f64 = 1200.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 76.0;
const STAT: f64 = 104.0;
const GRAPH: f64 = 250.0;
/// Within a graph: above for its title, below for time and legend.
const TOP: f64 = 42.0;
const BOTTOM: f64 = 62.0;
const SIDE: f64 = 56.0;

/// Where something is drawn.
#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

pub fn svg(title: &str, picture: &Picture<'_>, rows: &[Vec<Panel>], alerts: &[Answer]) -> String {
    let height = |row: &[Panel]| if row.iter().all(|panel| panel.is_stat) { STAT } else { GRAPH };
    let total = HEAD + rows.iter().map(|row| height(row) + GAP).sum::<f64>();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" width=\"{WIDTH}\" height=\"{total}\" \
         font-family=\"-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"11\">\n\
         <title>{0}</title>\n<rect width=\"{WIDTH}\" height=\"{total}\" rx=\"10\" fill=\"{GROUND}\"/>\n\
         <text x=\"20\" y=\"34\" font-size=\"20\" font-weight=\"600\" fill=\"{TEXT}\">{0}</text>\n\
         <text x=\"20\" y=\"56\" font-size=\"12.5\" fill=\"{FAINT}\">{1}</text>\n",
        escaped(title),
        escaped(picture.caption)
    );
    let bands = bands(alerts);
    let mut x = WIDTH - 20.0;
    for (at, (name, _)) in bands.iter().enumerate().rev() {
        let tint = ALERTS[at % ALERTS.len()];
        let text = format!("{name} fires");
        x -= 22.0 + 7.0 * text.len() as f64;
        writeln!(
            out,
            "<rect x=\"{x:.0}\" y=\"23\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{tint}\" fill-opacity=\".45\" stroke=\"{tint}\"/>\
             <text x=\"{:.0}\" y=\"33\" font-size=\"12.5\" fill=\"{TEXT}\">{}</text>",
            x + 18.0,
            escaped(&text)
        )
        .expect("a string takes it");
    }
    let mut y = HEAD;
    for row in rows {
        let width = (WIDTH - GAP * (row.len() as f64 + 1.0)) / row.len() as f64;
        for (column, panel) in row.iter().enumerate() {
            let place = Place { x: GAP + column as f64 * (width + GAP), y, width, height: height(row) };
            card(&mut out, place, &panel.title);
            match panel.is_stat {
                true => stat(&mut out, place, panel, picture),
                false => graph(&mut out, place, panel, picture, &bands),
            }
        }
        y += height(row) + GAP;
    }
    out.push_str("</svg>\n");
    out
}

/// When each alert fired.
fn bands(alerts: &[Answer]) -> Vec<(&str, Vec<(f64, f64)>)> {
    let runs = |alert: &Answer| {
        let mut runs: Vec<(f64, f64)> = Vec::new();
        for (at, _) in &alert.points {
            match runs.last_mut() {
                Some((_, end)) if at - *end <= STEP * 1.5 => *end = *at,
                _ => runs.push((*at, *at)),
            }
        }
        runs
    };
    alerts.iter().map(|alert| (alert.name.as_str(), runs(alert))).collect()
}

fn card(out: &mut String, place: Place, title: &str) {
    let Place { x, y, width, height } = place;
    // What there is room for, at 13 pixels.
    let room = ((width - 28.0) / 8.0) as usize;
    let title = match title.char_indices().nth(room) {
        Some((end, _)) => format!("{}…", title[..end].trim_end()),
        None => title.to_owned(),
    };
    writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" rx=\"6\" fill=\"{CARD}\" stroke=\"{EDGE}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13\" font-weight=\"600\" fill=\"{TEXT}\">{}</text>",
        x + 14.0,
        y + 23.0,
        escaped(&title)
    )
    .expect("a string takes it");
}

/// The latest value of each line, large, over its course.
fn stat(out: &mut String, place: Place, panel: &Panel, picture: &Picture<'_>) {
    let width = place.width / panel.lines.len().max(1) as f64;
    for (at, line) in panel.lines.iter().enumerate() {
        let x = place.x + at as f64 * width;
        let Some((_, latest)) = line.answer.points.last() else { continue };
        let most = line.answer.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let is_bad = |value: f64| panel.threshold.is_some_and(|bound| value >= bound);
        let colour = match panel.threshold {
            Some(_) if is_bad(*latest) => ALERT,
            Some(_) => FINE,
            None => TEXT,
        };
        let spark = Place { x: x + 1.0, y: place.y + 70.0, width: width - 2.0, height: 33.0 };
        let drawn = path(spark, picture, &line.answer.points, if most > 0.0 { most } else { 1.0 });
        let tint = if is_bad(most) { ALERT } else { COLOURS[0] };
        writeln!(
            out,
            "<path d=\"{drawn}\" fill=\"none\" stroke=\"{tint}\" stroke-opacity=\".7\"/>\
             <text x=\"{0:.1}\" y=\"{1:.1}\" font-size=\"30\" font-weight=\"600\" fill=\"{colour}\">{2}</text>\
             <text x=\"{3:.1}\" y=\"{1:.1}\" font-size=\"12\" fill=\"{FAINT}\">{4}{5}</text>",
            x + 14.0,
            place.y + 62.0,
            number(*latest, &line.unit),
            x + 22.0 + 19.5 * number(*latest, &line.unit).len() as f64,
            escaped(&line.answer.name),
            if is_bad(most) && !is_bad(*latest) { format!("; {} at most", number(most, &line.unit)) } else { String::new() }
        )
        .expect("a string takes it");
    }
}

fn graph(
    out: &mut String,
    place: Place,
    panel: &Panel,
    picture: &Picture<'_>,
    bands: &[(&str, Vec<(f64, f64)>)],
) {
    let has_right = panel.lines.iter().any(|line| line.is_right && !line.answer.points.is_empty());
    let inner = Place {
        x: place.x + SIDE,
        y: place.y + TOP,
        width: place.width - SIDE - if has_right { SIDE } else { 16.0 },
        height: place.height - TOP - BOTTOM,
    };
    let time = |at: f64| inner.x + (at - picture.from) / (picture.to - picture.from) * inner.width;
    let fired = bands.iter().enumerate().flat_map(|(at, (_, runs))| runs.iter().map(move |run| (at, run)));
    for (alert, (from, to)) in fired {
        let tint = ALERTS[alert % ALERTS.len()];
        write!(
            out,
            "<rect x=\"{0:.1}\" y=\"{1:.1}\" width=\"{2:.1}\" height=\"{3:.1}\" fill=\"{tint}\" fill-opacity=\".13\"/>\
             <path d=\"M{0:.1} {4:.1}h{2:.1}\" stroke=\"{tint}\" stroke-width=\"2\"/>",
            time(*from),
            inner.y,
            (time(*to) - time(*from)).max(2.0),
            inner.height,
            inner.y + 3.0 * alert as f64
        )
        .expect("a string takes it");
    }
    if panel.lines.iter().all(|line| line.answer.points.is_empty()) {
        let (x, y) = (inner.x + inner.width / 2.0, inner.y + inner.height / 2.0);
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"{FAINT}\">no data</text>"
        )
        .expect("a string takes it");
    }
    let shown = stacked(panel);
    let most = |right: bool| {
        let lines = panel.lines.iter().zip(&shown).filter(|(line, _)| line.is_right == right);
        lines.flat_map(|(_, points)| points).map(|(_, value)| *value).fold(0.0, f64::max)
    };
    let bound = panel.threshold.filter(|_| !panel.lines.is_empty());
    let (left, step) = axis(most(false).max(bound.unwrap_or(0.0)));
    let (right, _) = axis(most(true));
    let unit = |right: bool| panel.lines.iter().find(|line| line.is_right == right).map(|line| &*line.unit);
    let count = (left / step).round() as usize;
    for tick in 0..=count {
        let share = tick as f64 / count as f64;
        let y = inner.y + inner.height * (1.0 - share);
        write!(
            out,
            "<path d=\"M{:.1} {y:.1}h{:.1}\" stroke=\"{GRID}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{FAINT}\">{}</text>",
            inner.x,
            inner.width,
            inner.x - 6.0,
            y + 4.0,
            number(left * share, unit(false).unwrap_or_default())
        )
        .expect("a string takes it");
        if has_right {
            write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{FAINT}\">{}</text>",
                inner.x + inner.width + 6.0,
                y + 4.0,
                number(right * share, unit(true).unwrap_or_default())
            )
            .expect("a string takes it");
        }
    }
    times(out, inner, picture);
    if let Some(bound) = bound {
        let y = inner.y + inner.height * (1.0 - bound / left);
        write!(
            out,
            "<path d=\"M{:.1} {y:.1}h{:.1}\" stroke=\"{ALERT}\" stroke-dasharray=\"6 4\"/>",
            inner.x, inner.width
        )
        .expect("a string takes it");
    }
    let mut legend = inner.x - SIDE + 14.0;
    let mut row = place.y + place.height - 26.0;
    for (at, (line, points)) in panel.lines.iter().zip(&shown).enumerate() {
        let (colour, end) = (COLOURS[at % COLOURS.len()], if line.is_right { right } else { left });
        let drawn = path(inner, picture, points, end);
        if panel.is_stacked && !points.is_empty() {
            let floor = at.checked_sub(1).map(|below| shown[below].as_slice()).unwrap_or_default();
            let area = area(inner, picture, points, floor, end);
            write!(out, "<path d=\"{area}\" fill=\"{colour}\" fill-opacity=\".3\"/>")
                .expect("a string takes it");
        }
        let dash = if line.is_right { " stroke-dasharray=\"5 2\"" } else { "" };
        write!(out, "<path d=\"{drawn}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.7\" stroke-linejoin=\"round\"{dash}/>")
            .expect("a string takes it");
        let name = format!("{}{}", line.answer.name, if line.is_right { " (right)" } else { "" });
        let width = 26.0 + 6.1 * name.chars().count() as f64;
        if legend + width > place.x + place.width && legend > place.x + 20.0 {
            (legend, row) = (place.x + 14.0, row + 16.0);
        }
        writeln!(
            out,
            "<path d=\"M{legend:.1} {:.1}h12\" stroke=\"{colour}\" stroke-width=\"3\"{dash}/>\
             <text x=\"{:.1}\" y=\"{row:.1}\" fill=\"{TEXT}\">{}</text>",
            row - 4.0,
            legend + 17.0,
            escaped(&name)
        )
        .expect("a string takes it");
        legend += width;
    }
}

/// Seconds since the drill began.
fn times(out: &mut String, inner: Place, picture: &Picture<'_>) {
    let (_, step) = axis((picture.to - picture.from) * 0.8);
    let mut at = 0.0;
    while at <= picture.to - picture.from {
        let x = inner.x + at / (picture.to - picture.from) * inner.width;
        write!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{FAINT}\">{at:.0} s</text>",
            inner.y + inner.height + 16.0
        )
        .expect("a string takes it");
        at += step;
    }
}

/// What is drawn of each line: with stacking, on top of those before. Lines of a stack share their times.
fn stacked(panel: &Panel) -> Vec<Vec<(f64, f64)>> {
    let own = |line: &Line| line.answer.points.clone();
    if !panel.is_stacked {
        return panel.lines.iter().map(own).collect();
    }
    let mut below: Vec<(f64, f64)> = Vec::new();
    let mut shown = Vec::new();
    for line in &panel.lines {
        let under = |at: f64| below.iter().find(|(other, _)| *other == at).map_or(0.0, |(_, value)| *value);
        let on_top: Vec<_> = own(line).into_iter().map(|(at, value)| (at, value + under(at))).collect();
        if !on_top.is_empty() {
            below.clone_from(&on_top);
        }
        shown.push(on_top);
    }
    shown
}

fn spot(inner: Place, picture: &Picture<'_>, (at, value): (f64, f64), end: f64) -> (f64, f64) {
    let x = inner.x + (at - picture.from) / (picture.to - picture.from) * inner.width;
    (x, inner.y + inner.height * (1.0 - (value / end).clamp(0.0, 1.0)))
}

/// A line; it begins anew after a gap.
fn path(inner: Place, picture: &Picture<'_>, points: &[(f64, f64)], end: f64) -> String {
    let (mut out, mut before) = (String::new(), None);
    for point in points {
        let (x, y) = spot(inner, picture, *point, end);
        let goes_on = before.is_some_and(|at| point.0 - at <= STEP * 1.5);
        write!(out, "{}{x:.1} {y:.1}", if goes_on { 'L' } else { 'M' }).expect("a string takes it");
        before = Some(point.0);
    }
    out
}

/// What lies between a line and the one below.
fn area(
    inner: Place,
    picture: &Picture<'_>,
    points: &[(f64, f64)],
    floor: &[(f64, f64)],
    end: f64,
) -> String {
    let ground = |at: f64| floor.iter().find(|(other, _)| *other == at).map_or(0.0, |(_, value)| *value);
    let back = points.iter().rev().map(|(at, _)| (*at, ground(*at)));
    let mut out = String::new();
    for point in points.iter().copied().chain(back) {
        let (x, y) = spot(inner, picture, point, end);
        write!(out, "{}{x:.1} {y:.1}", if out.is_empty() { 'M' } else { 'L' }).expect("a string takes it");
    }
    out + "Z"
}
