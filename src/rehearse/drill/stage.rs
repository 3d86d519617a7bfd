//! The scratch host of one lock-out: an sshd, a client on another address, and what either sees.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::DrillError;
use crate::facts::{Family, RouteKind};
use crate::host::{Call, Dialled, Host, NewRoute, Output, Rtnl, Scratch, ScratchError, dial};

const HOST: [(&str, u8); 2] = [("192.0.2.10", 24), ("2001:db8:2::10", 64)];
const ROUTER: [(&str, u8); 2] = [("192.0.2.1", 24), ("2001:db8:2::1", 64)];
const CLIENT: [(&str, u8); 2] = [("198.51.100.7", 32), ("2001:db8:100::7", 128)];

/// Units that load rules at boot.
const AT_BOOT: [&str; 6] = [
    "firewalld.service",
    "ip6tables.service",
    "iptables.service",
    "netfilter-persistent.service",
    "nftables.service",
    "ufw.service",
];

/// How long a client waits for a connection, and for the banner: libwrap keeps a client that it bars for five seconds.
const CONNECT: Duration = Duration::from_millis(1200);
const BANNER: Duration = Duration::from_millis(6500);

/// What `ssh` would say to a client of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    Banner,
    TimedOut,
    Refused,
    Closed,
    NoBanner,
}

impl Sight {
    pub fn words(self) -> &'static str {
        match self {
            Sight::Banner => "SSH banner",
            Sight::TimedOut => "timed out",
            Sight::Refused => "refused",
            Sight::Closed => "closed",
            Sight::NoBanner => "no banner",
        }
    }
}

/// The scratch host as the drill holds it. Everything runs on the thread that [`Stage::build`] calls back on.
pub struct Stage<'a> {
    pub host: &'a Host,
    sshd: Option<Child>,
    asks: Sender<()>,
    sights: Receiver<[Sight; 2]>,
}

impl Stage<'_> {
    /// Builds a scratch host with a running sshd and a client beside it, and runs `work` on it.
    pub fn build<T: Send>(
        host: &Host,
        work: impl FnOnce(&mut Stage<'_>) -> Result<T, DrillError> + Send,
    ) -> Result<T, DrillError> {
        let inside = |host: &Host| {
            let (asks, asked) = channel();
            let (answer, sights) = channel();
            let (lend, borrowed) = channel();
            thread::scope(|scope| {
                let client = scope
                    .spawn(move || host.scratch(Scratch::Network, move |host| client(host, &lend, &asked, &answer)));
                let result = borrowed.recv().map_err(|_| DrillError::Client).and_then(|namespace| {
                    let mut stage = Stage { host, sshd: None, asks, sights };
                    stage.connect(namespace)?;
                    stage.prepare()?;
                    stage.start_sshd()?;
                    let result = work(&mut stage);
                    stage.stop_sshd();
                    result
                });
                match (client.join(), result) {
                    (Ok(Err(error)), _) => Err(error),
                    (_, result) => Ok(result),
                }
            })
        };
        host.scratch(Scratch::Host, inside).map_err(DrillError::Scratch)?
    }

    fn connect(&mut self, namespace: OwnedFd) -> Result<(), DrillError> {
        let device = |action: &str| ScratchError::device(action.to_owned());
        let mut rtnl = Rtnl::open().map_err(device("open rtnetlink"))?;
        rtnl.up(1).map_err(device("set lo up"))?;
        rtnl.add_veth("eth0", "uplink", namespace.as_fd()).map_err(device("make a veth pair"))?;
        let index = link_index("eth0")?;
        let _ = self.host.write_sysctl(Path::new("/proc/sys/net/ipv6/conf/eth0/accept_dad"), "0");
        rtnl.up(index).map_err(device("set eth0 up"))?;
        for (address, prefix) in HOST {
            rtnl.add_address(index, ip(address)?, prefix).map_err(device("add an address to eth0"))?;
        }
        // The client's side sets its end up when it hears of it.
        self.see()?;
        for ((router, _), everywhere) in ROUTER.into_iter().zip(everywhere()) {
            let route = NewRoute {
                kind: RouteKind::Unicast,
                destination: everywhere,
                interface: Some(index),
                gateway: Some(ip(router)?),
                metric: 0,
            };
            rtnl.add_route(&route).map_err(device("add a default route"))?;
        }
        Ok(())
    }

    /// The few files that an sshd needs, as a fresh host has them.
    fn prepare(&mut self) -> Result<(), DrillError> {
        let _ = self.host.run(&Call::new("hostname", &["scratch-host"]));
        for dir in ["/etc/ssh/sshd_config.d", "/etc/ssh-rescue"] {
            let _ = std::fs::remove_dir_all(dir);
        }
        for (path, text) in [
            ("/etc/hosts.allow", ""),
            ("/etc/hosts.deny", ""),
            // libwrap asks for a client's name; where nobody can answer, let that be known at once.
            ("/etc/resolv.conf", ""),
            ("/etc/ssh/sshd_config", "Port 22\nUsePAM no\nHostKey /etc/ssh/ssh_host_ed25519_key\n"),
        ] {
            self.write(path, text)?;
        }
        // What the live host's next boot loads is no matter of this one.
        for unit in AT_BOOT {
            let path = format!("/etc/systemd/system/{unit}");
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::create_dir_all("/etc/systemd/system");
            let masked = std::os::unix::fs::symlink("/dev/null", &path);
            masked.map_err(|source| DrillError::Write { path: path.into(), source })?;
        }
        for path in ["/etc/ssh/sshd_not_to_be_run", "/etc/nologin", "/etc/ufw/ufw.conf"] {
            let _ = std::fs::remove_file(path);
        }
        let key = "/etc/ssh/ssh_host_ed25519_key";
        if !Path::new(key).exists() {
            self.tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key], "")?;
        }
        Ok(())
    }

    pub fn write(&self, path: &str, text: &str) -> Result<(), DrillError> {
        std::fs::write(path, text).map_err(|source| DrillError::Write { path: path.into(), source })
    }

    /// Runs a tool on the scratch host; it must succeed.
    pub fn tool(&self, program: &str, args: &[&str], stdin: &str) -> Result<Output, DrillError> {
        let call = Call { stdin: stdin.as_bytes(), ..Call::new(program, args) };
        let output = self.host.run(&call).map_err(DrillError::Run)?;
        if output.ok() {
            return Ok(output);
        }
        Err(DrillError::Tool { program: program.to_owned(), complaint: output.complaint() })
    }

    fn start_sshd(&mut self) -> Result<(), DrillError> {
        let child = self.host.spawn_bound("sshd", &["-D", "-e"]);
        self.sshd = Some(child.map_err(|e| DrillError::Sshd(format!("sshd does not start: {e}")))?);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if self.see()? == [Sight::Banner; 2] {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(DrillError::Sshd("a client does not reach sshd on a fresh host".to_owned()))
    }

    fn stop_sshd(&mut self) {
        if let Some(mut child) = self.sshd.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What a client on another address sees now, by IPv4 and by IPv6.
    pub fn see(&mut self) -> Result<[Sight; 2], DrillError> {
        self.asks.send(()).map_err(|_| DrillError::Client)?;
        self.sights.recv().map_err(|_| DrillError::Client)
    }
}

/// The client's thread: lends its namespace to the host, sets its end of the wire up at the first question, then answers
/// each.
fn client(
    host: &Host,
    lend: &Sender<OwnedFd>,
    asked: &Receiver<()>,
    answer: &Sender<[Sight; 2]>,
) -> Result<(), ScratchError> {
    let open = std::fs::File::open("/proc/thread-self/ns/net");
    let namespace = open.map_err(ScratchError::device("open the client's namespace"))?;
    if lend.send(namespace.into()).is_err() || asked.recv().is_err() {
        return Ok(());
    }
    let device = |action: &str| ScratchError::device(action.to_owned());
    let mut rtnl = Rtnl::open().map_err(device("open rtnetlink"))?;
    rtnl.up(1).map_err(device("set lo up"))?;
    let index = nix::net::if_::if_nametoindex("uplink").map_err(std::io::Error::from);
    let index = index.map_err(device("find the client's end of the wire"))?;
    rtnl.up(index).map_err(device("set the client's end up"))?;
    for (address, prefix) in ROUTER.into_iter().chain(CLIENT) {
        let address = address.parse().map_err(std::io::Error::other).map_err(device("read an address"))?;
        rtnl.add_address(index, address, prefix).map_err(device("add an address to the client"))?;
    }
    let mut first = [Sight::TimedOut; 2];
    loop {
        if answer.send(first).is_err() || asked.recv().is_err() {
            return Ok(());
        }
        // A client that has been away must find the host anew. Without ip(8) it remembers it a while.
        let _ = host.run(&Call::new("ip", &["-6", "neigh", "flush", "dev", "uplink"]));
        // Both families at once: a lock-out of both costs one timeout.
        let dials =
            thread::scope(|scope| [0, 1].map(|n| scope.spawn(move || visit(CLIENT[n].0, HOST[n].0))).map(|t| t.join()));
        first = dials.map(|d| d.unwrap_or(Sight::Refused));
    }
}

fn visit(source: &str, target: &str) -> Sight {
    let (Ok(source), Ok(target)) = (source.parse(), target.parse()) else { return Sight::Refused };
    match dial(source, SocketAddr::new(target, 22), CONNECT, BANNER) {
        Ok(Dialled::Greeted(line)) if line.starts_with(b"SSH-") => Sight::Banner,
        Ok(Dialled::Greeted(_) | Dialled::Closed) => Sight::Closed,
        Ok(Dialled::TimedOut) => Sight::TimedOut,
        Ok(Dialled::Silent) => Sight::NoBanner,
        Ok(Dialled::Refused(_)) | Err(_) => Sight::Refused,
    }
}

fn link_index(name: &str) -> Result<u32, ScratchError> {
    let found = nix::net::if_::if_nametoindex(name).map_err(std::io::Error::from);
    found.map_err(ScratchError::device(format!("find {name}")))
}

fn ip(text: &str) -> Result<IpAddr, ScratchError> {
    text.parse().map_err(std::io::Error::other).map_err(ScratchError::device("read an address"))
}

fn everywhere() -> [IpNet; 2] {
    Family::BOTH.map(|family| match family {
        Family::Ipv4 => Ipv4Net::default().into(),
        Family::Ipv6 => Ipv6Net::default().into(),
    })
}
