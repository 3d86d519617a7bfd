//! Configuration text in, edited text out; sshd's answers are given.

use super::super::{Decision, plan, question};
use super::*;
use crate::facts::{Family, Owned, Unit};
use crate::judge::fixture::{healthy, owner, unit};
use crate::judge::judge;
use crate::policy::parse;

mod edits;
mod emergency;
mod units;

const MAIN: &str = "/etc/ssh/sshd_config";
const ID: &str = "20261124T000000-abcd";

fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: path.into(), bytes: text.into() }
}

fn said(messages: &[&str]) -> ConfigTest {
    ConfigTest { passed: messages.is_empty(), status: 255, messages: messages.iter().map(|m| m.to_string()).collect() }
}

/// sshd is down, systemd's unit has failed, and its test says this.
fn down(files: Vec<TextFile>, messages: &[&str]) -> Snapshot {
    let mut snapshot = healthy();
    snapshot.listeners = Seen::Present(Vec::new());
    snapshot.sshd.units =
        Seen::Present(vec![Unit { result: "exit-code".into(), ..unit("ssh.service", "failed", "enabled") }]);
    snapshot.sshd.test = Seen::Present(said(messages));
    snapshot.sshd.files.config = files;
    snapshot
}

fn settings(listen: &[&str]) -> Settings {
    let listen: Vec<std::net::SocketAddr> = listen.iter().map(|l| l.parse().unwrap()).collect();
    let mut ports: Vec<u16> = listen.iter().map(|l| l.port()).collect();
    ports.dedup();
    let family = |f| listen.iter().any(|l| Family::of(l.ip()) == f);
    let address_family = match (family(Family::Ipv4), family(Family::Ipv6)) {
        (true, false) => "inet",
        (false, true) => "inet6",
        _ => "any",
    };
    Settings {
        ports,
        listen: listen.iter().map(|l| (l.ip(), l.port())).collect(),
        address_family: address_family.into(),
        ..Settings::default()
    }
}

fn everywhere() -> Settings {
    settings(&["0.0.0.0:22", "[::]:22"])
}

/// Answers each question with the next of `answers`, and gives the plan's steps or why there is none.
fn planned(mut snapshot: Snapshot, policy: &Policy, answers: &[(&[&str], Settings)]) -> Result<Vec<Step>, String> {
    let mut answers = answers.iter();
    loop {
        let judgement = judge(policy, &snapshot);
        if question(policy, &snapshot, &judgement, ID).is_none() {
            assert!(answers.next().is_none(), "not all answers were asked for");
            return match plan(policy, &snapshot, &judgement, ID) {
                Decision::Repair(plan) => Ok(plan.steps),
                other => Err(format!("{other:?}")),
            };
        }
        let (messages, settings) = answers.next().expect("a question too many");
        let settings = if messages.is_empty() { Seen::Present(settings.clone()) } else { Seen::Absent };
        snapshot.sshd.trials.push(Trial { test: Seen::Present(said(messages)), settings });
    }
}

fn written(steps: &[Step]) -> Vec<(String, String)> {
    let file = |s: &Step| match s {
        Step::WriteFile { path, content, .. } => {
            Some((path.display().to_string(), String::from_utf8_lossy(content).into_owned()))
        }
        _ => None,
    };
    steps.iter().filter_map(file).collect()
}

fn start() -> Step {
    Step::StartUnit { unit: "ssh.service".into(), reset_failed: true, unmask: false }
}

#[test]
fn the_line_of_the_right_file_is_commented_out_and_all_else_stays() {
    let main = file(MAIN, "# mine\r\nInclude x/*.conf\r\nBogus yes\r\nPasswordAuthentication no");
    let drop_in = file("/etc/ssh/x/a.conf", "\tBoguz = 1 # why\n\nBanner none\n");
    let first = "/etc/ssh/x/a.conf: line 1: Bad configuration option: Boguz";
    let second = "/etc/ssh/sshd_config: line 3: Bad configuration option: Bogus";
    let steps = planned(
        down(vec![main, drop_in], &[first]),
        &Policy::default(),
        &[(&[second], everywhere()), (&[], everywhere())],
    );
    let steps = steps.unwrap();
    let note = format!("# ssh-rescue:{ID}: Bad configuration option:");
    let expected = [
        ("/etc/ssh/x/a.conf".to_owned(), format!("#\tBoguz = 1 # why  {note} Boguz\n\nBanner none\n")),
        (
            MAIN.to_owned(),
            format!("# mine\r\nInclude x/*.conf\r\n#Bogus yes  {note} Bogus\r\nPasswordAuthentication no"),
        ),
    ];
    assert_eq!(written(&steps), expected);
    assert_eq!(steps.last(), Some(&start()));
}

#[test]
fn a_match_goes_with_its_block() {
    let main = file(MAIN, "Match Usr bob\n PermitRootLogin yes\n\n# note\nMatch User eve\n Banner none\n");
    let bad = "/etc/ssh/sshd_config line 1: Bad Match condition";
    let steps = planned(
        down(vec![main], &["Unsupported Match attribute Usr", bad]),
        &Policy::default(),
        &[(&[], everywhere())],
    );
    let note = format!("  # ssh-rescue:{ID}: Bad Match condition\n");
    let text = format!("#Match Usr bob{note}# PermitRootLogin yes{note}\n# note\nMatch User eve\n Banner none\n");
    assert_eq!(written(&steps.unwrap()), [(MAIN.to_owned(), text)]);
}

#[test]
fn what_is_out_of_force_is_said() {
    let main = file(MAIN, "PasswordAuthentication noo\n");
    let bad = "/etc/ssh/sshd_config line 1: unsupported option \"noo\".";
    let steps = planned(down(vec![main], &[bad]), &Policy::default(), &[(&[], everywhere())]).unwrap();
    let words = steps.iter().flat_map(Step::words).collect::<Vec<_>>().join("; ");
    assert!(words.contains("PasswordAuthentication noo") && words.contains("out of force now"), "{words}");
}

#[test]
fn without_a_file_the_last_good_one_is_written_then_the_distributions_then_a_minimal_one() {
    let missing: &[&str] = &["/etc/ssh/sshd_config: No such file or directory"];
    let broken: &[&str] = &["/etc/ssh/sshd_config: something nobody knows"];
    let mut snapshot = down(Vec::new(), missing);
    snapshot.sshd.files.kept = vec![vec![file(MAIN, "Port 22\n# good\n")]];
    snapshot.sshd.files.shipped = Some(file("/usr/share/openssh/sshd_config", "# shipped\n"));
    let ends = |answers: &[(&[&str], Settings)]| {
        let files = written(&planned(snapshot.clone(), &Policy::default(), answers).unwrap());
        files.iter().map(|(path, text)| (path.clone(), text.lines().last().unwrap().to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(ends(&[(&[], everywhere())]), [(MAIN.to_owned(), "# good".to_owned())]);
    assert_eq!(ends(&[(broken, everywhere()), (&[], everywhere())]), [(MAIN.to_owned(), "# shipped".to_owned())]);
    let minimal = ends(&[(broken, everywhere()), (broken, everywhere()), (&[], everywhere())]);
    assert_eq!(minimal, [(MAIN.to_owned(), "Subsystem sftp internal-sftp".to_owned())]);
    let none = [(broken, everywhere()), (broken, everywhere()), (broken, everywhere())];
    assert!(planned(snapshot.clone(), &Policy::default(), &none).unwrap_err().contains("no other one"));
}

#[test]
fn the_admins_file_lies_beside_the_one_that_takes_its_place() {
    let odd: &[&str] = &["something nobody knows"];
    let steps = planned(down(vec![file(MAIN, "Port 22\n# odd\n")], odd), &Policy::default(), &[(&[], everywhere())]);
    let files = written(&steps.unwrap());
    assert_eq!(files[0], (format!("{MAIN}.{ID}"), "Port 22\n# odd\n".to_owned()));
    assert_eq!(files[1].0, MAIN);
}

#[test]
fn a_drop_in_adds_a_port_and_keeps_the_default() {
    let policy =
        Policy { ssh: crate::policy::SshPolicy { ports: vec![2222], ..Policy::default().ssh }, ..Policy::default() };
    let mut snapshot = down(vec![file(MAIN, "Include /etc/ssh/sshd_config.d/*.conf\n")], &[]);
    let folder = crate::facts::PathMode { path: "/etc/ssh/sshd_config.d".into(), mode: 0o755, uid: 0, gid: 0 };
    snapshot.sshd.files.tree = vec![folder];
    snapshot.sshd.settings = Seen::Present(everywhere());
    let both = settings(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222", "[::]:2222"]);
    let steps = planned(snapshot.clone(), &policy, &[(&[], both.clone())]).unwrap();
    let [(path, text)] = &written(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!(path, "/etc/ssh/sshd_config.d/00-ssh-rescue.conf");
    assert!(text.ends_with("\nPort 22\nPort 2222\n"), "{text}");
    // Where sshd would not listen any more as it does, it goes to the main file.
    let lost = settings(&["0.0.0.0:2222", "[::]:2222"]);
    let steps = planned(snapshot.clone(), &policy, &[(&[], lost.clone()), (&[], both)]).unwrap();
    assert_eq!(written(&steps)[0].0, MAIN);
    assert!(planned(snapshot, &policy, &[(&[], lost.clone()), (&[], lost)]).unwrap_err().contains("sshd.config.port"));
}

#[test]
fn where_addresses_are_named_an_address_is_added() {
    let mut snapshot = down(vec![file(MAIN, "ListenAddress 203.0.113.5\nAddressFamily inet\n")], &[]);
    snapshot.sshd.settings = Seen::Present(settings(&["203.0.113.5:22"]));
    let after = settings(&["203.0.113.5:22", "192.0.2.10:22", "[2001:db8::10]:22"]);
    let steps = planned(snapshot, &Policy::default(), &[(&[], after)]).unwrap();
    let text = format!(
        "# ssh-rescue:{ID}: where clients come in\nAddressFamily any\nListenAddress 192.0.2.10:22\nListenAddress [2001:db8::10]:22\n\
         ListenAddress 203.0.113.5\nAddressFamily inet\n"
    );
    assert_eq!(written(&steps), [(MAIN.to_owned(), text)]);
}

#[test]
fn host_keys_get_the_mode_of_the_distribution_and_the_strict_one_if_that_does_not_do() {
    let refused: &[&str] = &["Permissions 0644 for '/k' are too open.", "sshd: no hostkeys available -- exiting."];
    let mut snapshot = down(vec![file(MAIN, "")], refused);
    let owned = Owned { mode: 0o644, uid: 0, gid: 0 };
    let key = crate::facts::KeyFile { owned, size: 400, is_key: true };
    snapshot.sshd.files.keys =
        vec![crate::facts::HostKey { path: "/k".into(), kind: "rsa".into(), file: Seen::Present(key) }];
    snapshot.sshd.files.key_group = Some(998);
    let modes = |answers: &[(&[&str], Settings)]| {
        planned(snapshot.clone(), &Policy::default(), answers).map(|mut s| s.remove(0))
    };
    let mode = |mode, gid| Ok(Step::SetMode { path: "/k".into(), owned: Owned { mode, uid: 0, gid } });
    assert_eq!(modes(&[(&[], everywhere())]), mode(0o640, 998));
    assert_eq!(modes(&[(refused, everywhere()), (&[], everywhere())]), mode(0o600, 0));
    let why = modes(&[(refused, everywhere()), (refused, everywhere())]).unwrap_err();
    assert!(why.contains("sshd.keys.missing"), "{why}");
}

#[test]
fn what_cannot_be_tried_is_not_done() {
    let bad = "/etc/ssh/sshd_config: line 1: Bad configuration option: Bogus";
    let mut snapshot = down(vec![file(MAIN, "Bogus 1\n")], &[bad]);
    let why = Seen::Unreadable("make a network namespace of one's own: EPERM".to_owned());
    snapshot.sshd.trials = vec![Trial { test: why, settings: Seen::Absent }];
    let error = planned(snapshot, &Policy::default(), &[]).unwrap_err();
    assert!(error.contains("EPERM"), "{error}");
}

#[test]
fn while_sshd_serves_nothing_is_done_unless_the_policy_wants_it() {
    let bad = "/etc/ssh/sshd_config: line 1: Bad configuration option: Bogus";
    let mut snapshot = healthy();
    snapshot.sshd.test = Seen::Present(said(&[bad]));
    snapshot.sshd.files.config = vec![file(MAIN, "Bogus 1\n")];
    snapshot.sshd.units = Seen::Present(vec![unit("ssh.service", "active", "disabled")]);
    assert_eq!(planned(snapshot.clone(), &Policy::default(), &[]), Err("Healthy".to_owned()));
    let mut policy = Policy::default();
    policy.sshd.persist = true;
    let steps = planned(snapshot, &policy, &[(&[], everywhere())]).unwrap();
    assert_eq!(written(&steps).len(), 1);
    assert_eq!(steps[1..], [Step::EnableUnit { unit: "ssh.service".into() }]);
}

#[test]
fn an_emergency_sshd_only_tightens() {
    let text =
        "Port 2222\nPasswordAuthentication yes\nPermitRootLogin perhaps\nAllowUsers alice \"b c\"\nX11Forwarding yes\n";
    let mut snapshot = down(vec![file(MAIN, text)], &[]);
    snapshot.sshd.settings = Seen::Present(everywhere());
    snapshot.sshd.start_failed = Some("ssh.service does not come up".into());
    let refused = planned(snapshot.clone(), &Policy::default(), &[]).unwrap_err();
    assert!(refused.contains("does not come up"), "{refused}");
    let mut policy = Policy::default();
    policy.sshd.emergency = true;
    let steps = planned(snapshot.clone(), &policy, &[]).unwrap();
    let [Step::EmergencySshd { config, keys }] = &steps[..] else { panic!("{steps:?}") };
    assert!(keys.is_empty());
    let has = |line: &str| config.lines().any(|l| l == line);
    for line in
        ["Port 22", "PermitRootLogin no", "PasswordAuthentication no", "X11Forwarding no", "allowusers alice \"b c\""]
    {
        assert!(has(line), "{line} is not in {config}");
    }
    assert!(!has("Port 2222") && !config.contains("PasswordAuthentication yes"));
    // Nobody knows what an sshd without the blocks would let in.
    snapshot.sshd.files.config = vec![file(MAIN, "Match User bob\nForceCommand internal-sftp\n")];
    assert!(planned(snapshot.clone(), &policy, &[]).unwrap_err().contains("Match"));
    snapshot.sshd.not_to_be_run = true;
    assert!(planned(snapshot, &policy, &[]).unwrap_err().contains("sshd_not_to_be_run"));
}

#[test]
fn a_running_sshd_that_does_not_listen_there_reads_its_files_again() {
    let mut snapshot = down(vec![file(MAIN, "Port 22\n")], &[]);
    snapshot.sshd.units = Seen::Present(vec![unit("ssh.service", "active", "enabled")]);
    snapshot.sshd.settings = Seen::Present(everywhere());
    let steps = planned(snapshot, &Policy::default(), &[]);
    assert_eq!(steps, Ok(vec![Step::ReloadUnit { unit: "ssh.service".into() }]));
}

#[test]
fn a_stopped_sshd_is_let_go_on_and_a_traced_one_is_left() {
    let with = |state| {
        let mut snapshot = healthy();
        let Seen::Present(listeners) = &mut snapshot.listeners else { panic!("no listeners") };
        for socket in listeners {
            socket.owners = Seen::Present(vec![SocketOwner { state, ..owner(612, "sshd", "/usr/sbin/sshd") }]);
        }
        snapshot
    };
    let step = Step::ContinueProcess { pid: 612, name: "sshd".into() };
    assert_eq!(planned(with('T'), &Policy::default(), &[]), Ok(vec![step]));
    // Where that was in vain, it is restarted; and a debugger's stays.
    let again = |state| {
        let mut snapshot = unit_of_sshd(with(state));
        snapshot.sshd.let_go_in_vain = true;
        planned(snapshot, &Policy::default(), &[])
    };
    assert_eq!(again('T'), Ok(vec![restart()]));
    assert!(again('t').unwrap_err().contains("a debugger holds"));
    let refusal = planned(with('t'), &Policy::default(), &[]).unwrap_err();
    assert!(refusal.contains("sshd.listener.stopped") && refusal.contains("a debugger holds"), "{refusal}");
    let report = parse("[sshd]\nmode = \"report\"\n").unwrap();
    assert!(planned(with('T'), &report, &[]).is_err());
}

/// The service runs the process that listens, as Debian's does.
fn unit_of_sshd(mut snapshot: Snapshot) -> Snapshot {
    let service = Unit { main_pid: 612, kill_mode: "process".into(), ..unit("ssh.service", "active", "enabled") };
    snapshot.sshd.units = Seen::Present(vec![service]);
    for owner in owners(&mut snapshot) {
        owner.unit = Some("ssh.service".into());
    }
    snapshot
}

fn owners(snapshot: &mut Snapshot) -> impl Iterator<Item = &mut SocketOwner> {
    let Seen::Present(listeners) = &mut snapshot.listeners else { panic!("no listeners") };
    listeners.iter_mut().flat_map(|socket| match &mut socket.owners {
        Seen::Present(owners) => owners,
        _ => panic!("no owners"),
    })
}

fn restart() -> Step {
    Step::RestartUnit { unit: "ssh.service".into(), pid: 612, name: "sshd".into() }
}

fn wedged() -> Snapshot {
    let mut snapshot = unit_of_sshd(healthy());
    let Seen::Present(listeners) = &mut snapshot.listeners else { panic!("no listeners") };
    listeners.iter_mut().for_each(|socket| socket.waits = Some(31_000));
    snapshot
}

#[test]
fn a_wedged_sshd_is_restarted_once_its_test_passes() {
    assert_eq!(planned(wedged(), &Policy::default(), &[]), Ok(vec![restart()]));
    let mut broken = wedged();
    broken.sshd.files.config = vec![file(MAIN, "Port 22\nBogus yes\n")];
    let bad = "/etc/ssh/sshd_config: line 2: Bad configuration option: Bogus";
    broken.sshd.test = Seen::Present(said(&[bad]));
    let steps = planned(broken, &Policy::default(), &[(&[], everywhere())]).unwrap();
    assert!(matches!(steps[..], [Step::WriteFile { .. }, Step::RestartUnit { .. }]), "{steps:?}");
    let report = parse("[sshd]\nmode = \"report\"\n").unwrap();
    assert!(planned(wedged(), &report, &[]).is_err());
    let emergency = parse("[sshd]\nemergency = true\n").unwrap();
    let mut alone = wedged();
    alone.sshd.units = Seen::Present(vec![unit("ssh.service", "active", "enabled")]);
    assert!(planned(alone, &emergency, &[]).unwrap_err().contains("no unit of sshd's runs sshd (pid 612)"));
}

#[test]
fn a_wedged_sshd_is_left_where_a_restart_would_end_more_than_it() {
    let refused = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = wedged();
        change(&mut snapshot);
        planned(snapshot, &Policy::default(), &[])
    };
    let with_mode = |mode: &'static str, beside| {
        refused(&move |snapshot| {
            let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("no units") };
            units[0].kill_mode = mode.into();
            owners(snapshot).for_each(|o| o.beside = beside);
        })
    };
    assert_eq!(with_mode("control-group", Some(0)), Ok(vec![restart()]));
    for (mode, beside, why) in [
        ("control-group", Some(1), "would end sessions"),
        ("mixed", None, "would end sessions"),
        ("none", Some(0), "would not end sshd"),
        ("", Some(0), "would not end sshd"),
    ] {
        let refusal = with_mode(mode, beside).unwrap_err();
        assert!(refusal.contains("sshd.listener.wedged") && refusal.contains(why), "{mode}: {refusal}");
    }
    let state = |state| refused(&move |snapshot| owners(snapshot).for_each(|o| o.state = state)).unwrap_err();
    assert!(state('t').contains("a debugger holds") && state('D').contains("no signal reaches it"));
    let lock = "/var/lib/dpkg/lock-frontend";
    let upgrade = refused(&|snapshot| snapshot.resources.package_manager = Some(lock.into())).unwrap_err();
    assert!(upgrade.contains(lock), "{upgrade}");
    let elsewhere = refused(&|snapshot| owners(snapshot).for_each(|o| o.unit = Some("session-1.scope".into())));
    assert!(elsewhere.unwrap_err().contains("no unit of sshd's"));
}

#[test]
fn a_frozen_sshd_is_thawed_through_its_unit() {
    let mut snapshot = unit_of_sshd(healthy());
    owners(&mut snapshot).for_each(|o| o.frozen = true);
    let thaw = Step::ThawUnit { unit: "ssh.service".into() };
    assert_eq!(planned(snapshot.clone(), &Policy::default(), &[]), Ok(vec![thaw]));
    snapshot.sshd.let_go_in_vain = true;
    assert_eq!(planned(snapshot.clone(), &Policy::default(), &[]), Ok(vec![restart()]));
    snapshot.sshd.let_go_in_vain = false;
    owners(&mut snapshot).for_each(|o| o.unit = Some("session-1.scope".into()));
    assert!(planned(snapshot, &Policy::default(), &[]).unwrap_err().contains("is no unit of sshd's"));
}
