//! Targets in the words of `iptables -S`.

use super::iptables::{add, masked, range};
use crate::facts::{ConnmarkMode, Family, Masked, NatKind, Ports, RejectWith, XtTarget};

pub fn target(found: &XtTarget, family: Option<Family>) -> String {
    match found {
        XtTarget::Accept => "-j ACCEPT".into(),
        XtTarget::Drop => "-j DROP".into(),
        XtTarget::Return => "-j RETURN".into(),
        XtTarget::Queue => "-j QUEUE".into(),
        XtTarget::Jump(chain) => format!("-j {chain}"),
        XtTarget::Goto(chain) => format!("-g {chain}"),
        XtTarget::Continue => String::new(),
        XtTarget::Reject(with) => reject(*with, family),
        XtTarget::Log { name, prefix } if prefix.is_empty() => format!("-j {name}"),
        XtTarget::Log { name, prefix } if name == "NFLOG" => format!("-j {name} --nflog-prefix \"{prefix}\""),
        XtTarget::Log { name, prefix } => format!("-j {name} --log-prefix \"{prefix}\""),
        XtTarget::Mark { mark, mask } => format!("-j MARK --set-xmark {mark:#x}/{mask:#x}"),
        XtTarget::Connmark { mode, ctmark, ctmask, nfmask } => match mode {
            ConnmarkMode::Set => format!("-j CONNMARK --set-xmark {ctmark:#x}/{ctmask:#x}"),
            ConnmarkMode::Save => format!("-j CONNMARK --save-mark --nfmask {nfmask:#x} --ctmask {ctmask:#x}"),
            ConnmarkMode::Restore => format!("-j CONNMARK --restore-mark --nfmask {nfmask:#x} --ctmask {ctmask:#x}"),
        },
        XtTarget::Ct { notrack: true, .. } => "-j CT --notrack".into(),
        XtTarget::Ct { zone, helper, .. } => {
            let mut words = "-j CT".to_owned();
            if *zone != 0 {
                add(&mut words, &format!("--zone {zone}"));
            }
            if let Some(helper) = helper {
                add(&mut words, &format!("--helper {helper}"));
            }
            words
        }
        XtTarget::Nat { kind, addresses, ports, .. } => nat(*kind, addresses.as_deref().copied(), *ports),
        XtTarget::Netmap { to, .. } => {
            let (address, mask) = **to;
            format!("-j NETMAP --to {}", masked(&Masked { address, mask, invert: false }))
        }
        XtTarget::Tproxy { mark, mask, port, .. } => {
            format!("-j TPROXY --on-port {port} --tproxy-mark {mark:#x}/{mask:#x}")
        }
        XtTarget::Synproxy => "-j SYNPROXY".into(),
        XtTarget::Nfqueue { number, bypass } => {
            format!("-j NFQUEUE --queue-num {number}{}", if *bypass { " --queue-bypass" } else { "" })
        }
        XtTarget::Set { .. } => "-j SET <options>".into(),
        XtTarget::Harmless { name } => format!("-j {name}"),
        XtTarget::Unknown { name } => format!("-j {name} <options>"),
    }
}

fn nat(kind: NatKind, addresses: Option<(u128, u128)>, ports: Option<Ports>) -> String {
    let mut to = String::new();
    if let Some((first, last)) = addresses {
        let family = if last > u128::from(u32::MAX) { Family::Ipv6 } else { Family::Ipv4 };
        let one = family.address(first).to_string();
        to = if first == last { one } else { format!("{one}-{}", family.address(last)) };
        if ports.is_some() && family == Family::Ipv6 {
            to = format!("[{to}]");
        }
    }
    let option = match kind {
        NatKind::Snat => "--to-source",
        NatKind::Dnat => "--to-destination",
        NatKind::Masquerade | NatKind::Redirect => "--to-ports",
    };
    if let Some(found) = ports {
        let colon = if to.is_empty() && option == "--to-ports" { "" } else { ":" };
        to.push_str(&format!("{colon}{}", range(found, '-')));
    }
    if to.is_empty() { format!("-j {}", nat_name(kind)) } else { format!("-j {} {option} {to}", nat_name(kind)) }
}

/// The names of ICMP codes differ between the families.
pub fn reject(with: RejectWith, family: Option<Family>) -> String {
    let name = match (with, family) {
        (RejectWith::TcpReset, _) => "tcp-reset",
        (RejectWith::Icmp(code), Some(Family::Ipv4)) => match code {
            0 => "icmp-net-unreachable",
            1 => "icmp-host-unreachable",
            2 => "icmp-proto-unreachable",
            3 => "icmp-port-unreachable",
            9 => "icmp-net-prohibited",
            10 => "icmp-host-prohibited",
            13 => "icmp-admin-prohibited",
            _ => "<unknown>",
        },
        (RejectWith::Icmp(code), Some(Family::Ipv6)) => match code {
            0 => "icmp6-no-route",
            1 => "icmp6-adm-prohibited",
            3 => "icmp6-addr-unreachable",
            4 => "icmp6-port-unreachable",
            5 => "icmp6-policy-fail",
            6 => "icmp6-reject-route",
            _ => "<unknown>",
        },
        (RejectWith::Icmp(_), None) => return "-j REJECT".into(),
        (RejectWith::Other(_), _) => "<unknown>",
    };
    format!("-j REJECT --reject-with {name}")
}

pub fn nat_name(kind: NatKind) -> &'static str {
    match kind {
        NatKind::Snat => "SNAT",
        NatKind::Dnat => "DNAT",
        NatKind::Masquerade => "MASQUERADE",
        NatKind::Redirect => "REDIRECT",
    }
}
