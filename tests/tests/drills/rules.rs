//! The rules of `contrib/`, faster.

use std::time::Duration;

/// How much.
pub const FASTER: u32 = 15;

/// A file of rules with every duration divided: `[1m]`, `offset 10m`, `for: 1m`, `interval: 15s`.
pub fn faster(text: &str) -> String {
    pieces(text, |duration| format!("{}ms", (duration / FASTER).as_millis()))
}

/// The text with its durations put differently. A duration stands alone: `rate1m` in a name is none.
fn pieces(text: &str, put: impl Fn(Duration) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let in_word = before.is_ascii_alphanumeric() || "_.".contains(before);
        if let Some((duration, after)) = (!in_word).then(|| leading(rest)).flatten() {
            out.push_str(&put(duration));
            rest = after;
            before = 's';
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            before = first;
        }
    }
    out
}

/// The duration that a text begins with, and what follows it.
fn leading(text: &str) -> Option<(Duration, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
    let (count, rest) = text.split_at(digits);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (after, scale) = units.iter().find_map(|(unit, scale)| Some((rest.strip_prefix(unit)?, scale)))?;
    let ends = !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let count: u64 = count.parse().ok()?;
    ends.then_some((Duration::from_millis(count * scale), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_divided_and_nothing_else() {
        let rule = "- record: instance:sfu_nacks_in:rate1m\n  expr: rate(x{le=\"0.5\"}[1m] offset 10m) > 2 # 5 min\n  for: 15s\n";
        let expected = "- record: instance:sfu_nacks_in:rate1m\n  expr: rate(x{le=\"0.5\"}[4000ms] offset 40000ms) > 2 # 5 min\n  for: 1000ms\n";
        assert_eq!(faster(rule), expected);
        for file in ["sfu-recording.yml", "sfu-alerts.yml", "host-recording.yml", "slo-prod.yml"] {
            let text = crate::prometheus::rule_file(file);
            let blank = |text: &str| pieces(text, |_| "DURATION".to_owned());
            assert_eq!(blank(&faster(&text)), blank(&text), "{file}");
            assert_ne!(faster(&text), text, "{file}");
        }
    }
}
