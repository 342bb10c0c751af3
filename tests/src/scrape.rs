//! A scrape, read.

/// The sum of all series of this name that carry these labels: `sum("sfu_plis_total", &[("direction", "in")])`.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        let fits = found == name && wanted.iter().all(|wanted| labels.contains(&wanted.as_str()));
        fits.then(|| value.parse::<f64>().ok().map(|value| value as u64))?
    });
    series.sum()
}

#[test]
fn labels_choose_the_series() {
    let text = "# TYPE a counter\na_total{kind=\"x\",way=\"in\"} 1\na_total{way=\"in\",kind=\"y\"} 2\nb 7\n";
    assert_eq!(sum(text, "a_total", &[]), 3);
    assert_eq!(sum(text, "a_total", &[("kind", "y")]), 2);
    assert_eq!(sum(text, "b", &[]), 7);
}
