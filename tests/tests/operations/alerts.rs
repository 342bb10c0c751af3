//! What `contrib/` and the runbooks say, held against a scrape of the demo.

use std::collections::{BTreeMap, BTreeSet};

use sluicegate_tests::repository::{files, read, root, within};
use toml::{Table, Value};
use yaml_rust2::Yaml;

use super::exposition::{MAY_BE_UNTOLD, catalogue, family_of};
use super::expression::{Place, all, rules, text, yaml};
use super::lint::World;
use super::running::scraped;
use super::scrape::{Metric, Type, metrics};

/// What the demo exposes, what others do, and what the rules record.
fn world() -> World {
    let mut recorded = BTreeSet::new();
    rules(|_, rule| recorded.extend(rule["record"].as_str().map(str::to_owned)));
    let mut scraped = metrics(scraped());
    for (metric, label, value) in later_values() {
        let labels = scraped.get_mut(&metric).and_then(|metric| metric.labels.get_mut(&label));
        labels.unwrap_or_else(|| panic!("{metric} has no label {label}")).insert(value);
    }
    let mut others = external();
    others.extend(declared(LATER));
    World { scraped, external: others, recorded }
}

/// Metric, label and value of what rules leave out already.
fn later_values() -> Vec<(String, String, String)> {
    let text = |entry: &Value, key| entry[key].as_str().expect("a text").to_owned();
    let values = tables(LATER, "value");
    values.iter().map(|entry| (text(entry, "metric"), text(entry, "label"), text(entry, "value"))).collect()
}

fn tables(path: &str, key: &str) -> Vec<Value> {
    let table: Table = read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    // There may be none any more.
    table.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts.map(|text| text.as_str().expect("a list of texts").to_owned()).collect()
}

fn external() -> BTreeMap<String, Metric> {
    declared("contrib/external-metrics.toml")
}

fn declared(path: &str) -> BTreeMap<String, Metric> {
    let entry = |entry: &Value| {
        let kind = match entry["type"].as_str() {
            Some("counter") => Type::Counter,
            Some("gauge") => Type::Gauge,
            other => panic!("{entry:?}: {other:?} is no type"),
        };
        let labels = texts(&entry["labels"]).into_iter().map(|label| (label, BTreeSet::new()));
        let name = entry["name"].as_str().expect("a metric has a name").to_owned();
        (name, Metric { kind, labels: labels.collect() })
    };
    tables(path, "metric").iter().map(entry).collect()
}

#[test]
fn whatever_is_asked_for_is_there() {
    let world = world();
    let mut found = Vec::new();
    for expression in all() {
        for fault in world.faults(&expression.text) {
            // Only a machine that tells has them.
            if !MAY_BE_UNTOLD.iter().any(|name| fault.ends_with(&format!("no metric {name}"))) {
                found.push(format!("{}: {fault}\n    {}", expression.at, expression.text));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Names of ours in a text, as words: `sfu_rooms`, not `sfu_worker_*`.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || "_:*".contains(c);
    let words = text.split(|c| !word(c));
    let ours = |name: &&str| {
        ["sfu_", "signaling_", "http_", "process_"].iter().any(|prefix| name.starts_with(prefix))
    };
    words.filter(ours).filter(|name| !name.contains([':', '*']) && !name.ends_with('_')).collect()
}

#[test]
fn whatever_a_page_mentions_is_there() {
    let (world, catalogue) = (world(), catalogue());
    // Rules' own names without a colon, and keys of slo.toml.
    let known = |name: &str| {
        catalogue.contains_key(name)
            || world.scraped.contains_key(name)
            || world.external.contains_key(name)
            || world.external.contains_key(&format!("{name}_bucket"))
            || world.recorded.contains(name)
            || ["http_latency_p95", "http_latency_p99", "http_success", "signaling_availability"]
                .contains(&name)
    };
    let mut pages = files("docs/runbooks", ".md");
    pages.extend(files("docs", ".md"));
    pages.extend(["README.md", "ARCHITECTURE.md", "contrib/README.md"].map(|page| root().join(page)));
    let mut wrong = Vec::new();
    for page in pages {
        let text = read(&page);
        let unknown = mentioned(&text).into_iter().filter(|name| !known(name));
        wrong.extend(unknown.map(|name| format!("{}: {name}", within(&page))));
    }
    assert!(wrong.is_empty(), "no such metric:\n{}", wrong.join("\n"));
    assert_eq!(mentioned("`sfu_roms{a=\"b\"}`, sfu_worker_*, job:sfu_x:rate"), BTreeSet::from(["sfu_roms"]));
}

#[test]
fn a_misspelt_name_anywhere_is_found() {
    let world = world();
    let names = all().into_iter().filter(|expression| expression.text.contains("sfu_"));
    let mut misspelt = 0;
    for expression in names {
        // One letter more in each name of ours that it selects, one at a time.
        let selected = World::names(&expression.text);
        for name in selected.into_iter().filter(|name| world.scraped.contains_key(name)) {
            let wrong = expression.text.replace(&name, &format!("{name}s"));
            let fault = format!("no metric {name}s");
            let faults = world.faults(&wrong);
            assert!(faults.contains(&fault), "{}: {wrong}: {faults:?}", expression.at);
            misspelt += 1;
        }
    }
    assert!(misspelt > 150, "{misspelt}");
}

#[test]
fn every_metric_has_a_panel_or_a_reason_to_have_none() {
    let catalogue = catalogue();
    let mut paneled = BTreeSet::new();
    for expression in all().into_iter().filter(|expression| expression.place == Place::Panel) {
        let names = World::names(&expression.text);
        paneled.extend(names.iter().filter_map(|name| family_of(&catalogue, name)).map(str::to_owned));
    }
    // What a panel reads through a rule is shown, too.
    let mut recorded = BTreeMap::new();
    rules(|_, rule| {
        if let Some(record) = rule["record"].as_str() {
            recorded.insert(record.to_owned(), World::names(&text(rule, "expr")));
        }
    });
    for expression in all().into_iter().filter(|expression| expression.place == Place::Panel) {
        for name in World::names(&expression.text) {
            let sources = recorded.get(&name).into_iter().flatten();
            paneled.extend(sources.filter_map(|name| family_of(&catalogue, name)).map(str::to_owned));
        }
    }
    let unpaneled: BTreeSet<String> = tables("contrib/grafana/unpaneled.toml", "metric")
        .iter()
        .map(|entry| {
            let why = entry["why"].as_str().expect("a reason");
            assert!(!why.is_empty());
            entry["name"].as_str().expect("a name").to_owned()
        })
        .collect();
    let all: BTreeSet<String> = catalogue.into_keys().collect();
    let forgotten: Vec<_> =
        all.iter().filter(|name| !paneled.contains(*name) && !unpaneled.contains(*name)).collect();
    assert!(forgotten.is_empty(), "on no panel, and not in unpaneled.toml: {forgotten:?}");
    let both: Vec<_> = unpaneled.intersection(&paneled).collect();
    assert!(both.is_empty(), "on a panel, and in unpaneled.toml: {both:?}");
    let gone: Vec<_> = unpaneled.difference(&all).collect();
    assert!(gone.is_empty(), "in unpaneled.toml, and no metric: {gone:?}");
}

#[test]
fn external_metrics_are_used_and_others() {
    let ours = metrics(scraped());
    let used: BTreeSet<String> = all().iter().flat_map(|expression| World::names(&expression.text)).collect();
    let external = external();
    let own: Vec<_> = external.keys().filter(|name| ours.contains_key(*name)).collect();
    assert!(own.is_empty(), "the demo's own: {own:?}");
    let unused: Vec<_> = external.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nothing names them: {unused:?}");
}

#[test]
fn what_is_left_for_later_is_not_there_yet() {
    let ours = metrics(scraped());
    let there: Vec<String> = declared(LATER).into_keys().filter(|name| ours.contains_key(name)).collect();
    assert!(there.is_empty(), "there by now: {there:?}");
    for (metric, label, value) in later_values() {
        assert!(!ours[&metric].labels[&label].contains(&value), "{metric} has {value} by now");
    }
    for alert in tables(LATER, "alert") {
        let missing = |needs: &String| {
            let (name, labels) = needs.split_once('{').unwrap_or((needs, ""));
            let label = labels.trim_end_matches('}').split_once('=');
            let values = ours.get(name).and_then(|metric| label.map(|(label, _)| metric.labels.get(label)));
            match (ours.get(name), label, values) {
                (Some(_), Some((_, value)), Some(values)) => {
                    !values.is_some_and(|values| values.contains(value.trim_matches('"')))
                }
                (found, ..) => found.is_none(),
            }
        };
        let needs = texts(&alert["needs"]);
        assert!(needs.iter().any(missing), "{:?} waits for nothing: write it", alert["name"]);
    }
}

const LATER: &str = "contrib/prometheus/later.toml";

/// An alert by its name, with what is wrong with its labels and annotations.
fn fault_of(rule: &Yaml) -> Option<String> {
    let name = rule["alert"].as_str()?;
    let annotations = &rule["annotations"];
    let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
    let summary = annotations["summary"].as_str().unwrap_or_default();
    let runbook = annotations["runbook_url"].as_str().unwrap_or_default();
    if !["page", "critical", "warning", "info"].contains(&severity) {
        return Some(format!("{name}: no severity {severity:?}"));
    }
    if summary.is_empty() {
        return Some(format!("{name}: no summary"));
    }
    if !runbook.starts_with("docs/runbooks/") || !root().join(runbook).is_file() {
        return Some(format!("{name}: no runbook {runbook:?}"));
    }
    let page = read(runbook);
    (!page.starts_with(&format!("# {name}\n"))).then(|| format!("{name}: {runbook} is another's"))
}

#[test]
fn every_alert_says_how_bad_what_and_what_to_do() {
    let (mut alerts, mut faults) = (0, Vec::new());
    rules(|file, rule| {
        alerts += usize::from(rule["alert"].as_str().is_some());
        faults.extend(fault_of(rule).map(|fault| format!("{file}: {fault}")));
    });
    assert!(alerts >= 29, "{alerts} alerts");
    assert_eq!(faults, [""; 0]);
}

#[test]
fn an_alert_that_says_less_is_found() {
    for (rule, fault) in [
        ("{alert: A, labels: {severity: bad}, annotations: {}}", "A: no severity \"bad\""),
        ("{alert: A, labels: {severity: page}, annotations: {runbook_url: x}}", "A: no summary"),
        (
            "{alert: A, labels: {severity: page}, annotations: {summary: s, runbook_url: docs/runbooks/A.md}}",
            "A: no runbook \"docs/runbooks/A.md\"",
        ),
        (
            "{alert: A, labels: {severity: page}, annotations: {summary: s, runbook_url: docs/runbooks/SFUPanic.md}}",
            "A: docs/runbooks/SFUPanic.md is another's",
        ),
    ] {
        let rule = &yaml_rust2::YamlLoader::load_from_str(rule).unwrap()[0];
        assert_eq!(fault_of(rule).as_deref(), Some(fault));
    }
}

#[test]
fn every_alert_has_a_case_that_fires_and_one_that_must_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for path in files("contrib/prometheus/tests", "_test.yml") {
        if within(&path).contains("first-wording") {
            continue;
        }
        for case in yaml(&path)[0]["tests"].as_vec().expect("a file of tests has tests") {
            for alert in case["alert_rule_test"].as_vec().into_iter().flatten() {
                let expected = alert["exp_alerts"].as_vec().map_or(0, Vec::len);
                let set = if expected > 0 { &mut fires } else { &mut silent };
                set.insert(text(alert, "alertname"));
            }
        }
    }
    rules(|_, rule| {
        if let Some(name) = rule["alert"].as_str() {
            assert!(fires.contains(name), "{name} never fires in a test");
            assert!(silent.contains(name), "{name} has no test in which it must not fire");
        }
    });
}
