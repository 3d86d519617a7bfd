//! Every code that a judge can give stands in docs/findings.md, and every code there can be given.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOMS: [&str; 7] = ["boot.", "firewall.", "route.", "path.", "wrappers.", "sshd.", "resources."];

/// Codes among the string literals of the sources below a folder, tests left out.
fn codes_in_sources(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("read a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            codes_in_sources(&entry, codes);
            continue;
        }
        let text = fs::read_to_string(&entry).expect("read a source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        codes.extend(code.split('"').skip(1).step_by(2).filter(|l| is_code(l)).map(str::to_owned));
    }
}

fn is_code(literal: &str) -> bool {
    let ends = [".service", ".socket"];
    ROOMS.iter().any(|r| literal.starts_with(r) && literal.len() > r.len())
        && literal.bytes().all(|b| b.is_ascii_lowercase() || b".-".contains(&b))
        && !literal.ends_with('.')
        && !ends.iter().any(|e| literal.ends_with(e))
}

#[test]
fn codes_and_their_page_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut given = BTreeSet::new();
    codes_in_sources(&root.join("src/judge"), &mut given);
    let page = fs::read_to_string(root.join("docs/findings.md")).expect("read docs/findings.md");
    let first_cells = page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
    let told: BTreeSet<String> = first_cells.map(str::to_owned).collect();
    assert!(given.len() > 40, "the sources give only {given:?}");
    assert_eq!(given, told, "docs/findings.md and the codes in src/judge differ");
}
