//! What the next boot loads.

use std::path::PathBuf;

use super::{Family, Firewall, Seen, Table};

/// The rules of the next boot, and where they come from.
#[derive(Debug, Clone)]
pub struct Boot {
    pub loaders: Vec<Loader>,
    /// firewalld's unit is enabled: the next boot has its permanent zones, whatever runs now.
    pub firewalld: bool,
    /// Enabled units that make their rules when they start: which ones is known only then.
    pub makers: Vec<Maker>,
    /// What the loaders make, as the kernel has read it in a scratch namespace. Absent where nothing loads rules at boot.
    pub firewall: Seen<Firewall>,
    /// What sysctl.d(5) sets of reverse path filtering, for the links of now and for `all`.
    pub rp_filter: Vec<AtBoot>,
}

/// A tool that turns files of its own into rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    pub unit: &'static str,
    /// Where its user writes who is let in.
    pub file: &'static str,
    /// What a rule that accepts the port looks like there, in which `PORT` stands for it.
    pub accept: &'static str,
}

/// A variable of an interface that is set at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtBoot {
    pub interface: String,
    pub value: u8,
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

/// One text that an enabled unit loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loader {
    pub unit: String,
    pub tool: LoadTool,
    /// For ufw the file that holds its user's rules.
    pub file: PathBuf,
    pub text: String,
    /// What is loaded before the text and after it; empty but for ufw, which loads more than one file.
    pub head: String,
    pub tail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadTool {
    /// `nft -f`
    Nft,
    /// `iptables-restore`, `ip6tables-restore`
    Restore(Family),
    /// The same with `--noflush`.
    Add(Family),
    /// ufw's own start.
    Ufw(Family),
    /// firewalld's, of a zone whose file the text is. `own` is false where the file is the distribution's, whose place the
    /// loader's file would take. Only what a disk boots is loaded so.
    Firewalld { own: bool },
}

/// The table that holds a zone's rules, of those that a disk boots.
pub fn zone_table(zone: &str) -> String {
    format!("firewalld_{zone}")
}

impl Loader {
    pub fn whole(&self) -> String {
        [self.head.as_str(), &self.text, &self.tail].concat()
    }
}

impl Boot {
    pub fn nothing() -> Boot {
        Boot {
            loaders: Vec::new(),
            firewalld: false,
            makers: Vec::new(),
            firewall: Seen::Absent,
            rp_filter: Vec::new(),
        }
    }

    /// Where a table of the next boot's rules comes from.
    pub fn loader_of(&self, table: &Table) -> Option<&Loader> {
        let line = format!("*{}", table.name);
        let saved = |l: &&Loader| match l.tool {
            LoadTool::Nft => false,
            LoadTool::Firewalld { .. } => {
                let zone = l.file.file_stem().map(|stem| stem.to_string_lossy());
                zone.is_some_and(|zone| table.name == zone_table(&zone))
            }
            LoadTool::Restore(family) | LoadTool::Add(family) | LoadTool::Ufw(family) => {
                table.is_iptables() && table.family.ip() == Some(family) && l.whole().lines().any(|l| l.trim() == line)
            }
        };
        let nft = |l: &&Loader| l.tool == LoadTool::Nft;
        self.loaders.iter().find(saved).or_else(|| self.loaders.iter().find(nft))
    }
}
