//! Figures of one or two servers as a table: medians, with the least and the most of several runs.

use crate::figures::{Figures, ROWS};

/// Prints a column for each server; of two, the ratio of the first to the second.
pub fn print(title: &str, servers: &[(String, Vec<Figures>)]) {
    let mut head = vec![title.to_owned()];
    head.extend(servers.iter().map(|(name, _)| name.clone()));
    if servers.len() == 2 {
        head.push("ratio".to_owned());
    }
    println!("| {} |", head.join(" | "));
    println!("|---{}|", "|--:".repeat(head.len() - 1));
    for (label, value, decimals) in ROWS {
        let columns: Vec<Option<Spread>> =
            servers.iter().map(|(_, runs)| Spread::of(runs.iter().filter_map(value))).collect();
        let empty = columns.iter().flatten().all(|spread| spread.most == 0.0);
        if label.starts_with('*') && empty || columns.iter().all(Option::is_none) {
            continue;
        }
        let mut cells = vec![label.trim_start_matches("* ").to_owned()];
        cells.extend(columns.iter().map(|spread| spread.map_or("–".to_owned(), |it| it.text(*decimals))));
        if let [Some(ours), Some(theirs)] = columns[..] {
            let ratio = ours.median / theirs.median;
            cells.push(if ratio.is_finite() { format!("{ratio:.2}") } else { "–".to_owned() });
        } else if columns.len() == 2 {
            cells.push("–".to_owned());
        }
        println!("| {} |", cells.join(" | "));
    }
}

/// Where several runs lie.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
    runs: usize,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, least, most, runs: values.len() })
    }

    fn text(&self, decimals: usize) -> String {
        let Spread { median, least, most, runs } = self;
        if *runs == 1 || least == most {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({least:.decimals$}–{most:.decimals$})")
    }
}

#[test]
fn a_spread_is_its_median_between_its_ends() {
    let spread = |values: &[f64]| Spread::of(values.iter().copied()).unwrap().text(1);
    assert_eq!(spread(&[3.0, 1.0, 2.0]), "2.0 (1.0–3.0)");
    assert_eq!(spread(&[1.0, 2.0]), "1.5 (1.0–2.0)");
    assert_eq!(spread(&[4.0]), "4.0");
    assert_eq!(Spread::of(std::iter::empty()), None);
}
