//! Every row of docs/lockouts.md names tests that there are and codes that stand in docs/findings.md.

use std::fs;
use std::path::Path;

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("read a folder").map(|e| e.expect("an entry").path()) {
        match entry.is_dir() {
            true => sources(&entry, text),
            false if entry.extension().is_some_and(|e| e == "rs") => {
                text.push_str(&fs::read_to_string(&entry).expect("read a source"));
            }
            false => {}
        }
    }
}

/// What stands between back-ticks.
fn ticked(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_row_names_tests_and_codes_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    sources(&root.join("tests"), &mut tests);
    sources(&root.join("src"), &mut tests);
    let findings = fs::read_to_string(root.join("docs/findings.md")).expect("read docs/findings.md");
    let page = fs::read_to_string(root.join("docs/lockouts.md")).expect("read docs/lockouts.md");
    let rooms = ["boot.", "firewall.", "route.", "path.", "wrappers.", "sshd.", "resources."];
    let mut rows = 0;
    for row in page.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let last = cells.last().copied().unwrap_or_default();
        if last == "test" || last.starts_with("---") {
            continue;
        }
        rows += 1;
        let named = ticked(last);
        assert!(!named.is_empty(), "no test in: {row}");
        for test in named {
            let is_there = tests.contains(&format!("\"{test}\"")) || tests.contains(&format!("fn {test}("));
            assert!(is_there, "there is no test `{test}`: {row}");
        }
        let codes = cells.iter().flat_map(|c| ticked(c)).filter(|t| rooms.iter().any(|r| t.starts_with(r)));
        for code in codes {
            assert!(findings.contains(&format!("| `{code}` |")), "{code} is not in docs/findings.md: {row}");
        }
    }
    assert!(rows > 50, "only {rows} rows");
}
