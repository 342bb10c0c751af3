//! A Prometheus of Debian's, as a child process on loopback.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_benches::{clock, http};
use sluicegate_tests::repository;
use tempfile::TempDir;
use tokio::time::sleep;

use super::rules;

/// Dropping it kills it.
pub struct Prometheus {
    child: Child,
    url: String,
    _folder: TempDir,
}

/// A file of `contrib/prometheus/rules`.
pub fn rule_file(name: &str) -> String {
    repository::read(format!("contrib/prometheus/rules/{name}"))
}

impl Prometheus {
    /// Scrapes `target` each second. `None`, loudly, where there is no Prometheus.
    pub fn start(target: &str) -> Option<Prometheus> {
        let folder = tempfile::tempdir().unwrap();
        for name in RULES {
            // How many nodes a region needs is the operator's to say (`slo.toml`): this one needs one.
            let text = rule_file(name).replace("expr: vector(3)", "expr: vector(1)");
            std::fs::write(folder.path().join(name), rules::faster(&text)).unwrap();
        }
        let target = target.trim_start_matches("http://");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"*.yml\"]\n\
             scrape_configs:\n- job_name: sfu\n  static_configs:\n  - targets: [\"{target}\"]\n    labels: {{region: eu}}\n"
        );
        std::fs::write(folder.path().join("prometheus.yaml"), config).unwrap();
        // The kernel's choice, free again: Prometheus does not say which port it took.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yaml")
            .arg(format!("--web.listen-address={address}"))
            .args(["--storage.tsdb.path=data", "--log.level=warn"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        let Ok(child) = child else {
            // Loud: the harness captures what `eprintln!` says.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: prometheus is not installed (Debian package `prometheus`)").unwrap();
            return None;
        };
        let prometheus = Prometheus { child, url: format!("http://{address}"), _folder: folder };
        let deadline: Instant = clock::now() + PATIENCE;
        while !http::get(&format!("{}/-/ready", prometheus.url)).is_ok_and(|answer| answer.status == 200) {
            assert!(clock::now() < deadline, "Prometheus does not become ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(prometheus)
    }

    /// Waits until an alert fires.
    pub async fn fires(&self, alert: &str, within: Duration) {
        let deadline = clock::now() + within;
        loop {
            let firing = self.firing().await;
            if firing.iter().any(|name| name == alert) {
                return;
            }
            if clock::now() >= deadline {
                let why = self.ask("/api/v1/rules?type=alert").await;
                panic!("{alert} does not fire within {within:?}, only {firing:?}: {why}");
            }
            sleep(STEP).await;
        }
    }

    /// Looks on for a while: none of these fires.
    pub async fn is_silent(&self, alerts: &[&str], during: Duration) {
        let deadline = clock::now() + during;
        loop {
            let firing = self.firing().await;
            let loud: Vec<_> = firing.iter().filter(|name| alerts.contains(&name.as_str())).collect();
            assert!(loud.is_empty(), "{loud:?} must not fire");
            if clock::now() >= deadline {
                return;
            }
            sleep(STEP).await;
        }
    }

    /// Waits until an alert fires no longer.
    pub async fn ends(&self, alert: &str, within: Duration) {
        let deadline = clock::now() + within;
        while self.firing().await.iter().any(|name| name == alert) {
            assert!(clock::now() < deadline, "{alert} still fires after {within:?}");
            sleep(STEP).await;
        }
    }

    /// Waits until a query gives one value, and it is this.
    pub async fn comes_to(&self, query: &str, expected: f64) {
        self.comes_to_within(query, expected, PATIENCE).await;
    }

    /// The same, for so long.
    pub async fn comes_to_within(&self, query: &str, expected: f64, patience: Duration) {
        let deadline = clock::now() + patience;
        loop {
            let value = self.value(query).await;
            if value == Some(expected) {
                return;
            }
            assert!(clock::now() < deadline, "{query} is {value:?}");
            sleep(STEP).await;
        }
    }

    /// What a query gives now, if it is one value.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}")).await;
        match answer["data"]["result"].as_array()?.as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many series a query gives now.
    pub async fn count(&self, query: &str) -> Result<usize, String> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={escaped}")).await;
        let result = answer["data"]["result"].as_array().map(Vec::len);
        result.ok_or_else(|| answer["error"].to_string())
    }

    async fn firing(&self) -> Vec<String> {
        let answer = self.ask("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"].as_array().expect("it lists alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    }

    async fn ask(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.url);
        let answer = tokio::task::spawn_blocking(move || http::get(&url)).await.unwrap().unwrap();
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of one tier, as a Prometheus loads them.
const RULES: [&str; 6] = [
    "host-alerts.yml",
    "host-recording.yml",
    "sfu-alerts.yml",
    "sfu-canary.yml",
    "sfu-recording.yml",
    "slo-prod.yml",
];

const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(250);
