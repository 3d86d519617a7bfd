//! What people have today: monit, and the cloud vendor's script.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use super::booted::Booted;
use super::knock::first_client;
use super::latency::since;
use super::lockouts::{Lockout, reset};

/// As monit's own manual and the distributions' examples watch over sshd, once a second.
const MONITRC: &str = "set daemon 1
set pidfile /run/monit.pid
set idfile /var/lib/monit.id
set statefile /var/lib/monit.state
check process sshd with pidfile /run/sshd.pid
  start program = \"/usr/bin/systemctl start ssh\"
  stop program = \"/usr/bin/systemctl stop ssh\"
  if failed host 192.0.2.10 port 22 protocol ssh then restart
";
const SCRIPT: &str = "iptables -P INPUT ACCEPT
iptables -F
ufw disable || true
systemctl restart ssh
sed -i '1i sshd2 sshd : ALL' /etc/hosts.allow";

/// monit, of this machine.
pub struct Monit(PathBuf);

impl Monit {
    pub fn find() -> Option<Monit> {
        let path = PathBuf::from("/usr/bin/monit");
        if !path.exists() {
            eprintln!("SKIPPED monit: it is not installed on this machine (apt-get install monit)");
            return None;
        }
        Some(Monit(path))
    }

    pub fn start(&self, host: &Booted) {
        std::fs::copy(&self.0, host.path("/usr/bin/monit")).expect("copy monit to the host");
        host.sh(&format!("(umask 077; cat >/etc/monitrc <<'END'\n{MONITRC}\nEND\n)\nchmod 755 /usr/bin/monit"));
        host.sh("systemd-run --quiet --unit=monit /usr/bin/monit -I -c /etc/monitrc");
        // Its first cycles are over.
        sleep(Duration::from_secs(5));
        host.sh("systemctl -q is-active monit");
    }
}

/// The script, started the moment that the lock-out is made.
pub fn by_hand(host: &Booted, lockout: &Lockout, patience: Duration) -> Option<Duration> {
    let begin: SystemTime = lockout.make(host);
    let end = std::thread::scope(|scope| {
        scope.spawn(|| host.run(SCRIPT));
        first_client(host, patience)
    });
    reset(host);
    sleep(Duration::from_millis(300));
    end.map(|end| since(begin, end))
}
