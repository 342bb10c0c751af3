//! An expression held against what there is.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};

use super::scrape::{Metric, Metrics, Type};

/// Everything that an expression may name.
pub struct World {
    pub scraped: Metrics,
    /// `external-metrics.toml`.
    pub external: BTreeMap<String, Metric>,
    /// What rules record.
    pub recorded: BTreeSet<String>,
}

/// What a selector's samples may be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    /// As they are.
    Nothing,
    /// `rate`, `increase`, `irate`.
    Rate,
    /// Only whether they are there, or when.
    Presence,
    /// Any other function of a range.
    Range,
}

impl World {
    /// What is wrong with it. Empty: nothing.
    pub fn faults(&self, text: &str) -> Vec<String> {
        match parser::parse(text) {
            Ok(expr) => {
                let mut faults = Vec::new();
                self.walk(&expr, Under::Nothing, &mut faults);
                faults
            }
            Err(error) => vec![format!("not PromQL: {error}")],
        }
    }

    /// Names that an expression selects.
    pub fn names(text: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if let Ok(expr) = parser::parse(text) {
            selectors(&expr, &mut |selector| names.extend(name_of(selector)));
        }
        names
    }

    fn walk(&self, expr: &Expr, under: Under, faults: &mut Vec<String>) {
        match expr {
            Expr::VectorSelector(selector) => self.check(selector, under, faults),
            Expr::MatrixSelector(matrix) => self.check(&matrix.vs, under, faults),
            Expr::Call(call) => {
                let inside = match call.func.name {
                    "rate" | "increase" | "irate" => Under::Rate,
                    "absent" | "absent_over_time" | "present_over_time" | "timestamp" | "resets" => {
                        Under::Presence
                    }
                    name if name.ends_with("_over_time") => Under::Range,
                    "delta" | "idelta" | "deriv" | "predict_linear" | "changes" => Under::Range,
                    // Works on what it is given: numbers, labels, quantiles.
                    _ => under,
                };
                for argument in &call.args.args {
                    if inside == Under::Rate && !matches!(**argument, Expr::MatrixSelector(_)) {
                        faults.push(format!("{} of what is no selector", call.func.name));
                    }
                    self.walk(argument, inside, faults);
                }
            }
            Expr::Aggregate(aggregate) => {
                self.check_labels(&aggregate.expr, aggregate.modifier.as_ref(), faults);
                let counts = matches!(aggregate.op.to_string().as_str(), "count" | "group");
                self.walk(&aggregate.expr, if counts { Under::Presence } else { under }, faults);
                if let Some(param) = &aggregate.param {
                    self.walk(param, under, faults);
                }
            }
            Expr::Binary(binary) => {
                if let Some(modifier) = &binary.modifier {
                    self.check_labels(expr, modifier.matching.as_ref(), faults);
                    for label in modifier.card.labels().into_iter().flat_map(|labels| &labels.labels) {
                        self.check_label(expr, label, faults);
                    }
                }
                self.walk(&binary.lhs, under, faults);
                self.walk(&binary.rhs, under, faults);
            }
            Expr::Unary(unary) => self.walk(&unary.expr, under, faults),
            Expr::Paren(paren) => self.walk(&paren.expr, under, faults),
            // What is inside has been made of points already.
            Expr::Subquery(subquery) => self.walk(&subquery.expr, Under::Nothing, faults),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }

    fn check(&self, selector: &VectorSelector, under: Under, faults: &mut Vec<String>) {
        let Some(name) = name_of(selector) else {
            faults.push("a selector without a name".to_owned());
            return;
        };
        if self.recorded.contains(&name) {
            if under == Under::Rate {
                faults.push(format!("{name} is recorded, and under rate"));
            }
            for matcher in &selector.matchers.matchers {
                if !self.is_known(&matcher.name) {
                    faults.push(format!("{name}: nothing has the label {}", matcher.name));
                }
            }
            return;
        }
        let Some(metric) = self.scraped.get(&name).or_else(|| self.external.get(&name)) else {
            faults.push(format!("no metric {name}"));
            return;
        };
        match (metric.kind, under) {
            (Type::Counter, Under::Nothing | Under::Range) => {
                faults.push(format!("{name} is a counter, and not under rate or increase"));
            }
            (Type::Gauge, Under::Rate) => faults.push(format!("{name} is a gauge, and under rate")),
            _ => {}
        }
        for matcher in &selector.matchers.matchers {
            faults.extend(fault_of(&name, metric, matcher));
        }
    }

    fn check_labels(&self, expr: &Expr, modifier: Option<&LabelModifier>, faults: &mut Vec<String>) {
        for label in modifier.into_iter().flat_map(|modifier| &modifier.labels().labels) {
            self.check_label(expr, label, faults);
        }
    }

    /// A label to group or to match by is one that something inside has.
    fn check_label(&self, expr: &Expr, label: &str, faults: &mut Vec<String>) {
        if TARGET.contains(&label) {
            return;
        }
        let mut found = false;
        selectors(expr, &mut |selector| {
            found |= match name_of(selector) {
                Some(name) if self.recorded.contains(&name) => self.is_known(label),
                Some(name) => {
                    let metric = self.scraped.get(&name).or_else(|| self.external.get(&name));
                    metric.is_none_or(|metric| metric.labels.contains_key(label))
                }
                None => false,
            };
        });
        if !found {
            faults.push(format!("nothing inside has the label {label}"));
        }
    }

    /// Whether anything at all has this label. What rules record keeps some of the labels of what they read.
    fn is_known(&self, label: &str) -> bool {
        let has = |metric: &Metric| metric.labels.contains_key(label);
        TARGET.contains(&label)
            || RECORDED.contains(&label)
            || self.scraped.values().any(has)
            || self.external.values().any(has)
    }
}

fn fault_of(name: &str, metric: &Metric, matcher: &Matcher) -> Option<String> {
    let label = matcher.name.as_str();
    if label == "__name__" || TARGET.contains(&label) {
        return None;
    }
    let Some(values) = metric.labels.get(label) else { return Some(format!("{name} has no label {label}")) };
    if OPEN.contains(&label) || matcher.value.contains('$') || values.is_empty() {
        return None;
    }
    let (known, wanted) = match &matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => (values.contains(&matcher.value), "is"),
        MatchOp::Re(regex) | MatchOp::NotRe(regex) => {
            (values.iter().any(|value| regex.is_match(value)), "matches")
        }
    };
    (!known).then(|| format!("no {label} of {name} {wanted} {:?}", matcher.value))
}

fn name_of(selector: &VectorSelector) -> Option<String> {
    let named = selector.matchers.matchers.iter().find(|matcher| matcher.name == "__name__");
    selector.name.clone().or_else(|| named.map(|matcher| matcher.value.clone()))
}

fn selectors(expr: &Expr, each: &mut impl FnMut(&VectorSelector)) {
    match expr {
        Expr::VectorSelector(selector) => each(selector),
        Expr::MatrixSelector(matrix) => each(&matrix.vs),
        Expr::Call(call) => call.args.args.iter().for_each(|argument| selectors(argument, each)),
        Expr::Aggregate(aggregate) => {
            selectors(&aggregate.expr, each);
            aggregate.param.iter().for_each(|param| selectors(param, each));
        }
        Expr::Binary(binary) => {
            selectors(&binary.lhs, each);
            selectors(&binary.rhs, each);
        }
        Expr::Unary(unary) => selectors(&unary.expr, each),
        Expr::Paren(paren) => selectors(&paren.expr, each),
        Expr::Subquery(subquery) => selectors(&subquery.expr, each),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// Labels that the scraper sets, and the one that `Metrics::register_many` adds.
const TARGET: [&str; 9] =
    ["job", "instance", "service", "env", "region", "cluster", "namespace", "pod", "engine"];

/// Labels that rules set on what they record.
const RECORDED: [&str; 2] = ["tier", "slo"];

/// Labels whose values differ from one machine or build to the next.
const OPEN: [&str; 4] = ["worker", "version", "backend", "features"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::metrics;

    fn world() -> World {
        let text = "# TYPE sfu_nacks counter\nsfu_nacks_total{direction=\"in\",kind=\"audio\"} 0\n\
            # TYPE sfu_bitrate_out_bits gauge\nsfu_bitrate_out_bits 0\n\
            # TYPE sfu_join_seconds histogram\nsfu_join_seconds_bucket{le=\"2.0\",stage=\"total\"} 0\n\
            sfu_join_seconds_count{stage=\"total\"} 0\n\
            # TYPE http_requests counter\nhttp_requests_total{method=\"get\",code=\"503\"} 0\n\
            # TYPE sfu_worker_handles gauge\nsfu_worker_handles{worker=\"0\"} 0\n";
        let node =
            Metric { kind: Type::Counter, labels: BTreeMap::from([("mode".to_owned(), BTreeSet::new())]) };
        World {
            scraped: metrics(text),
            external: BTreeMap::from([("node_cpu_seconds_total".to_owned(), node)]),
            recorded: BTreeSet::from(["job:http_requests:rate5m".to_owned()]),
        }
    }

    #[test]
    fn what_is_right_passes() {
        for right in [
            "sum by (kind) (rate(sfu_nacks_total{direction=\"in\",job=~\".*\"}[1m])) > 10",
            "histogram_quantile(0.95, sum by (le, stage) (rate(sfu_join_seconds_bucket[5m])))",
            "1 - rate(sfu_join_seconds_bucket{le=\"2.0\",stage=\"total\"}[5m]) / ignoring(le) rate(sfu_join_seconds_count[5m])",
            "sum(rate(http_requests_total{code=~\"5..\"}[5m]))",
            "avg without (mode) (rate(node_cpu_seconds_total{mode=\"idle\"}[1m]))",
            "max_over_time(sfu_bitrate_out_bits[1h]) > 0",
            "max_over_time(job:http_requests:rate5m{region=\"eu\"}[1h] offset 1d)",
            "max(sfu_worker_handles{worker=\"17\"})",
            "count(sfu_nacks_total)",
            "max_over_time(rate(sfu_nacks_total[1m])[1h:1m])",
        ] {
            assert_eq!(world().faults(right), [""; 0], "{right}");
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        for (wrong, fault) in [
            ("rate(sfu_nack_total[1m])", "no metric sfu_nack_total"),
            ("rate(sfu_nacks[1m])", "no metric sfu_nacks"),
            ("rate(sfu_nacks_total{dir=\"in\"}[1m])", "sfu_nacks_total has no label dir"),
            ("rate(sfu_nacks_total{direction=\"inn\"}[1m])", "no direction of sfu_nacks_total is \"inn\""),
            ("rate(sfu_nacks_total{kind=~\"vid.*\"}[1m])", "no kind of sfu_nacks_total matches \"vid.*\""),
            ("rate(sfu_join_seconds_bucket{le=\"2\"}[5m])", "no le of sfu_join_seconds_bucket is \"2\""),
            (
                "rate(http_requests_total{code=~\"6..\"}[5m])",
                "no code of http_requests_total matches \"6..\"",
            ),
            ("rate(sfu_bitrate_out_bits[1m]) == 0", "sfu_bitrate_out_bits is a gauge, and under rate"),
            ("sum(sfu_nacks_total)", "sfu_nacks_total is a counter, and not under rate or increase"),
            (
                "max_over_time(sfu_nacks_total[1h])",
                "sfu_nacks_total is a counter, and not under rate or increase",
            ),
            ("delta(sfu_nacks_total[1h])", "sfu_nacks_total is a counter, and not under rate or increase"),
            ("rate(job:http_requests:rate5m[1m])", "job:http_requests:rate5m is recorded, and under rate"),
            ("job:http_request:rate5m", "no metric job:http_request:rate5m"),
            (
                "job:http_requests:rate5m{methd=\"get\"}",
                "job:http_requests:rate5m: nothing has the label methd",
            ),
            ("sum by (kinds) (rate(sfu_nacks_total[1m]))", "nothing inside has the label kinds"),
            ("sum without (wrker) (sfu_worker_handles)", "nothing inside has the label wrker"),
            (
                "rate(sfu_nacks_total[1m]) / on (kimd) rate(sfu_nacks_total[1m])",
                "nothing inside has the label kimd",
            ),
            ("rate(node_cpu_seconds_total{mod=\"idle\"}[1m])", "node_cpu_seconds_total has no label mod"),
            ("node_cpu_seconds_total", "node_cpu_seconds_total is a counter, and not under rate or increase"),
            ("rate(max_over_time(sfu_bitrate_out_bits[1m])[5m:])", "rate of what is no selector"),
            ("{job=\"sfu\"}", "a selector without a name"),
        ] {
            let faults = world().faults(wrong);
            assert!(faults.iter().any(|found| found == fault), "{wrong}: {faults:?}");
        }
        assert!(world().faults("sum(rate(sfu_nacks_total[1m])")[0].starts_with("not PromQL"));
    }
}
