//! Signals on D-Bus: of sshd's units, and of firewalld. A host without a bus has none.

use std::collections::HashMap;
use std::path::Path;

use futures_core::Stream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, spawn_local};
use zbus::connection::Builder;
use zbus::zvariant::OwnedValue;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::wake::{SYSTEM_BUS, Wake};

const UNITS: [(&str, &str); 4] = [
    ("ssh.service", "/org/freedesktop/systemd1/unit/ssh_2eservice"),
    ("sshd.service", "/org/freedesktop/systemd1/unit/sshd_2eservice"),
    ("ssh.socket", "/org/freedesktop/systemd1/unit/ssh_2esocket"),
    ("sshd.socket", "/org/freedesktop/systemd1/unit/sshd_2esocket"),
];
const FIREWALLD: &str = "org.fedoraproject.FirewallD1";

/// Listens as long as there is a bus; to be called again now and then.
#[derive(Default)]
pub struct Signals {
    task: Option<JoinHandle<()>>,
}

impl Signals {
    pub fn again(&mut self, wakes: &UnboundedSender<Wake>) {
        let listening = self.task.as_ref().is_some_and(|task| !task.is_finished());
        if listening || !Path::new(SYSTEM_BUS).exists() {
            return;
        }
        let wakes = wakes.clone();
        self.task = Some(spawn_local(async move {
            // A bus that ends is gone; the next sweep looks for another.
            let _ = listen(&wakes).await;
        }));
    }
}

async fn listen(wakes: &UnboundedSender<Wake>) -> zbus::Result<()> {
    let bus = Builder::address(&*format!("unix:path={SYSTEM_BUS}"))?.build().await?;
    let manager = Some("org.freedesktop.systemd1.Manager");
    // Without it systemd says nothing; where another than systemd runs the host, nobody answers.
    let _ =
        bus.call_method(Some("org.freedesktop.systemd1"), "/org/freedesktop/systemd1", manager, "Subscribe", &()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for (name, path) in UNITS {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender("org.freedesktop.systemd1")?
            .path(path)?
            .interface("org.freedesktop.DBus.Properties")?
            .arg(0, "org.freedesktop.systemd1.Unit")?
            .build();
        tasks.spawn_local(forward(bus.clone(), rule, wakes.clone(), Wake::Bus(name), unit_state));
    }
    for (member, wake) in [
        ("Reloaded", Wake::Reloaded),
        ("PanicModeEnabled", Wake::Bus("firewalld's panic mode")),
        ("PanicModeDisabled", Wake::Bus("firewalld's panic mode")),
    ] {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(FIREWALLD)?
            .interface(FIREWALLD)?
            .member(member)?
            .build();
        tasks.spawn_local(forward(bus.clone(), rule, wakes.clone(), wake, |_| None));
    }
    let owner = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .arg(0, FIREWALLD)?
        .build();
    tasks.spawn_local(forward(bus, owner, wakes.clone(), Wake::Bus("firewalld"), |_| None));
    // The first stream that ends says that the bus is gone.
    tasks.join_next().await;
    Ok(())
}

/// Forwards each signal, or where `state` finds one in it, each that tells another state than the one before: systemd
/// signals also that a unit was loaded, which every look makes it do.
async fn forward(
    bus: Connection,
    rule: MatchRule<'static>,
    wakes: UnboundedSender<Wake>,
    wake: Wake,
    state: fn(&Message) -> Option<String>,
) {
    let Ok(mut stream) = MessageStream::for_match_rule(rule, &bus, None).await else {
        return std::future::pending().await;
    };
    let mut last = None;
    while let Some(Ok(message)) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_next(cx)).await {
        let now = state(&message);
        if now.is_some() && now == last {
            continue;
        }
        last = now;
        if wakes.send(wake.clone()).is_err() {
            return;
        }
    }
}

/// What a unit's PropertiesChanged tells of its state.
fn unit_state(message: &Message) -> Option<String> {
    type Changed = (String, HashMap<String, OwnedValue>, Vec<String>);
    let (_, changed, _) = message.body().deserialize::<Changed>().ok()?;
    let text = |name: &str| changed.get(name).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default().to_owned();
    Some(["LoadState", "ActiveState", "SubState", "UnitFileState"].map(text).join(" "))
}
