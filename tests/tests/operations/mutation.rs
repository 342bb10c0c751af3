//! Each number and each `for` of each alert, moved up and moved down: a case of promtool's must fail for every one. An
//! alert whose bound can be moved unnoticed has a bound that nobody has tested.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};
use sluicegate_tests::repository::{files, within};
use yaml_rust2::Yaml;

use super::expression::yaml;

/// A file of rules with one change.
struct Mutant {
    /// The file, and what is changed in it.
    file: String,
    alert: String,
    change: String,
    rules: Value,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.file, self.alert, self.change)
    }
}

/// YAML as JSON, which is YAML too.
fn as_json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(text) | Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Array(items) => items.iter().map(as_json).collect(),
        Yaml::Hash(pairs) => {
            let key = |key: &Yaml| key.as_str().expect("keys are texts").to_owned();
            Value::Object(
                pairs.iter().map(|(name, value)| (key(name), as_json(value))).collect::<Map<_, _>>(),
            )
        }
        _ => Value::Null,
    }
}

/// The files of a folder, by their names.
fn loaded(folder: &str, end: &str) -> Vec<(String, Value)> {
    files(folder, end).iter().map(|path| (within(path), as_json(&yaml(path)[0]))).collect()
}

/// The tiers are rendered from one template: one of them stands for all.
fn is_another_tier(file: &str) -> bool {
    file.contains("slo-stage") || file.contains("slo-dev")
}

/// Where the numbers of an expression are that could be others: no durations, no names, nothing in quotes.
fn numbers(expr: &str) -> Vec<Range<usize>> {
    let bytes = expr.as_bytes();
    let (mut found, mut at, mut quoted) = (Vec::new(), 0, false);
    while at < bytes.len() {
        let starts = bytes[at].is_ascii_digit();
        let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || b"_:.".contains(&bytes[at - 1]));
        quoted ^= bytes[at] == b'"';
        if !starts || in_word || quoted {
            at += 1;
            continue;
        }
        let rest = &bytes[at..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        // A duration, or the whole of which a share is left: `1 - x`.
        let is_other = rest.get(len).is_some_and(u8::is_ascii_alphabetic) || expr[at..].starts_with("1 - ");
        if !is_other {
            found.push(at..at + len);
        }
        at += len;
    }
    found
}

/// More and less of it, by half. What is counted in ones is moved by one at least.
fn moved(number: &str) -> [String; 2] {
    match number.parse::<i64>() {
        Ok(count) if count < 10 => {
            let step = (count / 2).max(1);
            [count + step, count - step].map(|it| it.to_string())
        }
        _ => {
            let value: f64 = number.parse().expect("it reads like a number");
            [value * 1.5, value / 1.5].map(|it| it.to_string())
        }
    }
}

/// `for: 2m` as seconds.
fn seconds(duration: &str) -> u64 {
    let (count, unit) = duration.split_at(duration.len() - 1);
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => panic!("{duration}: no unit that we use"),
    };
    count.parse::<u64>().expect("a duration has a number") * scale
}

/// Every change of every alert.
fn mutants(files: &[(String, Value)]) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (file, rules) in files.iter().filter(|(file, _)| !is_another_tier(file)) {
        let list = |value: &Value| value.as_array().map_or(0, Vec::len);
        for group in 0..list(&rules["groups"]) {
            for rule in 0..list(&rules["groups"][group]["rules"]) {
                let at = &rules["groups"][group]["rules"][rule];
                let Some(alert) = at["alert"].as_str() else { continue };
                let mut change = |key: &str, value: String, change: String| {
                    let mut rules = rules.clone();
                    rules["groups"][group]["rules"][rule][key] = Value::from(value);
                    mutants.push(Mutant { file: file.clone(), alert: alert.to_owned(), change, rules });
                };
                let expr = at["expr"].as_str().expect("an alert has an expression");
                for range in numbers(expr) {
                    let (before, number, after) =
                        (&expr[..range.start], &expr[range.clone()], &expr[range.end..]);
                    for other in moved(number) {
                        let words: Vec<&str> = before.split_whitespace().collect();
                        let near = words[words.len().saturating_sub(3)..].join(" ");
                        let text = format!("… {near} {number} becomes {other}");
                        change("expr", format!("{before}{other}{after}"), text);
                    }
                }
                if let Some(time) = at["for"].as_str() {
                    for other in [seconds(time) * 2, seconds(time) / 2] {
                        change("for", format!("{other}s"), format!("for: {time} becomes {other}s"));
                    }
                }
            }
        }
    }
    mutants
}

/// A file of tests and the rules that it loads.
struct Case {
    /// Cases close to a bound are asked first, those that play hours last.
    round: usize,
    test: Value,
    rules: Value,
}

/// The cases that ask for an alert of a file, which is `changed`. Of the rules, what the alert does not read is left out:
/// promtool takes minutes for all of them.
fn cases(
    tests: &[(String, Value)],
    rules: &[(String, Value)],
    file: &str,
    alert: &str,
    changed: &Value,
) -> Vec<Case> {
    let name = |path: &str| path.rsplit('/').next().expect("a path has a name").to_owned();
    let mut found = Vec::new();
    for (path, test) in tests {
        let loaded = test["rule_files"].as_array().expect("it loads rules");
        let loaded: Vec<String> = loaded.iter().filter_map(|path| Some(name(path.as_str()?))).collect();
        if !loaded.contains(&name(file)) {
            continue;
        }
        let mut test = test.clone();
        let kept = test["tests"].as_array_mut().expect("it has cases");
        for case in kept.iter_mut() {
            case.as_object_mut().expect("a case is a map").remove("promql_expr_test");
            let asked = case["alert_rule_test"].as_array_mut();
            asked.into_iter().for_each(|asked| asked.retain(|it| it["alertname"] == alert));
        }
        kept.retain(|case| case["alert_rule_test"].as_array().is_some_and(|asked| !asked.is_empty()));
        if kept.is_empty() {
            continue;
        }
        let groups = rules.iter().filter(|(file, _)| loaded.contains(&name(file)));
        let groups = groups.flat_map(|(other, rules)| {
            let rules = if other == file { changed } else { rules };
            rules["groups"].as_array().cloned().unwrap_or_default()
        });
        let groups = trimmed(groups.collect(), alert);
        let order = test["group_eval_order"].as_array_mut().into_iter();
        order.for_each(|order| order.retain(|name| groups.iter().any(|group| group["name"] == *name)));
        let round = if path.contains("-long_") { 2 } else { usize::from(!path.contains("-bounds_")) };
        found.push(Case { round, test, rules: json!({ "groups": groups }) });
    }
    found
}

/// What is left of groups of rules if one alert alone is to be judged.
fn trimmed(mut groups: Vec<Value>, alert: &str) -> Vec<Value> {
    let all: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array()).flatten().cloned().collect();
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut read: Vec<Value> = all.iter().filter(|rule| rule["alert"] == alert).cloned().collect();
    while let Some(rule) = read.pop() {
        let expr = rule["expr"].as_str().expect("a rule has an expression");
        for other in &all {
            let Some(name) = other["record"].as_str().filter(|name| expr.contains(name)) else { continue };
            // A name may be recorded by several rules.
            if !needed.contains(name) {
                read.extend(all.iter().filter(|rule| rule["record"] == name).cloned());
                needed.insert(name.to_owned());
            }
        }
    }
    for group in &mut groups {
        let rules = group["rules"].as_array_mut().expect("a group has rules");
        let is_needed = |rule: &Value| rule["record"].as_str().is_some_and(|name| needed.contains(name));
        rules.retain(|rule| rule["alert"] == alert || is_needed(rule));
    }
    groups.retain(|group| group["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
    groups
}

/// One process of it: which of the files of tests fail.
fn promtool(folder: &Path, tests: &[String]) -> BTreeSet<String> {
    // It names a file on one stream, and says on the other that it failed: both into one.
    let said = folder.join(format!("said-{}", tests[0]));
    let (out, err) = (
        fs::OpenOptions::new().create(true).append(true).open(&said).unwrap(),
        fs::OpenOptions::new().append(true).open(&said).unwrap(),
    );
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules"]).args(tests).current_dir(folder).stdout(out).stderr(err);
    promtool.status().expect("promtool has run before");
    let said = fs::read_to_string(&said).unwrap();
    let (mut failing, mut tested, mut of) = (BTreeSet::new(), 0, None);
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("Unit Testing:") {
            (tested, of) = (tested + 1, Some(name.trim().to_owned()));
        } else if line.trim() == "FAILED:" {
            failing.extend(of.take());
        }
    }
    assert_eq!(tested, tests.len(), "{said}");
    failing
}

#[test]
#[ignore = "a minute or two of promtool"]
fn no_bound_of_an_alert_can_be_moved_unnoticed() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: promtool is not installed (Debian package `prometheus`)").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| fs::write(folder.path().join(name), value.to_string()).unwrap();
    let (rules, tests) =
        (loaded("contrib/prometheus/rules", ".yml"), loaded("contrib/prometheus/tests", "_test.yml"));
    let mutants = mutants(&rules);
    assert!(mutants.len() > 200, "{} mutants", mutants.len());
    let write_all = |what: &str, cases: Vec<Case>| {
        let mut written = [const { Vec::new() }; 3];
        for (part, mut case) in cases.into_iter().enumerate() {
            let (name, rules) = (format!("{what}-{part}"), format!("{what}-{part}-rules"));
            case.test["rule_files"] = json!([rules]);
            write(&name, &case.test);
            write(&rules, &case.rules);
            written[case.round].push(name);
        }
        written
    };
    // As they are, they pass.
    let alerts: BTreeSet<_> = mutants.iter().map(|mutant| (&mutant.file, &mutant.alert)).collect();
    let controls = alerts.into_iter().flat_map(|(file, alert)| {
        let unchanged = &rules.iter().find(|(other, _)| other == file).expect("it was read").1;
        write_all(&format!("control-{alert}"), cases(&tests, &rules, file, alert, unchanged)).concat()
    });
    let failed = failing(folder.path(), &controls.collect::<Vec<_>>());
    assert!(failed.is_empty(), "these fail as they are: {failed:?}");

    let judges: Vec<[Vec<String>; 3]> = (mutants.iter().enumerate())
        .map(|(number, Mutant { file, alert, rules: changed, .. })| {
            write_all(&format!("mutant-{number}"), cases(&tests, &rules, file, alert, changed))
        })
        .collect();
    let mut unnoticed: Vec<usize> = (0..mutants.len()).collect();
    let of = |number: usize, round: usize| &judges[number][round];
    for round in 0..3 {
        let names = unnoticed.iter().flat_map(|number| of(*number, round).clone());
        let failed = failing(folder.path(), &names.collect::<Vec<_>>());
        unnoticed.retain(|number| !of(*number, round).iter().any(|name| failed.contains(name)));
    }
    let list: Vec<String> = unnoticed.iter().map(|number| mutants[*number].to_string()).collect();
    let (count, all) = (list.len(), mutants.len());
    assert!(list.is_empty(), "{count} of {all} changes are noticed by no case:\n{}", list.join("\n"));
}

/// Which of these files of tests fail.
fn failing(folder: &Path, names: &[String]) -> BTreeSet<String> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let lane = |lane: usize| names.iter().skip(lane).step_by(lanes).cloned().collect::<Vec<_>>();
        let lanes = (0..lanes).map(lane).filter(|names| !names.is_empty());
        let running: Vec<_> = lanes.map(|names| scope.spawn(move || promtool(folder, &names))).collect();
        running.into_iter().flat_map(|lane| lane.join().expect("promtool is heard")).collect()
    })
}

#[test]
fn numbers_are_told_from_durations_and_names() {
    let expr = "x:rate1m{le=\"0.5\"} > 6 * avg_over_time(y_p95[5m] offset 10m) and 100 * z >= (1 - 0.02)";
    let found: Vec<&str> = numbers(expr).into_iter().map(|range| &expr[range]).collect();
    assert_eq!(found, ["6", "100", "0.02"]);
}
