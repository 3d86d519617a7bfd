//! sshd's own faults on a scratch host with a real sshd as oracle: each is named, mended so that `sshd -t` passes, and undone.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::pass::{Outcome, Report, check, repair};
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{StateDir, Undone, history, undo};
use ssh_rescue::rehearse::drill::{DrillError, Sight, Stage};

use super::common::root;

const MAIN: &str = "/etc/ssh/sshd_config";
const GOOD: &str = "# the admin's own\nPort 22\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM no\nPasswordAuthentication no\nHostKey /etc/ssh/ssh_host_ed25519_key\n";

struct Fault {
    name: &'static str,
    make: fn(&Stage<'_>) -> Result<(), DrillError>,
    /// The code that `check` gives.
    code: &'static str,
    /// What the mend is, in its words: each must be part of them.
    mend: &'static [&'static str],
}

fn main_file(stage: &Stage<'_>, more: &str) -> Result<(), DrillError> {
    stage.write(MAIN, &format!("{GOOD}{more}"))
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "a bad option",
        make: |s| main_file(s, "Bogus yes\nX11Forwarding no\nBogus2 no\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 7 (\"Bogus yes\")", "comment out line 9 (\"Bogus2 no\")"],
    },
    Fault {
        name: "a bad option in a drop-in",
        make: |s| s.write("/etc/ssh/sshd_config.d/50-x.conf", "Banner none\nBoguz 1\n"),
        code: "sshd.config.invalid",
        mend: &["/etc/ssh/sshd_config.d/50-x.conf: comment out line 2"],
    },
    Fault {
        name: "bad options in a drop-in and in the main file, and a bad value",
        make: |s| {
            s.write("/etc/ssh/sshd_config.d/50-x.conf", "Boguz 1\n")?;
            main_file(s, "PermitRootLogin maybe\nBogus yes\n")
        },
        code: "sshd.config.invalid",
        mend: &[
            "50-x.conf: comment out line 1",
            "comment out line 7 (\"PermitRootLogin maybe\")",
            "comment out line 8",
        ],
    },
    Fault {
        name: "an include below /etc/ssh by a relative path",
        make: |s| {
            s.write("/etc/ssh/mine.conf", "Boguz 1\n")?;
            main_file(s, "Include mine.conf\n")
        },
        code: "sshd.config.invalid",
        mend: &["/etc/ssh/mine.conf: comment out line 1"],
    },
    Fault {
        name: "a bad value at which sshd stops",
        make: |s| main_file(s, "LoginGraceTime x\nMaxStartups 10:3\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 7", "comment out line 8"],
    },
    Fault {
        name: "a keyword without its argument",
        make: |s| main_file(s, "AllowUsers\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 7 (\"AllowUsers\")", "out of force"],
    },
    Fault {
        name: "a subsystem twice",
        make: |s| main_file(s, "Subsystem sftp internal-sftp\nSubsystem sftp /usr/lib/openssh/sftp-server\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 8"],
    },
    Fault {
        name: "a port within a match block",
        make: |s| main_file(s, "Match User bob\n\tBanner none\n\tPort 22\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 9 (\"Port 22\")"],
    },
    Fault {
        name: "a match that is none: its block must not hold for everybody",
        make: |s| {
            main_file(
                s,
                "Match Usr bob\n\tPasswordAuthentication yes\n# a note\n\tPermitRootLogin yes\nMatch User eve\n\tBanner none\n",
            )
        },
        code: "sshd.config.invalid",
        mend: &["comment out lines 7 to 10"],
    },
    Fault {
        name: "an address that is none",
        make: |s| main_file(s, "ListenAddress 0.0.0.0\nListenAddress not.a.host.invalid\nListenAddress ::\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 8"],
    },
    Fault {
        name: "a command without its user",
        make: |s| main_file(s, "AuthorizedKeysCommand /bin/true\n"),
        code: "sshd.config.invalid",
        mend: &["comment out line 7"],
    },
    Fault {
        name: "the main file is missing",
        make: |_| gone(&[MAIN]),
        code: "sshd.config.missing",
        mend: &["is missing: write"],
    },
    Fault {
        name: "the main file includes itself",
        make: |s| main_file(s, "Include sshd_config\n"),
        code: "sshd.config.invalid",
        mend: &["Too many recursive configuration includes", "keep the admin's file"],
    },
    Fault {
        name: "explicit host keys are missing",
        make: |s| {
            gone(&["/etc/ssh/ssh_host_ed25519_key"])?;
            main_file(s, "HostKey /etc/ssh/mine_ecdsa_key\n")
        },
        code: "sshd.keys.missing",
        mend: &["make the host key /etc/ssh/ssh_host_ed25519_key (ed25519)", "mine_ecdsa_key (ecdsa)"],
    },
    Fault {
        name: "the default host keys are missing",
        make: |s| {
            for kind in ["rsa", "ecdsa", "ed25519"] {
                let _ = fs::remove_file(format!("/etc/ssh/ssh_host_{kind}_key"));
            }
            s.write(MAIN, "Port 22\nUsePAM no\n")
        },
        code: "sshd.keys.missing",
        mend: &["ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key"],
    },
    Fault {
        name: "host keys are missing where RHEL's group ssh_keys is, and this sshd wants them for root alone",
        make: |s| {
            group_of_keys(s)?;
            gone(&["/etc/ssh/ssh_host_ed25519_key"])
        },
        code: "sshd.keys.missing",
        mend: &["make the host key /etc/ssh/ssh_host_ed25519_key"],
    },
    Fault {
        name: "a host key as RHEL 8 has it, which this sshd does not take",
        make: |s| {
            group_of_keys(s)?;
            mode("/etc/ssh/ssh_host_ed25519_key", 0o640)
        },
        code: "sshd.keys.mode",
        mend: &["make /etc/ssh/ssh_host_ed25519_key mode 0600, owner 0:0"],
    },
    Fault {
        name: "a cipher that nobody knows in the file of the crypto policy that RHEL's drop-in includes",
        make: |s| {
            fs::create_dir_all("/etc/crypto-policies/back-ends").unwrap();
            let policy = "/etc/crypto-policies/back-ends/opensshserver.config";
            s.write(policy, "RekeyLimit 1G\nCiphers aes256-gcm@openssh.com,bogus\n")?;
            s.write("/etc/ssh/sshd_config.d/40-redhat-crypto-policies.conf", &format!("Include {policy}\n"))?;
            s.write("/etc/ssh/sshd_config.d/50-redhat.conf", "SyslogFacility AUTHPRIV\nX11Forwarding yes\n")
        },
        code: "sshd.config.invalid",
        mend: &["/etc/crypto-policies/back-ends/opensshserver.config: comment out line 2"],
    },
    Fault {
        name: "a host key is empty",
        make: |s| s.write("/etc/ssh/ssh_host_ed25519_key", ""),
        code: "sshd.keys.missing",
        mend: &["make the host key /etc/ssh/ssh_host_ed25519_key"],
    },
    Fault {
        name: "a host key is for everybody to read",
        make: |_| mode("/etc/ssh/ssh_host_ed25519_key", 0o644),
        code: "sshd.keys.mode",
        mend: &["make /etc/ssh/ssh_host_ed25519_key mode 0600, owner 0:0"],
    },
    Fault {
        name: "the folder of the unprivileged child is everybody's",
        make: |_| mode("/run/sshd", 0o777),
        code: "sshd.privsep.mode",
        mend: &["make /run/sshd mode 0755, owner 0:0"],
    },
    Fault {
        name: "the folder of the unprivileged child is missing, and no unit makes it",
        make: |_| fs::remove_dir("/run/sshd").map_err(|source| DrillError::Write { path: "/run/sshd".into(), source }),
        code: "sshd.privsep.missing",
        mend: &["make the folder /run/sshd"],
    },
    Fault {
        name: "the user of the unprivileged child is missing",
        make: |s| {
            for file in ["/etc/passwd", "/etc/shadow"] {
                let text = fs::read_to_string(file).unwrap_or_default();
                let rest: Vec<&str> = text.lines().filter(|l| !l.starts_with("sshd:")).collect();
                s.write(file, &format!("{}\n", rest.join("\n")))?;
            }
            Ok(())
        },
        code: "sshd.user.missing",
        mend: &["make the system user sshd"],
    },
    Fault {
        name: "a user, a folder, a key and a line are wrong at once",
        make: |s| {
            mode("/run/sshd", 0o777)?;
            mode("/etc/ssh/ssh_host_ed25519_key", 0o666)?;
            main_file(s, "Bogus yes\n")
        },
        code: "sshd.config.invalid",
        mend: &["comment out line 7", "make /run/sshd mode 0755", "make /etc/ssh/ssh_host_ed25519_key mode 0600"],
    },
];

/// RHEL 8 keeps its host keys 0640 for this group; its sshd is changed to take them.
fn group_of_keys(stage: &Stage<'_>) -> Result<(), DrillError> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    stage.write("/etc/group", &format!("{groups}ssh_keys:x:998:\n"))
}

fn gone(paths: &[&str]) -> Result<(), DrillError> {
    let remove = |path: &&str| fs::remove_file(path).map_err(|source| DrillError::Write { path: path.into(), source });
    paths.iter().try_for_each(remove)
}

fn mode(path: &str, mode: u32) -> Result<(), DrillError> {
    let set = fs::set_permissions(path, PermissionsExt::from_mode(mode));
    set.map_err(|source| DrillError::Write { path: path.into(), source })
}

/// Names, modes, owners and contents of all that a mend of sshd may touch.
fn files() -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["/etc/ssh", "/etc/ssh/sshd_config.d", "/run/sshd", "/etc/crypto-policies/back-ends"] {
        all.push(described(Path::new(folder)));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        all.extend(entries.filter(|e| e.path().is_file()).map(|e| described(&e.path())));
    }
    all.push(described(Path::new("/etc/passwd")));
    all.sort();
    all
}

fn described(path: &Path) -> String {
    match path.symlink_metadata() {
        Ok(meta) => {
            let content = fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
            format!("{} {:o} {}:{} {content}", path.display(), meta.mode(), meta.uid(), meta.gid())
        }
        Err(_) => format!("{} is not there", path.display()),
    }
}

fn told(report: &Report) -> String {
    format!(
        "{:?}: {}\n  plan {:#?}\n  declined {:?}\n  error {:?}",
        report.outcome,
        report.before.sentence,
        report.plan.as_ref().map(|p| &p.steps),
        report.declined,
        report.error,
    )
}

/// One whole way: check, dry run, repair, again, undo.
fn practise(fault: &Fault) -> Result<Result<(), String>, DrillError> {
    Stage::build(&Host::live(), |stage| {
        fs::create_dir_all("/etc/ssh/sshd_config.d").unwrap();
        stage.write(MAIN, GOOD)?;
        (fault.make)(stage)?;
        let (host, state) = (stage.host, StateDir::default());
        let broken = files();
        let mut policy = Policy::default();
        let report = repair(host, &state, &policy, false).unwrap();
        if report.outcome != Outcome::Healthy || files() != broken {
            return Ok(Err(format!("sshd serves, and still something was done: {}", told(&report))));
        }
        policy.sshd.persist = true;
        let (judgement, _) = check(host, &policy);
        let Some(finding) = judgement.findings.iter().find(|f| f.code == fault.code) else {
            return Ok(Err(format!("no {} among {:?}", fault.code, judgement.findings)));
        };
        if !finding.mendable {
            return Ok(Err(format!("not mendable: {}", finding.summary)));
        }
        let dry = repair(host, &state, &policy, true).unwrap();
        if files() != broken {
            return Ok(Err(format!("a dry run wrote: {}", told(&dry))));
        }
        let report = repair(host, &state, &policy, false).unwrap();
        let passes = host.run(&Call::new("sshd", &["-t"])).map_err(DrillError::Run)?;
        if report.outcome != Outcome::Repaired || !passes.ok() || stage.see()? != [Sight::Banner; 2] {
            return Ok(Err(format!("{}; sshd says {}", told(&report), passes.complaint())));
        }
        let words: String =
            report.plan.iter().flat_map(|p| &p.steps).flat_map(|s| s.words()).collect::<Vec<_>>().join("; ");
        if let Some(lacking) = fault.mend.iter().find(|part| !words.contains(**part)) {
            return Ok(Err(format!("{lacking} is not in {words}")));
        }
        let mended = files();
        let again = repair(host, &state, &policy, false).unwrap();
        if again.outcome != Outcome::Healthy || files() != mended {
            return Ok(Err(format!("again: {}", told(&again))));
        }
        for entry in history(&Host::live(), &state).unwrap().entries.iter().rev() {
            if !matches!(undo(host, &state, &entry.id), Ok(Undone::TakenBack(_))) {
                return Ok(Err(format!("undo of {:?}", entry.steps)));
            }
        }
        let now = files();
        Ok(if now == broken { Ok(()) } else { Err(format!("after the undo:\n{broken:#?}\n{now:#?}")) })
    })
}

#[test]
fn each_fault_of_sshd_is_mended_by_the_least_and_undone() {
    if !root("sshd's faults") {
        return;
    }
    let mut failed = Vec::new();
    for fault in FAULTS {
        match practise(fault) {
            Ok(Ok(())) => println!("{}: mended, undone", fault.name),
            Ok(Err(why)) => failed.push(format!("{}: {why}", fault.name)),
            Err(error) => failed.push(format!("{}: {}", fault.name, chain(&error))),
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), FAULTS.len(), failed.join("\n\n"));
}

/// On a scratch host that has SELinux's file system, as far as it is looked at.
#[test]
fn a_port_of_selinux_is_looked_up_in_semanages_own_list() {
    if !root("the list of semanage") {
        return;
    }
    let codes = |stage: &Stage<'_>, policy: &Policy| -> Vec<&'static str> {
        let codes = check(stage.host, policy).0.findings.iter().map(|f| f.code).collect::<Vec<_>>();
        codes.into_iter().filter(|code| code.starts_with("sshd.selinux")).collect()
    };
    Stage::build(&Host::live(), |stage| {
        use nix::mount::{MsFlags, mount};
        let mut policy = Policy::default();
        policy.ssh.ports = vec![2222];
        mount(Some("scratch"), "/sys/fs", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir_all("/sys/fs/selinux").unwrap();
        fs::create_dir_all("/etc/selinux/mls/active").unwrap();
        stage.write("/etc/selinux/config", "SELINUX=enforcing\n# SELINUXTYPE=no\nSELINUXTYPE=mls\n")?;
        let none = Vec::<&str>::new();
        for (enforcing, listed, expected) in [
            ("0", "", none.clone()),
            ("1", "", vec!["sshd.selinux.port"]),
            ("1", "portcon tcp 2222 system_u:object_r:http_port_t:s0\n", vec!["sshd.selinux.port"]),
            ("1", "portcon tcp 2220-2230 system_u:object_r:ssh_port_t:s0\n", none),
        ] {
            stage.write("/sys/fs/selinux/enforce", enforcing)?;
            stage.write("/etc/selinux/mls/active/ports.local", listed)?;
            assert_eq!(codes(stage, &policy), expected, "{enforcing} {listed:?}");
        }
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}
