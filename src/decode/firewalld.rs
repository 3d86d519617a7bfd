//! firewalld's zones and services (firewalld.zone(5), firewalld.service(5), firewalld.richlanguage(5)), as far as they decide
//! who reaches a TCP port of the host, and the rules that it makes of them.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use roxmltree::{Document, Node, ParsingOptions};

/// Elements of a file.
const ELEMENTS: u32 = 1 << 16;
/// Rules that become of one zone.
const RULES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    pub target: Target,
    pub interfaces: Vec<String>,
    pub sources: Vec<IpNet>,
    /// It takes sources by something else than an address, or any but one.
    pub other_sources: bool,
    pub entries: Vec<Entry>,
    /// The first thing in it that is not modelled.
    pub unknown: Option<String>,
}

/// What becomes of whom no entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Default,
    Accept,
    Drop,
    Reject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub what: What,
    /// `ip` or `ip6`: of one family alone.
    pub family: Option<&'static str>,
    pub source: Option<IpNet>,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Service(String),
    Ports(RangeInclusive<u16>),
    /// TCP, or whatever there is.
    Everything,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Accept,
    Reject,
    Drop,
}

/// What a service opens of TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    pub tcp: Vec<What>,
    /// Services that come with it.
    pub includes: Vec<String>,
}

/// A zone's file; Err: why it is none.
pub fn zone(text: &str) -> Result<Zone, String> {
    let document = parse(text)?;
    let root = document.root_element();
    if !root.has_tag_name("zone") {
        return Err("it has no <zone>".into());
    }
    let target = match root.attribute("target") {
        None | Some("default" | "{chain}_{zone}") => Target::Default,
        Some("ACCEPT") => Target::Accept,
        Some("DROP") => Target::Drop,
        Some("%%REJECT%%" | "REJECT") => Target::Reject,
        Some(_) => return Err("its target is none that firewalld has".into()),
    };
    let mut zone = Zone {
        target,
        interfaces: Vec::new(),
        sources: Vec::new(),
        other_sources: false,
        entries: Vec::new(),
        unknown: None,
    };
    if root.attributes().any(|a| a.name().ends_with("-priority")) {
        zone.unknown = Some("a priority".into());
    }
    for element in root.children().filter(Node::is_element) {
        if let Err(what) = zone.add(element) {
            zone.unknown.get_or_insert(what);
        }
    }
    Ok(zone)
}

impl Zone {
    /// Err: what it is that is not modelled.
    fn add(&mut self, element: Node<'_, '_>) -> Result<(), String> {
        let plain = |what| Entry { what, family: None, source: None, action: Action::Accept };
        match element.tag_name().name() {
            // Of these none decides about a packet of TCP that is for the host.
            "short" | "description" | "forward" | "masquerade" | "icmp-block" | "icmp-block-inversion" => {}
            "interface" => self.interfaces.push(word(element, "name")?),
            "source" => match source(element) {
                Ok(net) => self.sources.push(net),
                Err(what) => {
                    self.other_sources = true;
                    return Err(what);
                }
            },
            "rule" => self.entries.extend(rule(element)?),
            "forward-port" if element.attribute("protocol") != Some("tcp") => {}
            _ => self.entries.extend(opening(element)?.map(plain)),
        }
        Ok(())
    }
}

/// A service's file.
pub fn service(text: &str) -> Result<Service, String> {
    let document = parse(text)?;
    let root = document.root_element();
    if !root.has_tag_name("service") {
        return Err("it has no <service>".into());
    }
    let mut out = Service::default();
    let mut narrowed = false;
    for element in root.children().filter(Node::is_element) {
        match element.tag_name().name() {
            "short" | "description" | "module" | "helper" => {}
            "destination" => narrowed = true,
            "include" => out.includes.push(word(element, "service")?),
            _ => out.tcp.extend(opening(element)?),
        }
    }
    match narrowed && !(out.tcp.is_empty() && out.includes.is_empty()) {
        true => Err("<destination>".into()),
        false => Ok(out),
    }
}

/// Whether a policy (firewalld.policies(5)) is about packets that are for the host: the zone ANY does not take it in.
pub fn is_of_host(text: &str) -> Result<bool, String> {
    let document = parse(text)?;
    let mut zones = document.root_element().children().filter(|element| element.has_tag_name("egress-zone"));
    Ok(zones.any(|zone| zone.attribute("name") == Some("HOST")))
}

fn parse(text: &str) -> Result<Document<'_>, String> {
    let options = ParsingOptions { nodes_limit: ELEMENTS, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| error.to_string())
}

/// An element that opens something; None: nothing of TCP.
fn opening(element: Node<'_, '_>) -> Result<Option<What>, String> {
    let name = element.tag_name().name();
    let protocol = || element.attribute("protocol").unwrap_or_default();
    match name {
        "service" => Ok(Some(What::Service(word(element, "name")?))),
        "port" if protocol() == "tcp" => match element.attribute("port") {
            None | Some("") => Ok(Some(What::Everything)),
            Some(ports) => Ok(Some(What::Ports(range(ports).ok_or_else(|| format!("port {ports}"))?))),
        },
        "protocol" if matches!(word(element, "value")?.as_str(), "tcp" | "6") => Ok(Some(What::Everything)),
        "port" | "source-port" if protocol() != "tcp" => Ok(None),
        "protocol" => Ok(None),
        _ => Err(format!("<{name}>")),
    }
}

/// A rule of the rich language; None: it decides nothing of TCP that is for the host.
fn rule(element: Node<'_, '_>) -> Result<Option<Entry>, String> {
    let family = match element.attribute("family") {
        None | Some("") => None,
        Some("ipv4") => Some("ip"),
        Some("ipv6") => Some("ip6"),
        Some(_) => return Err("a rule's family".into()),
    };
    if element.attribute("priority").is_some_and(|priority| priority != "0") {
        return Err("a rule's priority".into());
    }
    let mut entry = Entry { what: What::Everything, family, source: None, action: Action::Accept };
    let mut acts = false;
    for part in element.children().filter(Node::is_element) {
        match part.tag_name().name() {
            "log" | "nflog" | "audit" => {}
            "source" => entry.source = Some(source(part)?),
            "icmp-block" | "icmp-type" | "masquerade" => return Ok(None),
            "forward-port" if part.attribute("protocol") != Some("tcp") => return Ok(None),
            name @ ("accept" | "reject" | "drop") => {
                if part.children().any(|child| child.is_element()) {
                    return Err("a rule's limit".into());
                }
                acts = true;
                entry.action = match name {
                    "accept" => Action::Accept,
                    "reject" => Action::Reject,
                    _ => Action::Drop,
                };
            }
            "mark" => return Ok(None),
            _ => match opening(part)? {
                Some(what) => entry.what = what,
                None => return Ok(None),
            },
        }
    }
    Ok(acts.then_some(entry))
}

fn source(element: Node<'_, '_>) -> Result<IpNet, String> {
    if element.attribute("invert").is_some_and(|invert| !matches!(invert.to_ascii_lowercase().as_str(), "no" | "false"))
    {
        return Err("a source that is meant to be any other".into());
    }
    let address = element.attribute("address").ok_or("a source that is no address")?;
    let net = address.parse().ok().or_else(|| address.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    net.map(|net: IpNet| net.trunc()).ok_or_else(|| "a source that is no address".into())
}

fn word(element: Node<'_, '_>, attribute: &str) -> Result<String, String> {
    let value = element.attribute(attribute).filter(|value| !value.is_empty());
    value.map(str::to_owned).ok_or_else(|| format!("<{}> without {attribute}", element.tag_name().name()))
}

/// `22`, `2222-2230`
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// The rules of nft(8) in the chain of a zone: denials come first. `ports`: what a service opens of TCP.
pub fn rules(zone: &Zone, ports: impl Fn(&str) -> Result<Vec<What>, String>) -> Result<String, String> {
    if let Some(what) = &zone.unknown {
        return Err(format!("{what} is not modelled"));
    }
    let (mut out, mut made) = (String::new(), 0);
    for denial in [true, false] {
        for entry in zone.entries.iter().filter(|entry| (entry.action != Action::Accept) == denial) {
            let all = match &entry.what {
                What::Service(name) => ports(name)?,
                what => vec![what.clone()],
            };
            made += all.len();
            if made > RULES {
                return Err(format!("it becomes more than {RULES} rules"));
            }
            for what in all {
                out.push_str(&line(entry, &what));
            }
        }
    }
    if zone.target != Target::Reject && zone.target != Target::Drop {
        out.push_str("meta l4proto { icmp, ipv6-icmp } accept\n");
    }
    out.push_str(match zone.target {
        Target::Default | Target::Reject => "reject with icmpx admin-prohibited\n",
        Target::Accept => "accept\n",
        Target::Drop => "drop\n",
    });
    Ok(out)
}

fn line(entry: &Entry, what: &What) -> String {
    let source = match (entry.source, entry.family) {
        (Some(net), _) => format!("{} saddr {net} ", if net.addr().is_ipv4() { "ip" } else { "ip6" }),
        (None, Some("ip")) => "meta nfproto ipv4 ".to_owned(),
        (None, Some(_)) => "meta nfproto ipv6 ".to_owned(),
        (None, None) => String::new(),
    };
    let ports = match what {
        What::Ports(ports) if ports.start() == ports.end() => format!("tcp dport {}", ports.start()),
        What::Ports(ports) => format!("tcp dport {}-{}", ports.start(), ports.end()),
        What::Everything | What::Service(_) => "meta l4proto tcp".to_owned(),
    };
    let action = match entry.action {
        Action::Accept => "accept",
        Action::Reject => "reject",
        Action::Drop => "drop",
    };
    format!("{source}{ports} {action}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(text: &str) -> Result<String, String> {
        let ssh = |name: &str| match name {
            "ssh" => Ok(vec![What::Ports(22..=22)]),
            "dhcpv6-client" => Ok(Vec::new()),
            _ => Err(format!("there is no service {name}")),
        };
        rules(&zone(text)?, ssh)
    }

    #[test]
    fn a_zone_becomes_rules() {
        let text = r#"<?xml version="1.0" encoding="utf-8"?>
            <zone><short>Public</short><service name="dhcpv6-client"/><service name="ssh"/><forward/>
              <port protocol="tcp" port="8000-8010"/><port protocol="udp" port="53"/><icmp-block name="echo-request"/>
              <rule family="ipv4"><source address="203.0.113.9"/><drop/></rule>
              <rule family="ipv6"><service name="ssh"/><log prefix="x"/><reject/></rule>
              <rule><source address="10.1.2.3/8"/><port port="2222" protocol="tcp"/><accept/></rule></zone>"#;
        let expected = "ip saddr 203.0.113.9/32 meta l4proto tcp drop\nmeta nfproto ipv6 tcp dport 22 reject\n\
                        tcp dport 22 accept\ntcp dport 8000-8010 accept\nip saddr 10.0.0.0/8 tcp dport 2222 accept\n\
                        meta l4proto { icmp, ipv6-icmp } accept\nreject with icmpx admin-prohibited\n";
        assert_eq!(made(text).as_deref(), Ok(expected));
        assert_eq!(made("<zone target=\"DROP\"/>").as_deref(), Ok("drop\n"));
        let bound = zone("<zone><interface name=\"ens5\"/><source address=\"fd00::/64\"/></zone>").unwrap();
        assert_eq!((bound.interfaces, bound.sources), (vec!["ens5".to_owned()], vec!["fd00::/64".parse().unwrap()]));
    }

    #[test]
    fn a_policy_of_the_host_is_told_from_others() {
        let of = |zone: &str| {
            is_of_host(&format!("<policy><ingress-zone name='HOST'/><egress-zone name='{zone}'/></policy>"))
        };
        assert_eq!([of("HOST"), of("ANY"), of("public")], [Ok(true), Ok(false), Ok(false)]);
        assert!(is_of_host("<policy>").is_err());
    }

    #[test]
    fn what_is_not_modelled_is_said() {
        for (text, why) in [
            ("<zone><source mac=\"00:11:22:33:44:55\"/></zone>", "a source that is no address"),
            ("<zone><source-port protocol=\"tcp\" port=\"7\"/></zone>", "<source-port>"),
            ("<zone><forward-port protocol=\"tcp\" port=\"22\" to-port=\"1\"/></zone>", "<forward-port>"),
            ("<zone><rule><service name=\"ssh\"/><accept><limit value=\"1/m\"/></accept></rule></zone>", "limit"),
            ("<zone><rule priority=\"-5\"><accept/></rule></zone>", "priority"),
            ("<zone><service name=\"mine\"/></zone>", "no service mine"),
            ("<zone target=\"x\"/>", "target"),
            ("<policy/>", "no <zone>"),
            ("<zone>", "unclosed"),
        ] {
            assert!(made(text).is_err_and(|said| said.contains(why) || why == "unclosed"), "{text}");
        }
        let narrowed = |protocol| {
            let port = format!("<port protocol=\"{protocol}\" port=\"546\"/><destination ipv6=\"fe80::/64\"/>");
            service(&format!("<service>{port}</service>"))
        };
        assert_eq!((narrowed("udp"), narrowed("tcp")), (Ok(Service::default()), Err("<destination>".to_owned())));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*", parts in "(<(zone|rule|port|source|service)( (name|port|address|protocol)=\"[a-z0-9/.:-]*\")* ?/?>){0,6}") {
            for text in [text, format!("<zone>{parts}</zone>"), parts] {
                let _ = (made(&text), service(&text));
            }
        }
    }
}
