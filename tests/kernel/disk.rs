//! `--root`: the files of a disk that does not run. Each fault is seen, mended, and taken back to the last byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ssh_rescue::host::{Call, Host};
use ssh_rescue::judge::{Judgement, Severity, Verdict};
use ssh_rescue::pass::{Outcome, check, repair};
use ssh_rescue::policy::{Policy, parse};
use ssh_rescue::record::{Hold, StateDir, Undone, history, undo};

use super::common::{patient, root, skipped};
use super::started::PROGRAM;

const UNIT: &str = "[Unit]\nDescription=sshd\n[Service]\nExecStart=/usr/sbin/sshd -D\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n";
const NFT_UNIT: &str = "[Service]\nType=oneshot\nExecStart=/usr/sbin/nft -f /etc/nftables.conf\n";
const NFT_DROPS: &str = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tiif lo accept\n\t}\n}\n";
const V4_DROPS: &str =
    "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n";

/// A small Debian: this machine's sshd, with keys of its own, and what its boot would start.
pub struct Disk {
    pub folder: tempfile::TempDir,
    pub host: Host,
}

impl Disk {
    /// None where it cannot be made; says so.
    pub fn new(test: &str) -> Option<Disk> {
        if !root(test) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let Some(sshd) = Host::live().which("sshd") else {
            skipped(test, "no sshd is installed");
            return None;
        };
        let host = match Host::disk(&folder.path().join("disk")) {
            Ok(host) => host,
            Err(error) => {
                skipped(test, &format!("open a disk: {error}"));
                return None;
            }
        };
        let disk = Disk { folder, host };
        disk.write("etc/passwd", "root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n");
        disk.write("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        disk.write("etc/ssh/sshd_config", "# an admin's\nInclude /etc/ssh/sshd_config.d/*.conf\nX11Forwarding no\n");
        fs::create_dir(disk.path("etc/ssh/sshd_config.d")).unwrap();
        disk.write("usr/lib/systemd/systemd", "");
        disk.write("usr/lib/systemd/system/ssh.service", UNIT);
        disk.write("usr/lib/systemd/system/nftables.service", NFT_UNIT);
        fs::create_dir_all(disk.path("usr/sbin")).unwrap();
        fs::copy(sshd, disk.path("usr/sbin/sshd")).unwrap();
        symlink("usr/lib", disk.path("lib")).unwrap();
        disk.link("/lib/systemd/system/ssh.service", "etc/systemd/system/multi-user.target.wants/ssh.service");
        disk.link("/lib/systemd/system/ssh.service", "etc/systemd/system/sshd.service");
        let key = disk.path("etc/ssh/ssh_host_ed25519_key").to_string_lossy().into_owned();
        let made = Host::live().run(&Call::new("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key])).unwrap();
        assert!(made.ok(), "{}", made.complaint());
        Some(disk)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("disk").join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, target: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Lets its boot load a file of nft.
    pub fn nft(&self, rules: &str) {
        self.link(
            "/usr/lib/systemd/system/nftables.service",
            "etc/systemd/system/sysinit.target.wants/nftables.service",
        );
        self.write("etc/nftables.conf", rules);
    }

    pub fn state(&self) -> StateDir {
        StateDir::of(&self.host)
    }

    pub fn check(&self) -> Judgement {
        check(&self.host, &Policy::default()).0
    }

    /// Everything but what this program keeps for itself.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        look(&self.path(""), &mut tree);
        tree.retain(|path, _| !path.starts_with(self.path("var")));
        tree
    }
}

/// Kind, mode, owner and content of all that is below a folder; folders by their names alone.
pub fn look(folder: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let what = match () {
            () if meta.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
            () if meta.is_dir() => "folder".to_owned(),
            () if meta.is_file() => {
                format!("{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), fs::read(&path).unwrap().escape_ascii())
            }
            () => "special".to_owned(),
        };
        if meta.is_dir() {
            look(&path, tree);
        }
        tree.insert(path, what);
    }
}

fn critical(judgement: &Judgement) -> Vec<&str> {
    judgement.findings.iter().filter(|f| f.severity == Severity::Critical).map(|f| f.code).collect()
}

/// Lets its boot start a firewalld, as it is when it was just installed.
fn firewalld(disk: &Disk) {
    disk.write("usr/lib/systemd/system/firewalld.service", "[Service]\nExecStart=/usr/sbin/firewalld\n");
    let wants = "etc/systemd/system/multi-user.target.wants/firewalld.service";
    disk.link("/usr/lib/systemd/system/firewalld.service", wants);
    fs::create_dir_all(disk.path("etc/firewalld/zones")).unwrap();
    for (file, text) in [
        (
            "zones/public",
            "<zone>\n  <service name=\"ssh\"/>\n  <service name=\"dhcpv6-client\"/>\n  <forward/>\n</zone>\n",
        ),
        ("zones/drop", "<zone target=\"DROP\">\n  <forward/>\n</zone>\n"),
        ("services/ssh", "<service><short>SSH</short><port protocol=\"tcp\" port=\"22\"/></service>\n"),
        (
            "services/dhcpv6-client",
            "<service><port protocol=\"udp\" port=\"546\"/><destination ipv6=\"fe80::/64\"/></service>\n",
        ),
        ("policies/allow-host-ipv6", "<policy><ingress-zone name=\"ANY\"/><egress-zone name=\"HOST\"/></policy>\n"),
    ] {
        disk.write(&format!("usr/lib/firewalld/{file}.xml"), text);
    }
}

/// One fault of a disk: how it comes about, and by which critical finding it is seen.
struct Fault {
    name: &'static str,
    make: fn(&Disk),
    code: &'static str,
}

const FAULTS: [Fault; 17] = [
    Fault {
        name: "a bad option on a disk",
        make: |disk| disk.write("etc/ssh/sshd_config", "Prot 22\nX11Forwarding no\n"),
        code: "sshd.config.invalid",
    },
    Fault {
        name: "a bad drop-in on a disk",
        make: |disk| disk.write("etc/ssh/sshd_config.d/50-cloud.conf", "PermitRootLogin perhaps\n"),
        code: "sshd.config.invalid",
    },
    Fault {
        name: "no sshd_config on a disk",
        make: |disk| fs::remove_file(disk.path("etc/ssh/sshd_config")).unwrap(),
        code: "sshd.config.missing",
    },
    Fault {
        name: "another port on a disk",
        make: |disk| disk.write("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nPort 2222\n"),
        code: "sshd.config.port",
    },
    Fault {
        name: "no host keys on a disk",
        make: |disk| fs::remove_file(disk.path("etc/ssh/ssh_host_ed25519_key")).unwrap(),
        code: "sshd.keys.missing",
    },
    Fault {
        name: "open host keys on a disk",
        make: |disk| {
            let open = fs::Permissions::from_mode(0o644);
            fs::set_permissions(disk.path("etc/ssh/ssh_host_ed25519_key"), open).unwrap();
        },
        code: "sshd.keys.mode",
    },
    Fault {
        name: "sshd disabled on a disk",
        make: |disk| {
            fs::remove_file(disk.path("etc/systemd/system/multi-user.target.wants/ssh.service")).unwrap();
        },
        code: "sshd.unit.disabled",
    },
    Fault {
        name: "ssh.socket on another port on a disk",
        make: |disk| {
            let socket =
                "[Unit]\nConflicts=ssh.service\n[Socket]\nListenStream=2222\n[Install]\nWantedBy=sockets.target\n";
            disk.write("usr/lib/systemd/system/ssh.socket", socket);
            disk.link("/lib/systemd/system/ssh.socket", "etc/systemd/system/sockets.target.wants/ssh.socket");
            fs::remove_file(disk.path("etc/systemd/system/multi-user.target.wants/ssh.service")).unwrap();
        },
        code: "sshd.socket.listen",
    },
    Fault {
        name: "hosts.deny on a disk",
        make: |disk| disk.write("etc/hosts.deny", "ALL: ALL\n"),
        code: "wrappers.deny",
    },
    Fault { name: "nftables.conf on a disk", make: |disk| disk.nft(NFT_DROPS), code: "firewall.input.drop" },
    Fault {
        name: "a named interface in nftables.conf on a disk",
        make: |disk| {
            disk.write("etc/network/interfaces", "iface ens7 inet dhcp\n");
            disk.nft(&NFT_DROPS.replace("iif lo accept", "iifname eth0 accept"));
        },
        code: "firewall.input.drop",
    },
    Fault {
        name: "rules.v4 on a disk",
        make: |disk| {
            let unit = "[Service]\nExecStart=/usr/sbin/netfilter-persistent start\n";
            disk.write("usr/lib/systemd/system/netfilter-persistent.service", unit);
            let wants = "etc/systemd/system/multi-user.target.wants/netfilter-persistent.service";
            disk.link("/usr/lib/systemd/system/netfilter-persistent.service", wants);
            disk.write("usr/share/netfilter-persistent/plugins.d/15-ip4tables", "#!/bin/sh\n");
            disk.write("etc/iptables/rules.v4", V4_DROPS);
        },
        code: "firewall.input.drop",
    },
    Fault {
        name: "/etc/sysconfig/iptables on a disk",
        make: |disk| {
            let unit = "[Service]\nExecStart=/usr/libexec/iptables/iptables.init start\n";
            disk.write("usr/lib/systemd/system/iptables.service", unit);
            let wants = "etc/systemd/system/multi-user.target.wants/iptables.service";
            disk.link("/usr/lib/systemd/system/iptables.service", wants);
            disk.write("etc/sysconfig/iptables", V4_DROPS);
        },
        code: "firewall.input.drop",
    },
    Fault {
        name: "ufw on a disk",
        make: |disk| {
            disk.write(
                "usr/lib/systemd/system/ufw.service",
                "[Service]\nExecStart=/usr/lib/ufw/ufw-init start quiet\n",
            );
            disk.link("/usr/lib/systemd/system/ufw.service", "etc/systemd/system/multi-user.target.wants/ufw.service");
            disk.write("etc/ufw/ufw.conf", "ENABLED=yes\n");
            let policies = "DEFAULT_INPUT_POLICY=DROP\nDEFAULT_OUTPUT_POLICY=ACCEPT\nDEFAULT_FORWARD_POLICY=DROP\n";
            disk.write("etc/default/ufw", &format!("IPV6=yes\n{policies}MANAGE_BUILTINS=no\n"));
            for six in ["", "6"] {
                let chains = |when: &str| format!("*filter\n:ufw{six}-{when}-input - [0:0]\nCOMMIT\n");
                disk.write(&format!("etc/ufw/before{six}.rules"), &chains("before"));
                disk.write(&format!("etc/ufw/after{six}.rules"), &chains("after"));
                let user =
                    format!("*filter\n:ufw{six}-user-input - [0:0]\n### RULES ###\n\n### END RULES ###\nCOMMIT\n");
                disk.write(&format!("etc/ufw/user{six}.rules"), &user);
            }
        },
        code: "firewall.input.drop",
    },
    Fault {
        name: "a zone of firewalld on a disk",
        make: |disk| {
            firewalld(disk);
            disk.write("etc/firewalld/zones/public.xml", "<zone>\n  <service name=\"dhcpv6-client\"/>\n</zone>\n");
        },
        code: "firewall.input.reject",
    },
    Fault {
        name: "another default zone of firewalld on a disk",
        make: |disk| {
            firewalld(disk);
            disk.write("etc/firewalld/firewalld.conf", "# its user's\nDefaultZone=drop\n");
        },
        code: "firewall.input.drop",
    },
    Fault {
        name: "everything at once on a disk",
        make: |disk| {
            // One kind of key, and not the one whose primes take long to find.
            disk.write("etc/ssh/sshd_config", "Prot 22\nHostKey /etc/ssh/ssh_host_ed25519_key\n");
            disk.write("etc/hosts.deny", "ALL: ALL\n");
            disk.nft(NFT_DROPS);
            fs::remove_file(disk.path("etc/ssh/ssh_host_ed25519_key")).unwrap();
            fs::remove_file(disk.path("etc/systemd/system/multi-user.target.wants/ssh.service")).unwrap();
        },
        code: "sshd.listener.none",
    },
];

#[test]
fn each_fault_of_a_disk_is_seen_mended_and_taken_back() {
    for Fault { name, make, code } in FAULTS {
        let Some(disk) = Disk::new(name) else { return };
        let well = disk.check();
        assert_eq!(well.verdict, Verdict::Reachable, "{name}: {}", well.sentence);
        assert!(well.sentence.starts_with("after the next boot of this disk clients can connect"), "{}", well.sentence);
        make(&disk);
        let links_libwrap = Host::live()
            .run(&Call::new("ldd", &["/usr/sbin/sshd"]))
            .is_ok_and(|ldd| String::from_utf8_lossy(&ldd.stdout).contains("libwrap"));
        if code == "wrappers.deny" && !links_libwrap {
            skipped(name, "this machine's sshd does not ask TCP wrappers");
            continue;
        }
        let (policy, state, broken) = (Policy::default(), disk.state(), disk.tree());
        let ill = disk.check();
        assert_eq!(ill.verdict, Verdict::Blocked, "{name}: {}", ill.sentence);
        assert!(ill.sentence.starts_with("after the next boot of this disk a client would see: "), "{}", ill.sentence);
        assert!(critical(&ill).contains(&code), "{name}: {:?}", ill.findings);
        let dry = repair(&disk.host, &state, &policy, true).unwrap();
        assert_eq!((dry.outcome, disk.tree() == broken), (Outcome::Refused, true), "{name}: {:?}", dry.error);
        assert!(!disk.path("var").exists(), "{name}: a dry run wrote");
        let report = repair(&disk.host, &state, &policy, false).unwrap();
        let told = format!("{name}: {:?}, {:?}, {:?}", report.plan, report.declined, report.error);
        assert_eq!(report.outcome, Outcome::Repaired, "{told}");
        assert_eq!(disk.check().verdict, Verdict::Reachable, "{told}");
        let again = repair(&disk.host, &state, &policy, false).unwrap();
        assert_eq!(again.outcome, Outcome::Healthy, "{name}");
        for entry in history(&disk.host, &state).unwrap().entries.iter().rev() {
            assert!(matches!(undo(&disk.host, &state, &entry.id), Ok(Undone::TakenBack(_))), "{name}");
        }
        let mut left = disk.tree();
        left.retain(|path, what| broken.get(path) != Some(what) && !path.ends_with("multi-user.target.wants"));
        assert!(left.is_empty() && broken.keys().all(|path| path.symlink_metadata().is_ok()), "{name}: {left:#?}");
    }
}

#[test]
fn a_rule_for_a_disk_names_only_the_interfaces_that_the_policy_names() {
    let Some(disk) = Disk::new("a rule's interface") else { return };
    disk.nft(NFT_DROPS);
    let rule = |policy: &Policy| {
        let report = repair(&disk.host, &disk.state(), policy, true).unwrap();
        format!("{:?}", report.plan.unwrap().steps)
    };
    assert!(!rule(&Policy::default()).contains("iifname"), "the interface is a guess");
    let named = rule(&parse("[ssh]\ninterfaces = [\"ens9\"]\n").unwrap());
    assert!(named.contains("ens9"), "{named}");
}

#[test]
fn somebodys_word_on_a_disk_stays() {
    let Some(disk) = Disk::new("a mask on a disk") else { return };
    disk.link("/dev/null", "etc/systemd/system/ssh.service");
    let broken = disk.tree();
    let judgement = disk.check();
    assert_eq!(judgement.verdict, Verdict::Blocked, "{}", judgement.sentence);
    assert!(critical(&judgement).contains(&"sshd.unit.masked"), "{:?}", judgement.findings);
    let report = repair(&disk.host, &disk.state(), &Policy::default(), false).unwrap();
    assert_eq!((report.outcome, disk.tree() == broken), (Outcome::Refused, true), "{:?}", report.plan);
    assert!(report.declined.iter().any(|d| d.code == "sshd.unit.masked"), "{:?}", report.declined);
}

#[test]
fn what_makes_its_rules_only_when_it_starts_is_unknown() {
    let Some(disk) = Disk::new("ferm on a disk") else { return };
    disk.write("usr/lib/systemd/system/ferm.service", "[Service]\nExecStart=/etc/init.d/ferm start\n");
    disk.link("/usr/lib/systemd/system/ferm.service", "etc/systemd/system/sysinit.target.wants/ferm.service");
    for (enabled, verdict) in [("yes", Verdict::Unknown), ("no", Verdict::Reachable)] {
        disk.write("etc/default/ferm", &format!("FAST=yes\nENABLED=\"{enabled}\"\n"));
        let judgement = disk.check();
        assert_eq!(judgement.verdict, verdict, "{enabled}: {}", judgement.sentence);
        let report = repair(&disk.host, &disk.state(), &Policy::default(), false).unwrap();
        let outcome = if enabled == "yes" { Outcome::Unknown } else { Outcome::Healthy };
        assert_eq!(report.outcome, outcome, "{enabled}: {:?}", report.plan);
    }
}

#[test]
fn what_is_not_modelled_of_a_disks_firewalld_is_unknown() {
    let zone = "<zone>\n  <service name=\"ssh\"/>\n</zone>\n";
    let bound = "<zone><interface name=\"ens5\"/></zone>\n";
    for (file, text, verdict) in [
        ("etc/firewalld/firewalld.conf", "DefaultZone=public\n", Verdict::Reachable),
        ("etc/firewalld/direct.xml", "<direct>\n</direct>\n", Verdict::Reachable),
        (
            "etc/firewalld/direct.xml",
            "<direct><rule ipv=\"ipv4\" table=\"filter\" chain=\"INPUT\">x</rule></direct>",
            Verdict::Unknown,
        ),
        ("etc/firewalld/policies/mine.xml", "<policy><egress-zone name=\"HOST\"/></policy>", Verdict::Unknown),
        ("etc/firewalld/policies/mine.xml", "<policy><egress-zone name=\"public\"/></policy>", Verdict::Reachable),
        ("etc/firewalld/zones/public.xml", "<zone><rule priority=\"-1\"><drop/></rule></zone>", Verdict::Unknown),
        ("etc/firewalld/zones/public.xml", "<zone><service name=\"ssh\"/>", Verdict::Unknown),
        ("etc/firewalld/zones/public/part.xml", zone, Verdict::Unknown),
        (
            "etc/firewalld/services/ssh.xml",
            "<service><port protocol=\"tcp\" port=\"2222\"/></service>",
            Verdict::Blocked,
        ),
        ("etc/firewalld/firewalld.conf", "DefaultZone=nowhere\n", Verdict::Unknown),
        (
            "etc/firewalld/zones/trusted.xml",
            "<zone target=\"ACCEPT\"><source ipset=\"office\"/></zone>",
            Verdict::Unknown,
        ),
        // Clients are taken to come in by eth0, of which no file tells.
        ("etc/firewalld/zones/drop.xml", bound, Verdict::Unknown),
        ("etc/NetworkManager/system-connections/x.nmconnection", "[connection]\nzone=drop\n", Verdict::Unknown),
        (
            "etc/NetworkManager/system-connections/x.nmconnection",
            "[connection]\nzone=drop\ninterface-name=eth0\n",
            Verdict::Blocked,
        ),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nZONE=drop\n", Verdict::Blocked),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\n", Verdict::Reachable),
    ] {
        let Some(disk) = Disk::new("firewalld's files on a disk") else { return };
        firewalld(&disk);
        disk.write(file, text);
        let judgement = disk.check();
        assert_eq!(judgement.verdict, verdict, "{file}: {text}: {}", judgement.sentence);
    }
}

#[test]
fn services_that_take_each_other_in_without_end_are_read_once() {
    let Some(disk) = Disk::new("services that include each other") else { return };
    firewalld(&disk);
    // Followed one by one, they are a thousand to the power of seven; the last takes in the first.
    let service = |opens: &str, other: &str| {
        let include = format!("<include service=\"{other}\"/>");
        format!("<service>{opens}{}</service>", include.repeat(1000))
    };
    disk.write("etc/firewalld/services/ssh.xml", &service("<port protocol=\"tcp\" port=\"22\"/>", "l0"));
    for n in 0..7 {
        disk.write(&format!("etc/firewalld/services/l{n}.xml"), &service("", &format!("l{}", n + 1)));
    }
    disk.write("etc/firewalld/services/l7.xml", &service("", "ssh"));
    let judgement = disk.check();
    assert_eq!(judgement.verdict, Verdict::Reachable, "{}", judgement.sentence);
    // Each of many services opens many ports.
    let ports: String = (1000..5000).map(|n| format!("<port protocol=\"tcp\" port=\"{n}\"/>")).collect();
    disk.write("etc/firewalld/services/many.xml", &format!("<service>{ports}</service>"));
    disk.write("etc/firewalld/zones/public.xml", &format!("<zone>{}</zone>", "<service name=\"many\"/>".repeat(8000)));
    let judgement = disk.check();
    assert_eq!(judgement.verdict, Verdict::Unknown, "{}", judgement.sentence);
    assert!(judgement.findings.iter().any(|f| f.summary.contains("more than 4096 rules")), "{:?}", judgement.findings);
}

#[test]
fn a_hold_on_a_disk_is_kept_and_can_be_ended_from_elsewhere() {
    let Some(disk) = Disk::new("a hold on a disk") else { return };
    everything(&disk);
    let hold = Hold::new(3600, Some("evidence"), "user 0".into()).unwrap();
    disk.state().put_on_hold(&disk.host, &hold).unwrap();
    let (root, broken) = (disk.path("").to_string_lossy().into_owned(), disk.tree());
    let run = |verb: &str| {
        let output = Host::live().run(&patient(PROGRAM, &[verb, "--root", &root, "--json"], "")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let refused = run("repair");
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert!(refused.to_string().contains("on hold until"), "{refused}");
    assert!(disk.tree() == broken, "a disk on hold was written to");
    assert_eq!(run("release")["released"], true);
    assert_eq!(run("release")["released"], false);
    let report = run("repair");
    assert_eq!(report["outcome"], "repaired", "{report}");
}

/// The last of the faults: all that can be wrong, at once.
pub fn everything(disk: &Disk) {
    (FAULTS[FAULTS.len() - 1].make)(disk);
}
