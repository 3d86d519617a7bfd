//! What a look after a repair makes of it.

use ssh_rescue::apply::{apply, insert};
use ssh_rescue::facts::{AddrSet, Family, TableFamily};
use ssh_rescue::host::{Host, Scratch, listen_tcp};
use ssh_rescue::judge::Verdict;
use ssh_rescue::pass::look;
use ssh_rescue::plan::{Accept, Insert, Plan, Step, Traffic};
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{Phase, StateDir, history};
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::rehearse;
use ssh_rescue::verify::{Aim, Verified, verify};

use super::common::{IFINDEX, net, root, tool};

const DROPS: &str =
    "table inet t { chain in { type filter hook input priority 0; policy drop; tcp dport 443 accept; }; }";

/// A scratch host with the rules, and somebody listening on port 22 if `listens`; `steps` are planned for its generation.
fn verified(
    listens: bool,
    policy: &Policy,
    steps: impl FnOnce(u32) -> Vec<Step> + Send,
    then: impl FnOnce(&Host, &StateDir, Verified) + Send,
) {
    Host::live()
        .scratch(Scratch::Host, |host| {
            let _layout = set_up(host, &net(1), &[IFINDEX], &[])?;
            let _listener = listens.then(|| listen_tcp(22, 1400).unwrap());
            tool(host, "nft", &["-f", "-"], DROPS);
            let state = StateDir::at("/run/state", "/run/ours");
            let (snapshot, before) = look(host, policy);
            assert_eq!(before.verdict, Verdict::Blocked, "{}", before.sentence);
            let generation = snapshot.firewall.nft.present().unwrap().generation;
            let plan = Plan { id: state.new_id(host), steps: steps(generation), declined: Vec::new() };
            let aim = Aim::of(policy, &snapshot, &before, &plan);
            let rehearsed = rehearse(host, &snapshot, plan, policy, &before, aim.suffices(), &insert).unwrap();
            let applied = apply(host, &state, rehearsed, &snapshot, &before.sentence, host.watcher()).unwrap();
            let verified = verify(host, policy, &state, applied, &aim).unwrap();
            then(host, &state, verified);
            Ok(())
        })
        .unwrap();
}

fn accept(generation: u32, source: Option<&str>) -> Vec<Step> {
    let accept = Accept {
        traffic: Traffic::Ssh,
        family: None,
        source: source.map(|s| s.parse().unwrap()),
        port: 22,
        interface: Some("eth0".into()),
        answer: false,
        after: Vec::new(),
    };
    let inserts = vec![Insert { chain: "in".into(), index: 0, accept }];
    vec![Step::Nft { generation, family: TableFamily::Inet, table: "t".into(), inserts }]
}

fn rules(host: &Host) -> String {
    let output = host.run(&ssh_rescue::host::Call::new("nft", &["list", "ruleset"])).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_helps_is_confirmed() {
    if !root("confirm") {
        return;
    }
    verified(
        true,
        &Policy::default(),
        |generation| accept(generation, None),
        |host, state, verified| {
            let Verified::Confirmed { judgement, .. } = verified else { panic!("{verified:?}") };
            assert!(judgement.gates.iter().all(|g| g.firewall.admitted == AddrSet::full(g.whole.path.family)));
            assert!(rules(host).contains("ssh-rescue:"));
            let entry = &history(&Host::live(), state).unwrap().entries[0];
            assert_eq!(entry.phase, Phase::Confirmed);
            assert_eq!(entry.after.as_ref(), Some(&judgement.sentence));
        },
    );
}

#[test]
fn what_does_not_help_is_taken_back() {
    if !root("roll back") {
        return;
    }
    let unheard =
        |_| vec![Step::WriteFile { path: "/run/sshd.conf".into(), content: b"x".to_vec(), reason: "a test".into() }];
    verified(false, &Policy::default(), unheard, |_, state, verified| {
        let Verified::RolledBack { why, .. } = verified else { panic!("{verified:?}") };
        assert!(why.contains("who listens"), "{why}");
        assert!(!std::path::Path::new("/run/sshd.conf").exists());
        assert_eq!(history(&Host::live(), state).unwrap().entries[0].phase, Phase::RolledBack);
    });
}

#[test]
fn what_lets_in_others_than_the_policy_names_is_taken_back() {
    if !root("roll back what is too wide") {
        return;
    }
    let mut policy = Policy::default();
    policy.ssh.sources = Some(vec!["198.51.100.0/24".parse().unwrap()]);
    let wide = policy.clone();
    let four = |source: &'static str| move |generation| accept(generation, Some(source));
    verified(true, &policy, four("198.51.100.0/24"), |_, _, verified| {
        let Verified::Confirmed { judgement, .. } = verified else { panic!("{verified:?}") };
        let gates = judgement.gates.iter().find(|g| g.whole.path.family == Family::Ipv4).unwrap();
        assert_eq!(gates.firewall.admitted, AddrSet::net("198.51.100.0/24".parse().unwrap()));
    });
    // The rehearsal would refuse it; that one is left out here.
    Host::live()
        .scratch(Scratch::Host, |host| {
            let _layout = set_up(host, &net(1), &[IFINDEX], &[])?;
            let _listener = listen_tcp(22, 1400).unwrap();
            tool(host, "nft", &["-f", "-"], DROPS);
            let state = StateDir::at("/run/state", "/run/ours");
            let (snapshot, before) = look(host, &wide);
            let generation = snapshot.firewall.nft.present().unwrap().generation;
            let before_rules = rules(host);
            let steps = accept(generation, Some("198.51.0.0/16"));
            let plan = Plan { id: state.new_id(host), steps: steps.clone(), declined: Vec::new() };
            let aim = Aim::of(&wide, &snapshot, &before, &plan);
            let applied = super::record::make(host, &state, &snapshot, steps).unwrap();
            let Verified::RolledBack { why, .. } = verify(host, &wide, &state, applied, &aim).unwrap() else {
                panic!("confirmed")
            };
            assert!(why.contains("also lets in"), "{why}");
            assert_eq!(rules(host), before_rules);
            Ok(())
        })
        .unwrap();
}
