//! Colours, numbers with their units, and round numbers for axes.

/// Told apart by people who see colours differently, too (Okabe and Ito), lightened for a dark ground.
pub const COLOURS: [&str; 8] =
    ["#56b4e9", "#e69f00", "#3fc28f", "#f0e442", "#d78fc0", "#ee7733", "#88a8ff", "#bbbbbb"];

pub const GROUND: &str = "#111217";
pub const CARD: &str = "#1a1c22";
pub const EDGE: &str = "#2c2f38";
pub const GRID: &str = "#2a2d36";
pub const TEXT: &str = "#e3e5ee";
pub const FAINT: &str = "#9aa0ae";
pub const ALERT: &str = "#ff5c57";
/// Of several alerts, one after the other.
pub const ALERTS: [&str; 4] = [ALERT, "#ffb454", "#b18cff", "#4fd1c5"];
pub const FINE: &str = "#3fc28f";

/// A value as people read it.
pub fn number(value: f64, unit: &str) -> String {
    match unit {
        "percent" => format!("{}%", short(value)),
        "percentunit" => format!("{}%", short(value * 100.0)),
        "s" if value.abs() < 0.001 && value != 0.0 => format!("{} µs", short(value * 1e6)),
        "s" if value.abs() < 1.0 && value != 0.0 => format!("{} ms", short(value * 1e3)),
        "s" => format!("{} s", short(value)),
        "bps" => scaled(value, "b/s"),
        "Bps" => scaled(value, "B/s"),
        "ops" | "reqps" | "pps" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

fn scaled(value: f64, unit: &str) -> String {
    let steps = [(1e9, " G"), (1e6, " M"), (1e3, " k"), (0.0, " ")];
    let (scale, letter) = steps.into_iter().find(|(scale, _)| value.abs() >= *scale).unwrap_or((0.0, " "));
    format!("{}{letter}{unit}", short(value / f64::max(scale, 1.0)))
}

/// Three digits that matter.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The end of an axis from 0 that holds `most`, and its step: 1, 2 or 5 times a power of ten, four steps at most.
pub fn axis(most: f64) -> (f64, f64) {
    let most = if most > 0.0 { most } else { 1.0 };
    let power = 10_f64.powf((most / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|step| step * 4.0 >= most);
    let step = step.unwrap_or(10.0 * power);
    ((most / step).ceil() * step, step)
}

/// A text within XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_units() {
        for (value, unit, text) in [
            (82.04, "percent", "82%"),
            (0.0712, "percentunit", "7.12%"),
            (0.0, "s", "0 s"),
            (0.000_25, "s", "250 µs"),
            (0.0035, "s", "3.5 ms"),
            (1_530_000.0, "bps", "1.53 Mb/s"),
            (12.0, "ops", "12/s"),
            (7.0, "short", "7"),
        ] {
            assert_eq!(number(value, unit), text);
        }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(axis(0.0), (1.0, 0.5));
        assert_eq!(axis(97.0), (100.0, 50.0));
        assert_eq!(axis(80.0), (80.0, 20.0));
        let (end, step) = axis(0.071);
        assert!((end - 0.08).abs() < 1e-9 && (step - 0.02).abs() < 1e-9, "{end} {step}");
    }
}
