//! The counts that are kept.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where they are.
pub const FILE: &str = "benches/instructions.toml";
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

/// What is in the file.
#[derive(Deserialize, Default)]
pub struct Kept {
    /// Another compiler's counts may differ.
    pub compiler: String,
    /// By scene: instructions for each unit of it.
    pub counts: BTreeMap<String, u64>,
}

impl Kept {
    /// What is kept; nothing, if there is no file yet.
    pub fn read() -> Kept {
        let text = std::fs::read_to_string(PATH);
        text.map_or_else(|_| Kept::default(), |text| toml::from_str(&text).expect("it is as it was written"))
    }

    /// Keeps this.
    pub fn write(&self) {
        let head = "# Instructions: see `benches/instructions/main.rs`. Written by\n\
                    # cargo bench -p sluicegate-benches --bench instructions -- --long --update\n\n";
        let counts: String =
            self.counts.iter().map(|(scene, count)| format!("{scene} = {count}\n")).collect();
        let text = format!("{head}compiler = {:?}\n\n[counts]\n{counts}", compiler());
        std::fs::write(PATH, text).expect("the file can be written");
    }
}

/// The one in use.
pub fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(rustc).arg("--version").output();
    output.map_or_else(|_| "an unknown one".into(), |out| String::from_utf8_lossy(&out.stdout).trim().into())
}
