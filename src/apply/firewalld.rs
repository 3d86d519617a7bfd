//! firewalld over D-Bus, runtime and permanent (firewalld.dbus(5)).

use std::time::Duration;

use ipnet::IpNet;
use zbus::Connection;
use zbus::zvariant::OwnedObjectPath;

use super::StepError;
use crate::facts::Family;
use crate::host::{BusError, Host};
use crate::record::Opening;

const DEADLINE: Duration = Duration::from_secs(10);
const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const CONFIG: &str = "/org/fedoraproject/FirewallD1/config";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";
const CONFIG_INTERFACE: &str = "org.fedoraproject.FirewallD1.config";
const CONFIG_ZONE: &str = "org.fedoraproject.FirewallD1.config.zone";
const TCP: &str = "tcp";

/// The port for everybody, or a rich rule for each source.
pub fn openings(port: u16, sources: &[Option<IpNet>]) -> Vec<Opening> {
    let opening = |source: &Option<IpNet>| match source {
        None => Opening::Port(port),
        Some(net) => {
            let family = Family::of(net.network());
            Opening::Rich(format!(
                "rule family=\"{family}\" source address=\"{net}\" port port=\"{port}\" protocol=\"tcp\" accept"
            ))
        }
    };
    sources.iter().map(opening).collect()
}

/// Of the openings those that the zone does not have: at runtime, and in its permanent form.
pub fn missing(
    host: &Host,
    zone: &str,
    openings: &[Opening],
    permanent: bool,
) -> Result<(Vec<Opening>, Vec<Opening>), StepError> {
    talk(host, async |bus| {
        let mut lacking = (Vec::new(), Vec::new());
        for opening in openings {
            if !runtime(bus, zone, "query", opening).await? {
                lacking.0.push(opening.clone());
            }
        }
        if permanent {
            let path = config(bus, zone).await?;
            for opening in openings {
                if !stored(bus, &path, "query", opening).await? {
                    lacking.1.push(opening.clone());
                }
            }
        }
        Ok(lacking)
    })
}

/// Adds to the zone what [`missing`] gave.
pub fn open(host: &Host, zone: &str, at_runtime: &[Opening], permanent: &[Opening]) -> Result<(), StepError> {
    change(host, zone, "add", at_runtime, permanent)
}

/// Removes from the zone what was added; what somebody has removed already is no error.
pub fn close(host: &Host, zone: &str, at_runtime: &[Opening], permanent: &[Opening]) -> Result<(), StepError> {
    change(host, zone, "remove", at_runtime, permanent)
}

/// Turns panic mode on or off.
pub fn panic(host: &Host, on: bool) -> Result<(), StepError> {
    let method = if on { "enablePanicMode" } else { "disablePanicMode" };
    talk(host, async |bus| match bus.call_method(Some(NAME), OBJECT, Some(NAME), method, &()).await {
        Err(error) if is_so_already(&error) => Ok(()),
        answer => answer.map(drop).map_err(BusError::from),
    })
}

fn change(host: &Host, zone: &str, verb: &str, at_runtime: &[Opening], permanent: &[Opening]) -> Result<(), StepError> {
    talk(host, async |bus| {
        for opening in at_runtime {
            runtime(bus, zone, verb, opening).await?;
        }
        if !permanent.is_empty() {
            let path = config(bus, zone).await?;
            for opening in permanent {
                stored(bus, &path, verb, opening).await?;
            }
        }
        Ok(())
    })
}

fn talk<T>(host: &Host, talk: impl AsyncFnOnce(&Connection) -> Result<T, BusError>) -> Result<T, StepError> {
    host.system_bus(DEADLINE, talk).map_err(|source| StepError::Bus { whom: "firewalld".into(), source })
}

/// `queryPort`, `addPort`, `removePort` and the like of the running zone. True unless a query says no.
async fn runtime(bus: &Connection, zone: &str, verb: &str, opening: &Opening) -> Result<bool, BusError> {
    /// Seconds after which firewalld takes the opening back by itself; 0: never.
    const TIMEOUT: i32 = 0;
    let call = async |method: &str| match (verb, opening) {
        ("add", Opening::Port(port)) => {
            bus.call_method(Some(NAME), OBJECT, Some(ZONE), method, &(zone, port.to_string(), TCP, TIMEOUT)).await
        }
        (_, Opening::Port(port)) => {
            bus.call_method(Some(NAME), OBJECT, Some(ZONE), method, &(zone, port.to_string(), TCP)).await
        }
        ("add", Opening::Rich(rule)) => {
            bus.call_method(Some(NAME), OBJECT, Some(ZONE), method, &(zone, rule.as_str(), TIMEOUT)).await
        }
        (_, Opening::Rich(rule)) => {
            bus.call_method(Some(NAME), OBJECT, Some(ZONE), method, &(zone, rule.as_str())).await
        }
    };
    settle(verb, call(&method(verb, opening)).await)
}

/// The same of the zone's permanent form.
async fn stored(bus: &Connection, path: &OwnedObjectPath, verb: &str, opening: &Opening) -> Result<bool, BusError> {
    let method = method(verb, opening);
    let answer = match opening {
        Opening::Port(port) => {
            bus.call_method(Some(NAME), path, Some(CONFIG_ZONE), method.as_str(), &(port.to_string(), TCP)).await
        }
        Opening::Rich(rule) => {
            bus.call_method(Some(NAME), path, Some(CONFIG_ZONE), method.as_str(), &rule.as_str()).await
        }
    };
    settle(verb, answer)
}

async fn config(bus: &Connection, zone: &str) -> Result<OwnedObjectPath, BusError> {
    let answer = bus.call_method(Some(NAME), CONFIG, Some(CONFIG_INTERFACE), "getZoneByName", &zone).await?;
    Ok(answer.body().deserialize()?)
}

fn method(verb: &str, opening: &Opening) -> String {
    let what = match opening {
        Opening::Port(_) => "Port",
        Opening::Rich(_) => "RichRule",
    };
    format!("{verb}{what}")
}

fn settle(verb: &str, answer: zbus::Result<zbus::Message>) -> Result<bool, BusError> {
    match answer {
        Ok(answer) if verb == "query" => Ok(answer.body().deserialize()?),
        Ok(_) => Ok(true),
        Err(error) if is_so_already(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// firewalld's exceptions carry their code at the head of the message.
fn is_so_already(error: &zbus::Error) -> bool {
    let zbus::Error::MethodError(_, Some(text), _) = error else { return false };
    ["ALREADY_ENABLED", "ALREADY_SET", "NOT_ENABLED"].iter().any(|code| text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_a_rich_rule_of_its_family() {
        let all = openings(22, &[None, Some("2001:db8::/32".parse().unwrap())]);
        assert_eq!(all[0], Opening::Port(22));
        let rule = "rule family=\"ipv6\" source address=\"2001:db8::/32\" port port=\"22\" protocol=\"tcp\" accept";
        assert_eq!(all[1], Opening::Rich(rule.into()));
    }
}
