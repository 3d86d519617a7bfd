//! Matches that are told in words only, as `iptables -S` does.

use std::fmt::Write;

use super::xt::Fields;
use crate::facts::Family;

fn not(inverted: bool) -> &'static str {
    if inverted { "! " } else { "" }
}

pub fn owner(info: Fields<'_>) -> Option<String> {
    let (asked, inverse) = (info.u8(16)?, info.u8(17)?);
    let mut words = Vec::new();
    for (bit, option, at) in [(1, "--uid-owner", 0), (2, "--gid-owner", 8)] {
        if asked & bit != 0 {
            let (first, last) = (info.u32(at)?, info.u32(at + 4)?);
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            words.push(format!("{}{option} {range}", not(inverse & bit != 0)));
        }
    }
    if asked & 4 != 0 {
        words.push(format!("{}--socket-exists", not(inverse & 4 != 0)));
    }
    Some(words.join(" "))
}

/// A string is told in hexadecimal where it is not plain.
pub fn text(info: Fields<'_>) -> Option<String> {
    const ANYWHERE: (u16, u16) = (0, u16::MAX);
    let length = usize::from(info.u8(148)?).min(128);
    let pattern = info.0.get(20..20 + length)?;
    let mut words = if pattern.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        format!("--string \"{}\"", String::from_utf8_lossy(pattern).replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        let hex: String = pattern.iter().map(|b| format!("{b:02x}")).collect();
        format!("--hex-string \"|{hex}|\"")
    };
    let _ = write!(words, " --algo {}", info.text(4, 16)?);
    let (from, to) = (info.u16(0)?, info.u16(2)?);
    if from != ANYWHERE.0 {
        let _ = write!(words, " --from {from}");
    }
    if to != ANYWHERE.1 {
        let _ = write!(words, " --to {to}");
    }
    if info.u8(149)? & 2 != 0 {
        words.push_str(" --icase");
    }
    Some(words)
}

pub fn physdev(info: Fields<'_>) -> Option<String> {
    let (inverse, asked) = (info.u8(64)?, info.u8(65)?);
    let device = |at| -> Option<String> {
        let name = info.text(at, 16)?;
        // The mask of a whole name covers its NUL, too.
        let whole = info.u8(at + 16 + name.len().min(15))? != 0;
        Some(if whole { name } else { name + "+" })
    };
    let mut words = Vec::new();
    let mut add = |bit: u8, option: &str, value: Option<String>| {
        if asked & bit != 0 {
            let value = value.map(|v| format!(" {v}")).unwrap_or_default();
            words.push(format!("{}{option}{value}", not(inverse & bit != 0)));
        }
    };
    add(0x08, "--physdev-is-in", None);
    add(0x01, "--physdev-in", device(0));
    add(0x10, "--physdev-is-out", None);
    add(0x02, "--physdev-out", device(32));
    add(0x04, "--physdev-is-bridged", None);
    Some(words.join(" "))
}

/// A rate that is kept as the time between two packets, in 1/`scale` seconds.
fn per(period: u64, scale: u64) -> String {
    let units = [("day", 86_400 * scale), ("hour", 3600 * scale), ("min", 60 * scale), ("sec", scale)];
    let period = period.max(1);
    let coarser = |&&(_, unit): &&(&str, u64)| period <= unit && unit / period >= unit % period;
    let finest = units.iter().skip(1).take_while(coarser).last().unwrap_or(&units[0]);
    format!("{}/{}", finest.1 / period, finest.0)
}

pub fn limit(info: Fields<'_>) -> Option<String> {
    const XT_LIMIT_SCALE: u64 = 10_000;
    const DEFAULT_BURST: u32 = 5;
    let (period, burst) = (info.u32(0)?, info.u32(4)?);
    let burst = if burst == DEFAULT_BURST { String::new() } else { format!(" --limit-burst {burst}") };
    Some(format!("--limit {}{burst}", per(period.into(), XT_LIMIT_SCALE)))
}

pub fn hashlimit(info: Fields<'_>, revision: u8) -> Option<String> {
    const XT_HASHLIMIT_INVERT: u32 = 1 << 4;
    const XT_HASHLIMIT_BYTES: u32 = 1 << 5;
    let (name, mode, period, burst, scale) = match revision {
        1 => (info.text(0, 16)?, info.u32(16)?, info.u32(20)?.into(), info.u32(24)?.into(), 10_000),
        _ => (info.text(0, 255)?, info.u32(272)?, info.u64(256)?, info.u64(264)?, 1_000_000),
    };
    let option = if mode & XT_HASHLIMIT_INVERT != 0 { "--hashlimit-above" } else { "--hashlimit-upto" };
    let mut words = format!("{option} ");
    if mode & XT_HASHLIMIT_BYTES != 0 {
        words.push_str("<bytes>");
    } else {
        let _ = write!(words, "{}", per(period, scale));
        if burst != 5 {
            let _ = write!(words, " --hashlimit-burst {burst}");
        }
    }
    let names = [(4, "srcip"), (8, "srcport"), (1, "dstip"), (2, "dstport")];
    let keys: Vec<&str> = names.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, name)| *name).collect();
    if !keys.is_empty() {
        let _ = write!(words, " --hashlimit-mode {}", keys.join(","));
    }
    let _ = write!(words, " --hashlimit-name {name}");
    Some(words)
}

pub fn statistic(info: Fields<'_>) -> Option<String> {
    let inverted = not(info.u16(2)? & 1 != 0);
    Some(match info.u16(0)? {
        0 => {
            // A probability is kept as a part of 2^31.
            let probability = f64::from(info.u32(4)?) / f64::from(1u32 << 31);
            format!("--mode random {inverted}--probability {probability:.11}")
        }
        1 => {
            let (every, packet) = (info.u32(4)?.saturating_add(1), info.u32(8)?);
            format!("--mode nth {inverted}--every {every} --packet {packet}")
        }
        _ => return None,
    })
}

/// Begins with what it does: `--set`, `--rcheck`, `--update` or `--remove`. Ends with the list's name and whose address it holds.
pub fn recent(family: Option<Family>, info: Fields<'_>) -> Option<String> {
    let (seconds, hits, what) = (info.u32(0)?, info.u32(4)?, info.u8(8)?);
    let mode = [(2, "--set"), (1, "--rcheck"), (4, "--update"), (8, "--remove")];
    let mode = mode.iter().find(|(bit, _)| what & bit != 0)?.1;
    let mut words = format!("{}{mode}", not(info.flag(9)?));
    if seconds != 0 {
        let _ = write!(words, " --seconds {seconds}");
    }
    if hits != 0 {
        let _ = write!(words, " --hitcount {hits}");
    }
    if what & 16 != 0 {
        words.push_str(" --rttl");
    }
    let mask = family.and_then(|f| Some((f, info.address(212, family)?)));
    if let Some((family, mask)) = mask.filter(|&(family, mask)| mask != family.max()) {
        let _ = write!(words, " --mask {}", family.address(mask));
    }
    let side = if info.u8(210)? == 0 { "--rsource" } else { "--rdest" };
    let _ = write!(words, " --name {} {side}", info.text(10, 200)?);
    Some(words)
}

pub fn connlimit(family: Option<Family>, info: Fields<'_>) -> Option<String> {
    let (limit, flags) = (info.u32(16)?, info.u32(20)?);
    let option = if flags & 1 != 0 { "--connlimit-upto" } else { "--connlimit-above" };
    let side = if flags & 2 != 0 { "--connlimit-daddr" } else { "--connlimit-saddr" };
    let prefix = family.and_then(|f| Some(info.address(0, family)?.count_ones().min(u32::from(f.bits()))));
    let mask = prefix.map(|p| format!(" --connlimit-mask {p}")).unwrap_or_default();
    Some(format!("{option} {limit}{mask} {side}"))
}

pub fn time(info: Fields<'_>) -> Option<String> {
    const LAST_SECOND: u32 = 86_399;
    let (first, last, weekdays) = (info.u32(8)?, info.u32(12)?, info.u8(20)?);
    let mut words = Vec::new();
    let clock = |s: u32| format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if (first, last) != (0, LAST_SECOND) {
        words.push(format!("--timestart {} --timestop {}", clock(first), clock(last)));
    }
    if weekdays != 0xfe {
        let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let days: Vec<&str> =
            names.iter().enumerate().filter(|(day, _)| weekdays & 2 << day != 0).map(|(_, name)| *name).collect();
        words.push(format!("--weekdays {}", days.join(",")));
    }
    if info.u32(16)? != 0xffff_fffe {
        words.push("--monthdays <some>".into());
    }
    if (info.u32(0)?, info.u32(4)?) != (0, i32::MAX as u32) {
        words.push("--datestart <then> --datestop <then>".into());
    }
    Some(words.join(" "))
}
