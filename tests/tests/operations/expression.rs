//! Every expression that the repository gives an operator, and where it stands.

use std::path::Path;

use serde_json::Value;
use sluicegate_tests::repository::{files, read, within};
use yaml_rust2::{Yaml, YamlLoader};

/// One expression.
#[derive(Clone, Debug)]
pub struct Expression {
    /// File and title, for people.
    pub at: String,
    pub place: Place,
    /// With Grafana's and the console's variables put in.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Rule,
    Panel,
    Console,
    Adapter,
    Runbook,
}

/// All of them.
pub fn all() -> Vec<Expression> {
    let mut found = Vec::new();
    rules(|at, rule| found.push(new(at, Place::Rule, &text(rule, "expr"))));
    for path in files("contrib/grafana", ".json") {
        let dashboard: Value = serde_json::from_str(&read(&path)).expect("a dashboard is JSON");
        collect_panels(&within(&path), &dashboard, &mut found);
    }
    console(&mut found);
    let adapter = yaml("contrib/k8s/prometheus-adapter.yaml");
    for rule in adapter[0]["rules"]["custom"].as_vec().expect("the adapter has rules") {
        found.push(new("prometheus-adapter.yaml", Place::Adapter, &text(rule, "seriesQuery")));
    }
    for path in files("docs/runbooks", ".md") {
        runbook(&path, &mut found);
    }
    found
}

/// Each rule of `contrib/prometheus/rules`, with the name of its file.
pub fn rules(mut each: impl FnMut(&str, &Yaml)) {
    for path in files("contrib/prometheus/rules", ".yml") {
        for document in yaml(&path) {
            for group in document["groups"].as_vec().expect("a file of rules has groups") {
                let rules = group["rules"].as_vec().expect("a group has rules");
                rules.iter().for_each(|rule| each(&within(&path), rule));
            }
        }
    }
}

/// A file of YAML documents.
pub fn yaml(path: impl AsRef<Path>) -> Vec<Yaml> {
    YamlLoader::load_from_str(&read(&path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A text of a rule.
pub fn text(rule: &Yaml, key: &str) -> String {
    rule[key].as_str().unwrap_or_else(|| panic!("no {key}: {rule:?}")).to_owned()
}

fn new(at: &str, place: Place, text: &str) -> Expression {
    let text = [
        ("$__rate_interval", "1m"),
        ("$__interval", "1m"),
        ("$__range", "1h"),
        ("$range", "1h"),
        ("%s", "x"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value));
    Expression { at: at.to_owned(), place, text }
}

fn collect_panels(file: &str, dashboard: &Value, found: &mut Vec<Expression>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for panel in list(&dashboard["panels"]) {
        let title = format!("{file}, {}", panel["title"].as_str().unwrap_or("no title"));
        for target in list(&panel["targets"]) {
            let text = target["expr"].as_str().unwrap_or_else(|| panic!("{title}: no expr"));
            found.push(new(&title, Place::Panel, text));
        }
        // Folded rows hold their panels.
        collect_panels(file, &panel, found);
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        if let Some(text) = annotation["expr"].as_str() {
            found.push(new(&format!("{file}, annotation"), Place::Panel, text));
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        if let Some(text) = variable["definition"].as_str() {
            let inner = text.strip_prefix("label_values(").and_then(|text| text.strip_suffix(')'));
            let (selector, label) =
                inner.and_then(|inner| inner.rsplit_once(',')).expect("label_values(…, label)");
            // What it asks for is a grouping by that label.
            let text = format!("group by ({}) ({selector})", label.trim());
            found.push(new(&format!("{file}, variable"), Place::Panel, &text));
        }
    }
}

fn console(found: &mut Vec<Expression>) {
    let at = "contrib/prometheus/consoles/sfu.html";
    let page = read(at);
    let graphs = page.split_once("id=\"graphs\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let graphs: Value =
        serde_json::from_str(graphs.expect("the console has graphs").0).expect("they are JSON");
    let before = found.len();
    expressions_in(&graphs, &mut |text| found.push(new(at, Place::Console, text)));
    assert!(found.len() > before, "the console's graphs have expressions");
    // Strings of the template, with their quotes escaped: query "…", query (printf "…" $at).
    for piece in page.split("query ").skip(1) {
        let piece = piece.strip_prefix("(printf ").unwrap_or(piece);
        if let Some(quoted) = piece.strip_prefix('"') {
            let quoted = quoted.replace("\\\"", "\u{0}");
            let (text, _) = quoted.split_once('"').expect("a string ends");
            found.push(new(at, Place::Console, &text.replace('\u{0}', "\"")));
        }
    }
}

fn expressions_in(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr", Value::String(text)) => each(text),
                    _ => expressions_in(value, each),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions_in(value, each)),
        _ => {}
    }
}

fn runbook(path: &Path, found: &mut Vec<Expression>) {
    let mut inside = false;
    for line in read(path).lines() {
        match line.trim() {
            "```promql" => inside = true,
            "```" => inside = false,
            text if inside && !text.is_empty() && !text.starts_with('#') => {
                found.push(new(&within(path), Place::Runbook, text));
            }
            _ => {}
        }
    }
}

#[test]
fn every_place_has_some() {
    let found = all();
    for (place, at_least) in [
        (Place::Rule, 100),
        (Place::Panel, 100),
        (Place::Console, 25),
        (Place::Adapter, 1),
        (Place::Runbook, 80),
    ] {
        let count = found.iter().filter(|expression| expression.place == place).count();
        assert!(count >= at_least, "{count} in {place:?}");
    }
}
