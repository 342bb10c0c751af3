//! What Prometheus answers to a panel's query.

use std::io;

use serde_json::Value;
use sluicegate_benches::http;

/// A line of a panel.
pub struct Line {
    pub answer: Answer,
    /// As Grafana calls it: `percent`, `bps`.
    pub unit: String,
    /// It is read by the axis on the right.
    pub is_right: bool,
}

/// A series: its name in the legend, and its values over time.
pub struct Answer {
    pub name: String,
    /// Seconds since the epoch, and the value. Gaps are gaps.
    pub points: Vec<(f64, f64)>,
}

/// So many seconds lie between two values.
pub const STEP: f64 = 1.0;

/// Asks for an expression from one moment to another.
pub fn range(prometheus: &str, expr: &str, legend: &str, from: f64, to: f64) -> io::Result<Vec<Answer>> {
    let escaped: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!("{prometheus}/api/v1/query_range?query={escaped}&start={from}&end={to}&step={STEP}");
    let answer: Value = serde_json::from_str(&http::get(&url)?.body)?;
    let Some(series) = answer["data"]["result"].as_array() else {
        return Err(io::Error::other(format!("{expr}: {}", answer["error"])));
    };
    Ok(series.iter().map(|series| Answer { name: name(legend, series), points: points(series) }).collect())
}

/// `{{result}}` and the like, put in.
fn name(legend: &str, series: &Value) -> String {
    let mut name = legend.to_owned();
    for (label, value) in series["metric"].as_object().into_iter().flatten() {
        name = name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
    }
    name
}

fn points(series: &Value) -> Vec<(f64, f64)> {
    let values = series["values"].as_array().into_iter().flatten();
    let values = values.filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_str()?.parse::<f64>().ok()?)));
    values.filter(|(_, value)| value.is_finite()).collect()
}
