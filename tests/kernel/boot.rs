//! What the next boot would load, judged and mended: scratch hosts whose units are enabled, and which are then "booted" by the
//! same tools.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use ssh_rescue::chain;
use ssh_rescue::facts::Snapshot;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::judge::{Judgement, Verdict};
use ssh_rescue::observe::observe;
use ssh_rescue::pass::{Outcome, Report, check, repair};
use ssh_rescue::policy::{Policy, parse};
use ssh_rescue::record::{StateDir, Undone, history, undo};
use ssh_rescue::rehearse::drill::{Sight, Stage};

use super::common::{root, skipped};

const OPEN: [Sight; 2] = [Sight::Banner; 2];
const DROPS: &str = "flush ruleset\ntable inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\
                     \t\tiif lo accept\n\t\tct state established,related accept\n\t\tmeta l4proto ipv6-icmp accept\n\t\tcounter drop\n\t}\n}\n";
const V4: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n\
                  -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n";

/// Lets the next boot start a unit that runs this.
fn enable(unit: &str, runs: &str) {
    let path = format!("/etc/systemd/system/{unit}");
    let _ = fs::remove_file(&path);
    fs::write(&path, format!("[Unit]\nDescription=test\n[Service]\nType=oneshot\nExecStart={runs}\n")).unwrap();
    fs::create_dir_all("/etc/systemd/system/multi-user.target.wants").unwrap();
    let link = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
    let _ = fs::remove_file(&link);
    symlink(&path, link).unwrap();
}

fn on_a_stage(
    test: &str,
    work: impl FnOnce(&mut Stage<'_>) -> Result<(), ssh_rescue::rehearse::drill::DrillError> + Send,
) {
    if root(test) {
        Stage::build(&Host::live(), work).unwrap_or_else(|e| panic!("{test}: {}", chain(&e)));
    }
}

fn codes(judgement: &Judgement) -> Vec<&str> {
    judgement.findings.iter().map(|f| f.code).filter(|c| c.starts_with("boot.")).collect()
}

fn told(report: &Report) -> String {
    format!(
        "{:?}: {}\n  plan {:?}\n  declined {:?}\n  error {:?}\n  after {:?}",
        report.outcome,
        report.before.sentence,
        report.plan,
        report.declined,
        report.error,
        report.after.as_ref().map(|a| &a.sentence)
    )
}

/// At risk before, mended by repair, and then as good as can be: `boot` loads what the next boot would.
fn mended(stage: &mut Stage<'_>, policy: &Policy, files: &[&str], boot: &dyn Fn(&Stage<'_>)) {
    let read = || files.iter().map(|f| fs::read_to_string(f).unwrap()).collect::<Vec<_>>();
    let (host, state, old) = (stage.host, StateDir::default(), read());
    let (judgement, _) = check(host, policy);
    assert_eq!(judgement.verdict, Verdict::AtRisk, "{}", judgement.sentence);
    assert!(codes(&judgement).contains(&"boot.firewall.drop"), "{:?}", judgement.findings);
    assert!(
        judgement.findings.iter().any(|f| f.code == "boot.firewall.drop" && f.mendable),
        "{:?}",
        judgement.findings
    );
    let dry = repair(host, &state, policy, true).unwrap();
    assert_eq!(dry.outcome, Outcome::Refused, "{}", told(&dry));
    assert_eq!(read(), old, "a dry run wrote");
    let report = repair(host, &state, policy, false).unwrap();
    assert_eq!(report.outcome, Outcome::Repaired, "{}", told(&report));
    let (judgement, _) = check(host, policy);
    assert!(codes(&judgement).is_empty(), "{:?}", judgement.findings);
    let new = read();
    let again = repair(host, &state, policy, false).unwrap();
    assert_eq!(again.outcome, Outcome::Healthy, "{}", told(&again));
    assert_eq!(read(), new);
    boot(stage);
    assert_eq!(stage.see().unwrap(), OPEN, "after the boot; {new:#?}");
    for entry in history(&Host::live(), &state).unwrap().entries.iter().rev() {
        assert!(matches!(undo(host, &state, &entry.id), Ok(Undone::TakenBack(_))), "{:?}", entry.steps);
    }
    assert_eq!(read(), old);
}

#[test]
fn a_drop_in_nftables_conf_is_mended_before_it_is_loaded() {
    on_a_stage("nftables.conf", |stage| {
        enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
        stage.write("/etc/nftables.conf", DROPS)?;
        mended(stage, &Policy::default(), &["/etc/nftables.conf"], &|stage| {
            stage.tool("nft", &["-f", "/etc/nftables.conf"], "").unwrap();
        });
        Ok(())
    });
}

#[test]
fn a_drop_of_now_that_would_come_back_is_mended_in_both_places() {
    on_a_stage("the live rules and their file", |stage| {
        enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
        stage.write("/etc/nftables.conf", DROPS)?;
        stage.tool("nft", &["-f", "/etc/nftables.conf"], "")?;
        assert_eq!(stage.see()?, [Sight::TimedOut; 2]);
        let report = repair(stage.host, &StateDir::default(), &Policy::default(), false).unwrap();
        assert_eq!(report.outcome, Outcome::Repaired, "{}", told(&report));
        assert_eq!((stage.see()?, report.earlier.len()), (OPEN, 1), "{}", told(&report));
        stage.tool("nft", &["-f", "/etc/nftables.conf"], "")?;
        assert_eq!(stage.see()?, OPEN, "after the boot");
        Ok(())
    });
}

#[test]
fn only_the_policys_sources_are_let_in_at_the_next_boot() {
    on_a_stage("sources", |stage| {
        enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
        stage.write("/etc/nftables.conf", DROPS)?;
        let policy = parse("[ssh]\nsources = [\"198.51.100.0/24\"]\n").unwrap();
        let report = repair(stage.host, &StateDir::default(), &policy, false).unwrap();
        assert_eq!(report.outcome, Outcome::Repaired, "{}", told(&report));
        stage.tool("nft", &["-f", "/etc/nftables.conf"], "")?;
        assert_eq!(stage.see()?, [Sight::Banner, Sight::TimedOut]);
        Ok(())
    });
}

#[test]
fn a_drop_in_rules_v4_is_mended_before_it_is_loaded() {
    on_a_stage("rules.v4", |stage| {
        let plugins = "/usr/share/netfilter-persistent/plugins.d";
        for dir in ["/run/usr", "/run/usr/upper", "/run/usr/work"] {
            fs::create_dir(dir).unwrap();
        }
        let layers = "lowerdir=/usr/share,upperdir=/run/usr/upper,workdir=/run/usr/work";
        let args = ["-t", "overlay", "-o", layers, "overlay", "/usr/share"];
        if !stage.host.run(&Call::new("mount", &args)).unwrap().ok() {
            skipped("rules.v4", "no overlay over /usr/share");
            return Ok(());
        }
        fs::create_dir_all(plugins).unwrap();
        for plugin in ["15-ip4tables", "25-ip6tables"] {
            fs::write(format!("{plugins}/{plugin}"), "#!/bin/sh\n").unwrap();
        }
        enable("netfilter-persistent.service", "/usr/sbin/netfilter-persistent start");
        fs::create_dir_all("/etc/iptables").unwrap();
        stage.write("/etc/iptables/rules.v4", V4)?;
        stage.write("/etc/iptables/rules.v6", "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")?;
        fs::set_permissions("/etc/iptables/rules.v4", fs::Permissions::from_mode(0o640)).unwrap();
        mended(stage, &Policy::default(), &["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"], &|stage| {
            let mode = fs::metadata("/etc/iptables/rules.v4").unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o640);
            let text = fs::read_to_string("/etc/iptables/rules.v4").unwrap();
            stage.tool("iptables-restore", &[], &text).unwrap();
        });
        Ok(())
    });
}

#[test]
fn a_drop_in_sysconfig_is_mended_before_it_is_loaded() {
    on_a_stage("/etc/sysconfig/iptables", |stage| {
        enable("iptables.service", "/usr/libexec/iptables/iptables.init start");
        fs::create_dir_all("/etc/sysconfig").unwrap();
        stage.write("/etc/sysconfig/iptables", V4)?;
        mended(stage, &Policy::default(), &["/etc/sysconfig/iptables"], &|stage| {
            let text = fs::read_to_string("/etc/sysconfig/iptables").unwrap();
            stage.tool("iptables-restore", &[], &text).unwrap();
        });
        Ok(())
    });
}

/// Without ufw says so.
fn has_ufw(stage: &Stage<'_>) -> bool {
    let there = stage.host.which("ufw").is_some();
    if !there {
        skipped("ufw", "ufw is not installed");
    }
    there
}

fn enable_ufw(stage: &Stage<'_>) {
    enable("ufw.service", "/lib/ufw/ufw-init start quiet");
    stage.write("/etc/ufw/ufw.conf", "ENABLED=yes\nLOGLEVEL=low\n").unwrap();
}

#[test]
fn ufw_that_is_enabled_without_ssh_is_mended_before_it_starts() {
    on_a_stage("ufw", |stage| {
        if !has_ufw(stage) {
            return Ok(());
        }
        enable_ufw(stage);
        let files = ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"];
        mended(stage, &Policy::default(), &files, &|stage| {
            let added = stage.tool("ufw", &["show", "added"], "").unwrap();
            let added = String::from_utf8_lossy(&added.stdout).into_owned();
            assert!(added.contains("allow in proto tcp to any port 22") || added.contains("allow 22/tcp"), "{added}");
            stage.tool("/lib/ufw/ufw-init", &["start"], "").unwrap();
        });
        Ok(())
    });
}

#[test]
fn ufws_start_is_modelled_rule_by_rule() {
    let mut saves: Vec<Vec<String>> = Vec::new();
    for (defaults, real) in ["DROP", "REJECT", "ACCEPT"].into_iter().flat_map(|d| [(d, true), (d, false)]) {
        on_a_stage("ufw's start", |stage| {
            if !has_ufw(stage) {
                return Ok(());
            }
            enable_ufw(stage);
            let text = fs::read_to_string("/etc/default/ufw").unwrap();
            stage.write("/etc/default/ufw", &format!("{text}\nDEFAULT_INPUT_POLICY=\"{defaults}\"\n"))?;
            let snapshot: Snapshot = observe(stage.host, &Policy::default());
            assert_eq!(snapshot.boot.loaders.len(), 2);
            if real {
                stage.tool("/lib/ufw/ufw-init", &["start"], "")?;
            } else {
                for (loader, tool) in snapshot.boot.loaders.iter().zip(["iptables-restore", "ip6tables-restore"]) {
                    stage.tool(tool, &["--noflush"], &loader.whole())?;
                }
            }
            let saved = ["iptables-save", "ip6tables-save"].map(|tool| {
                let text = String::from_utf8(stage.tool(tool, &[], "").unwrap().stdout).unwrap();
                text.lines()
                    .filter(|l| !l.starts_with('#'))
                    .map(|l| l.split(" [").next().unwrap_or(l).to_owned())
                    .collect::<Vec<_>>()
            });
            // The order of chains is no matter, that of rules is, chain by chain.
            let mut lines = saved.concat();
            lines.sort_by_key(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
            saves.push(lines);
            Ok(())
        });
    }
    for pair in saves.chunks(2) {
        assert!(pair[0].len() > 100, "ufw loads only {:?}", pair[0]);
        assert_eq!(pair[0], pair[1]);
    }
}

fn broken() {
    enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
    fs::write("/etc/nftables.conf", "table inet filter { chain input { drop it }; }\n").unwrap();
}

fn two_that_flush() {
    enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
    fs::write("/etc/nftables.conf", DROPS).unwrap();
    enable("iptables.service", "/usr/libexec/iptables/iptables.init start");
    fs::create_dir_all("/etc/sysconfig").unwrap();
    fs::write("/etc/sysconfig/iptables", V4).unwrap();
}

fn a_script() {
    enable("nftables.service", "/bin/sh -c 'nft -f /srv/rules'");
}

fn a_firewalld_that_does_not_run() {
    enable("firewalld.service", "/usr/sbin/firewalld --nofork");
}

#[test]
fn what_the_next_boot_cannot_load_or_decide_is_only_said() {
    for make in [broken, two_that_flush, a_script, a_firewalld_that_does_not_run] {
        on_a_stage("what is not known", |stage| {
            make();
            let (judgement, _) = check(stage.host, &Policy::default());
            assert_eq!(codes(&judgement), ["boot.unknown"], "{:?}", judgement.findings);
            let report = repair(stage.host, &StateDir::default(), &Policy::default(), false).unwrap();
            assert_eq!(report.outcome, Outcome::Healthy, "{}", told(&report));
            Ok(())
        });
    }
}

#[test]
fn what_sysctl_d_sets_at_boot_is_read() {
    on_a_stage("sysctl.d", |stage| {
        fs::create_dir_all("/etc/sysctl.d").unwrap();
        stage.write("/etc/sysctl.d/zz-1.conf", "# mine\nnet.ipv4.conf.*.rp_filter = 1\n").unwrap();
        stage.write("/etc/sysctl.d/zz-2.conf", "-net/ipv4/conf/all/rp_filter=0\n").unwrap();
        let boot = observe(stage.host, &Policy::default()).boot;
        let of = |name: &str| {
            let at = boot.rp_filter.iter().find(|at| at.interface == name).expect(name);
            (at.value, at.file.display().to_string(), at.line)
        };
        assert_eq!(of("eth0"), (1, "/etc/sysctl.d/zz-1.conf".to_owned(), 2));
        assert_eq!(of("all"), (0, "/etc/sysctl.d/zz-2.conf".to_owned(), 1));
        Ok(())
    });
}

#[test]
fn a_policy_that_does_not_ask_for_it_leaves_the_next_boot_alone() {
    on_a_stage("persist = false", |stage| {
        enable("nftables.service", "/usr/sbin/nft -f /etc/nftables.conf");
        stage.write("/etc/nftables.conf", DROPS)?;
        let policy = parse("[firewall]\npersist = false\n").unwrap();
        let report = repair(stage.host, &StateDir::default(), &policy, false).unwrap();
        assert_eq!((report.outcome, report.before.verdict), (Outcome::Healthy, Verdict::AtRisk), "{}", told(&report));
        assert_eq!(fs::read_to_string("/etc/nftables.conf").unwrap(), DROPS);
        Ok(())
    });
}
