//! The table of rules in the documentation names files and tests: all of them exist.

use std::collections::BTreeMap;
use std::path::Path;

/// What stands between backquotes in the table's rows.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/rules.md")).expect("docs/rules.md");
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let (mut rules, mut tests) = (0, 0);
    for line in page.lines() {
        let Some(number) = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next()) else { continue };
        if !number.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        rules += 1;
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [_, _, kept, proved] = columns[..] else { panic!("rule {number} has {} columns", columns.len()) };
        for place in named(kept) {
            assert!(root.join(place).exists(), "rule {number} is kept in {place}, which is not there");
        }
        assert!(named(proved).next().is_some(), "rule {number} has no test");
        for test in named(proved) {
            tests += 1;
            let (file, function) = test.split_once("::").unwrap_or((test, ""));
            let text = files.entry(file).or_insert_with(|| {
                std::fs::read_to_string(root.join(file))
                    .unwrap_or_else(|error| panic!("rule {number} names {file}: {error}"))
            });
            let word = if file.ends_with(".py") { "def" } else { "fn" };
            let found = function.is_empty() || text.contains(&format!("{word} {function}("));
            assert!(found, "rule {number} names {test}, which is not there");
        }
    }
    println!("{rules} rules, {tests} tests");
    assert!(rules > 100, "{rules} rules were found");
}
