//! A dashboard of `contrib/grafana`, drawn without Grafana: each panel's own queries, asked of a Prometheus, as one SVG.
//!
//! What is drawn is what Prometheus answered. A panel without an answer says so.

mod ask;
mod draw;
mod paint;

use std::io;

use serde_json::Value;

use crate::repository;
use ask::{Answer, Line};

/// What to draw, and of when.
pub struct Picture<'a> {
    /// `http://127.0.0.1:9090`.
    pub prometheus: &'a str,
    /// A file of `contrib/grafana`.
    pub dashboard: &'a str,
    /// Panels by their ids, row by row.
    pub rows: &'a [&'a [u64]],
    /// Seconds since the epoch.
    pub from: f64,
    pub to: f64,
    /// A line below the title: where this was seen.
    pub caption: &'a str,
    /// Changes an expression before it is asked: durations, where the rules have other ones.
    pub rewrite: &'a dyn Fn(&str) -> String,
}

/// One panel with what it shows.
struct Panel {
    title: String,
    is_stat: bool,
    is_stacked: bool,
    /// Above it is red, drawn as a dashed line.
    threshold: Option<f64>,
    lines: Vec<Line>,
}

impl Picture<'_> {
    /// The SVG.
    ///
    /// # Errors
    ///
    /// When Prometheus does not answer, or the dashboard is not what it was.
    pub fn draw(&self) -> io::Result<String> {
        let text = repository::read(format!("contrib/grafana/{}", self.dashboard));
        let dashboard: Value = serde_json::from_str(&text)?;
        let title = dashboard["title"].as_str().unwrap_or_default();
        let mut rows = Vec::new();
        for ids in self.rows {
            let panels: io::Result<Vec<Panel>> = ids.iter().map(|id| self.panel(&dashboard, *id)).collect();
            rows.push(panels?);
        }
        let mut alerts = Vec::new();
        for annotation in list(&dashboard["annotations"]["list"]) {
            if annotation["name"] == "alerts" {
                let expr = annotation["expr"].as_str().unwrap_or_default();
                alerts.extend(self.ask(expr, annotation["titleFormat"].as_str().unwrap_or_default())?);
            }
        }
        Ok(draw::svg(title, self, &rows, &alerts))
    }

    fn panel(&self, dashboard: &Value, id: u64) -> io::Result<Panel> {
        let panels = list(&dashboard["panels"]);
        let panel = panels.iter().find(|panel| panel["id"] == id);
        let panel = panel.ok_or_else(|| io::Error::other(format!("the dashboard has no panel {id}")))?;
        let defaults = &panel["fieldConfig"]["defaults"];
        let mut lines = Vec::new();
        for target in list(&panel["targets"]) {
            let own = |wanted: &str| property(panel, &target["refId"], wanted);
            let unit = own("unit").unwrap_or(&defaults["unit"]).as_str().unwrap_or_default().to_owned();
            let is_right = own("custom.axisPlacement").is_some_and(|side| side == "right");
            let expr = target["expr"].as_str().unwrap_or_default();
            let answers = self.ask(expr, target["legendFormat"].as_str().unwrap_or_default())?;
            lines.extend(answers.into_iter().map(|answer| Line { answer, unit: unit.clone(), is_right }));
        }
        let dashed = defaults["custom"]["thresholdsStyle"]["mode"].is_string();
        let steps = list(&defaults["thresholds"]["steps"]);
        let threshold = steps.iter().filter_map(|step| step["value"].as_f64()).next_back();
        Ok(Panel {
            title: panel["title"].as_str().unwrap_or_default().to_owned(),
            is_stat: panel["type"] == "stat",
            is_stacked: defaults["custom"]["stacking"]["mode"] == "normal",
            threshold: threshold.filter(|_| dashed || panel["type"] == "stat"),
            lines,
        })
    }

    fn ask(&self, expr: &str, legend: &str) -> io::Result<Vec<Answer>> {
        let variables = ["$job", "$region", "$instance"];
        let expr = variables.iter().fold(expr.to_owned(), |expr, variable| expr.replace(variable, ".*"));
        let expr = (self.rewrite)(&expr.replace("$__rate_interval", "1m"));
        ask::range(self.prometheus, &expr, legend, self.from, self.to)
    }
}

/// What a panel says of one of its targets alone.
fn property<'a>(panel: &'a Value, target: &Value, wanted: &str) -> Option<&'a Value> {
    let overrides = panel["fieldConfig"]["overrides"].as_array()?.iter();
    let mut own = overrides.filter(|other| other["matcher"]["options"] == *target);
    own.find_map(|other| {
        let properties = other["properties"].as_array()?;
        properties.iter().find(|property| property["id"] == wanted).map(|property| &property["value"])
    })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
