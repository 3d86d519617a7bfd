//! The drill's report for people, in plain ASCII that fits a serial console. Pure.

use super::{Drill, Row, Sight};
use crate::facts::escape;

/// One lock-out as it is shown while the drill runs.
pub fn lines(number: usize, row: &Row) -> String {
    let mut out = format!("{number:2}. {}\n", row.lockout);
    let mut add = |label: &str, text: &str| out.push_str(&format!("    {label:<8}{}\n", escape(text)));
    add("before", &sight(row.before));
    if let Some(error) = &row.error {
        add("failed", error);
        return out;
    }
    add("cause", &row.cause);
    for mend in &row.mend {
        add("mend", mend);
    }
    add("after", &format!("{}, {} ms, {}", sight(row.after), row.milliseconds, row.outcome));
    out
}

/// The table at the end, and what is to be said of the live host.
pub fn table(drill: &Drill) -> String {
    let width = drill.rows.iter().map(|r| r.lockout.len()).max().unwrap_or(0).max(8);
    let mut out = format!("{:<width$}  {:<22}  {:<22}  {:>6}  \n", "lock-out", "before", "after", "ms");
    out.push_str(&format!("{}\n", "-".repeat(width + 64)));
    for row in &drill.rows {
        out.push_str(&format!(
            "{:<width$}  {:<22}  {:<22}  {:>6}  {}\n",
            row.lockout,
            sight(row.before),
            sight(row.after),
            row.milliseconds,
            if row.rescued() { "rescued" } else { "NOT RESCUED" },
        ));
    }
    let rescued = drill.rows.iter().filter(|r| r.rescued()).count();
    out.push_str(&format!("\n{rescued} of {} lock-outs rescued.\n", drill.rows.len()));
    if drill.touched.is_empty() {
        out.push_str("The live host is as it was before: its rules, files, mounts and links are unchanged.\n");
    }
    for touched in &drill.touched {
        out.push_str(&format!("CHANGED ON THE LIVE HOST while the drill ran: {}\n", escape(touched)));
    }
    out
}

/// What a client sees by both families, in few words.
fn sight(seen: [Sight; 2]) -> String {
    match seen {
        [four, six] if four == six => four.words().to_owned(),
        [four, six] => format!("v4 {}, v6 {}", four.words(), six.words()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(after: [Sight; 2]) -> Row {
        Row {
            lockout: "iptables: DROP in raw".into(),
            before: [Sight::TimedOut; 2],
            cause: "connection timed out, because of ip raw PREROUTING rule 1".into(),
            mend: vec!["accept tcp to port 22 before rule 1 of ip raw PREROUTING".into()],
            outcome: "repaired".into(),
            after,
            milliseconds: 41,
            error: None,
        }
    }

    #[test]
    fn a_drill_with_one_miss_is_not_passed_and_says_which() {
        let rows = vec![row([Sight::Banner; 2]), row([Sight::Banner, Sight::TimedOut])];
        let drill = Drill { rows, touched: vec!["/etc/hosts.deny".into()] };
        assert!(!drill.passed());
        let text = table(&drill);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "lock-out               before                  after                       ms",
                "-------------------------------------------------------------------------------------",
                "iptables: DROP in raw  timed out               SSH banner                  41  rescued",
                "iptables: DROP in raw  timed out               v4 SSH banner, v6 timed out      41  NOT RESCUED",
                "",
                "1 of 2 lock-outs rescued.",
                "CHANGED ON THE LIVE HOST while the drill ran: /etc/hosts.deny",
            ]
        );
    }
}
