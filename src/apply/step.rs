//! One step after the other: look, record the undo, act, record that it is done.

use std::path::{Path, PathBuf};

use super::{
    StepError, conntrack, emergency, fail2ban, files, firewalld, flush, insert_by_tool, links, nft, process, sshd, ufw,
    units,
};
use crate::facts::{Backend, Family, RawLegacy, Seen, Snapshot, escape};
use crate::host::{Host, read_legacy};
use crate::plan::{Insert, Plan, Step, TableInserts, ip_table};
use crate::record::{Entry, Saved, StateDir, StepEntry, Undo};

/// What is known of the host while the steps are made.
pub(super) struct Work<'a> {
    host: &'a Host,
    state: &'a StateDir,
    snapshot: &'a Snapshot,
    /// The nf_tables generation that the next step is meant for.
    generation: Option<u32>,
}

/// What a person is told of a step that failed.
pub(super) fn words(step: &Step) -> String {
    match step {
        Step::FreeReserve { .. } => "the freeing of the reserve".into(),
        Step::Nft { family, table, .. } => format!("the insert into {family} {}", escape(table)),
        Step::Iptables { family, table, .. } => format!("the insert into {} {}", ip_table(*family), escape(table)),
        Step::UfwAllow { .. } => "ufw prepend allow".into(),
        Step::UfwRebuild { .. } => "the rebuild of ufw's chains".into(),
        Step::FirewalldAllow { zone, .. } => format!("the opening of firewalld's zone {}", escape(zone)),
        Step::Unban { jail, .. } => format!("the unban in fail2ban's jail {}", escape(jail)),
        Step::FirewalldPanicOff => "the end of firewalld's panic mode".into(),
        Step::WriteFile { path, .. } | Step::Persist { path, .. } => {
            format!("the write of {}", escape(&path.to_string_lossy()))
        }
        Step::MakeKeys { .. } => "the making of host keys".into(),
        Step::SetMode { path, .. } | Step::KeepWritersOut { path, .. } => {
            format!("the mode of {}", escape(&path.to_string_lossy()))
        }
        Step::MakeFolder { path, .. } => format!("the making of {}", escape(&path.to_string_lossy())),
        Step::MakeUser { name, .. } => format!("the making of the user {}", escape(name)),
        Step::RaiseConntrack { .. } => "the raise of nf_conntrack_max".into(),
        Step::ContinueProcess { pid, .. } => format!("the signal to process {pid}"),
        Step::ReloadUnit { unit } => format!("the reload of {}", escape(unit)),
        Step::ThawUnit { unit } => format!("the thawing of {}", escape(unit)),
        Step::ListenBySocket { unit, .. } | Step::RestartUnit { unit, .. } => {
            format!("the restart of {}", escape(unit))
        }
        Step::EmergencySshd { .. } => "the start of an emergency sshd".into(),
        Step::EnableUnit { unit } => format!("the enabling of {}", escape(unit)),
        Step::StartUnit { unit, .. } => format!("the start of {}", escape(unit)),
        Step::Flush => "the flush of all rules".into(),
        Step::Disable { .. } => "the end of the firewall".into(),
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(host: &'a Host, state: &'a StateDir, snapshot: &'a Snapshot, plan: &Plan) -> Work<'a> {
        let planned = plan.steps.iter().find_map(|step| match step {
            Step::Nft { generation, .. } => Some(*generation),
            _ => None,
        });
        let generation = planned.or(snapshot.firewall.nft.present().map(|rules| rules.generation));
        Work { host, state, snapshot, generation }
    }

    /// Whether all that the plan touches is still as it was seen. Touches nothing.
    pub(super) fn look(&self, plan: &Plan) -> Result<(), StepError> {
        for step in &plan.steps {
            match step {
                Step::Nft { .. } | Step::Iptables { backend: Backend::Nft, .. } => self.look_at_nft()?,
                Step::Iptables { family, table, .. } => self.look_at_legacy(*family, table)?,
                Step::WriteFile { path, content, .. } | Step::Persist { path, content, .. } => {
                    let before = files::before(self.host, path, content)?;
                    if !files::is_as_seen(self.snapshot, &before) {
                        return Err(StepError::Changed { what: escape(&path.to_string_lossy()) });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn look_at_nft(&self) -> Result<(), StepError> {
        match self.generation {
            Some(generation) if nft::generation()? != generation => {
                Err(StepError::Changed { what: "the rules of nf_tables".into() })
            }
            _ => Ok(()),
        }
    }

    /// Legacy tables have no generation: their sizes and hooks must be the same.
    fn look_at_legacy(&self, family: Family, table: &str) -> Result<(), StepError> {
        let firewall = &self.snapshot.firewall;
        let seen = if family == Family::Ipv4 { &firewall.legacy4 } else { &firewall.legacy6 };
        let known = |raw: &&RawLegacy| raw.table == table;
        let Some(old) = seen.present().and_then(|rules| rules.raw.iter().find(known)) else { return Ok(()) };
        match read_legacy(family, table) {
            Ok(now) if now.info == old.info => Ok(()),
            Err(source) => Err(StepError::Legacy { family, table: escape(table), source }),
            Ok(_) => Err(StepError::Changed { what: format!("the legacy table {} of {family}", escape(table)) }),
        }
    }

    /// Makes step `index` of the entry's plan. What undoes it is on the disk before the host is touched.
    pub(super) fn make(&mut self, entry: &mut Entry, index: usize) -> Result<(), StepError> {
        let Some(step) = entry.plan.steps.get(index).cloned() else { return Ok(()) };
        if self.snapshot.at_rest && !step.is_of_files() {
            return Err(StepError::AtRest { what: words(&step) });
        }
        match &step {
            // Done before the repair was written down.
            Step::FreeReserve { .. } => return Ok(()),
            Step::Nft { family, table, inserts, .. } => {
                let at = TableInserts {
                    backend: Backend::Nft,
                    family: *family,
                    table: table.clone(),
                    inserts: inserts.clone(),
                };
                self.begin(entry, Undo::Rules { backend: Backend::Nft, family: *family, table: table.clone() })?;
                nft::insert(self.generation, &entry.id, &at)?;
                // One commit is one generation; after a foreign one on top of it the next step is refused.
                if let Some(old) = self.generation
                    && nft::generation()? != old
                {
                    self.generation = Some(old.wrapping_add(1).max(1));
                }
            }
            Step::Iptables { backend, family, table, inserts } => {
                self.iptables(entry, *backend, *family, table, inserts)?;
            }
            Step::UfwAllow { port, interface, sources, .. } => {
                let rules = ufw::rules(*port, interface.as_deref(), sources);
                let files = ufw::before(self.host)?;
                self.begin(entry, Undo::Ufw { files, rules: rules.clone() })?;
                let result = ufw::allow(self.host, &entry.id, &rules);
                // Also where it failed: what ufw wrote by then is ours.
                if let Some(StepEntry { undo: Undo::Ufw { files, .. }, .. }) = entry.steps.last_mut() {
                    ufw::after(self.host, files)?;
                }
                result?;
                self.resume()?;
            }
            Step::UfwRebuild { families } => {
                let tables = ufw::tables(self.host, families)?;
                self.begin(entry, Undo::Tables { tables: tables.clone() })?;
                ufw::rebuild(self.host, &tables)?;
                self.resume()?;
            }
            Step::FirewalldAllow { zone, port, sources, permanent, .. } => {
                let openings = firewalld::openings(*port, sources);
                let (runtime, stored) = firewalld::missing(self.host, zone, &openings, *permanent)?;
                let undo = Undo::Firewalld { zone: zone.clone(), runtime: runtime.clone(), permanent: stored.clone() };
                self.begin(entry, undo)?;
                firewalld::open(self.host, zone, &runtime, &stored)?;
                self.resume()?;
            }
            Step::Unban { jail, addresses } => {
                fail2ban::all_banned(self.host, jail, addresses)?;
                self.begin(entry, Undo::Bans { jail: jail.clone(), addresses: addresses.clone() })?;
                fail2ban::unban(self.host, jail, addresses)?;
                self.resume()?;
            }
            Step::FirewalldPanicOff => {
                self.begin(entry, Undo::FirewalldPanic)?;
                firewalld::panic(self.host, false)?;
                self.resume()?;
            }
            Step::WriteFile { path, content, .. } | Step::Persist { path, content, .. } => {
                let file = files::before(self.host, path, content)?;
                if !files::is_as_seen(self.snapshot, &file) {
                    return Err(StepError::Changed { what: escape(&path.to_string_lossy()) });
                }
                self.begin(entry, Undo::File(file.clone()))?;
                files::write(self.host, &file)?;
            }
            Step::MakeKeys { keys } => {
                let pairs = sshd::pairs(self.host, keys)?;
                for pair in &pairs {
                    if !pair.is_wanted(self.host)? {
                        return Err(StepError::Changed { what: "a host key".into() });
                    }
                }
                self.begin(entry, Undo::Keys { keys: sshd::before(self.host, &pairs)? })?;
                sshd::install(self.host, &pairs)?;
            }
            Step::SetMode { path, owned } => {
                let what = || StepError::Changed { what: escape(&path.to_string_lossy()) };
                let old = self.host.owned(path)?.ok_or_else(what)?;
                self.begin(entry, Undo::Mode { path: path.clone(), old, new: *owned })?;
                self.host.set_owned(path, *owned)?;
            }
            Step::KeepWritersOut { path, seen, .. } => {
                self.begin(entry, Undo::Writers { path: path.clone(), seen: *seen })?;
                if !self.host.change_mode(path, *seen, seen.without_writers().mode)? {
                    return Err(StepError::Changed { what: escape(&path.to_string_lossy()) });
                }
            }
            Step::MakeFolder { path, owned } => {
                if self.host.owned(path)?.is_some() {
                    return Err(StepError::Changed { what: escape(&path.to_string_lossy()) });
                }
                self.begin(entry, Undo::Folder { path: path.clone() })?;
                self.host.make_folder(path, *owned)?;
                self.host.relabel(path);
            }
            Step::MakeUser { name, home, group } => {
                self.begin(entry, Undo::User { name: name.clone() })?;
                sshd::make_user(self.host, name, home, *group)?;
            }
            Step::RaiseConntrack { from, to } => {
                self.begin(entry, conntrack::before(self.host, *from, *to)?)?;
                conntrack::raise(self.host, *to)?;
            }
            Step::ContinueProcess { pid, name } => {
                let stopped = process::stopped(*pid, name)?;
                self.begin(entry, stopped.undo())?;
                stopped.proceed()?;
            }
            Step::ThawUnit { unit } => {
                let run = units::invocation(self.host, unit)?;
                self.begin(entry, Undo::Thawed { unit: unit.clone(), run })?;
                units::thaw(self.host, unit)?;
            }
            Step::RestartUnit { unit, pid, name } => {
                let old = process::doomed(*pid, name)?;
                self.begin(entry, Undo::Restarted { unit: unit.clone() })?;
                units::restart(self.host, unit, &old, self.sshd())?;
            }
            Step::ReloadUnit { unit } => {
                self.begin(entry, Undo::Reload { unit: unit.clone() })?;
                units::reload(self.host, unit, self.sshd())?;
            }
            Step::ListenBySocket { unit, restart } => {
                let (active, services) = units::socket(self.host, unit)?;
                let undo = Undo::Socket { unit: unit.clone(), active, services: services.clone(), restart: *restart };
                self.begin(entry, undo)?;
                units::listen(self.host, unit, &services, *restart)?;
            }
            Step::EmergencySshd { config, keys } => {
                let missing = || StepError::Changed { what: "sshd's program".into() };
                let sshd = self.sshd().ok_or_else(missing)?.to_owned();
                self.begin(entry, Undo::Emergency)?;
                emergency::start(self.host, &sshd, config, keys)?;
            }
            Step::EnableUnit { unit } if self.snapshot.at_rest => {
                let links = links::wanted(self.host, unit)?;
                self.begin(entry, Undo::Links { links: links.clone() })?;
                links::make(self.host, &links)?;
            }
            Step::EnableUnit { unit } => {
                self.begin(entry, Undo::Enabled { unit: unit.clone() })?;
                units::set_enabled(self.host, unit, true)?;
            }
            Step::StartUnit { unit, reset_failed, unmask } => {
                let before = units::state(self.host, unit)?;
                let undo = Undo::Unit { unit: unit.clone(), active: before.active, masked: before.masked };
                self.begin(entry, undo)?;
                units::start(self.host, unit, *reset_failed, *unmask, self.sshd())?;
            }
            Step::Flush => {
                let legacy = self.save(entry)?;
                self.flush(entry, legacy)?;
            }
            Step::Disable { services, ufw } => {
                let legacy = self.save(entry)?;
                let (enabled, active) = flush::services(self.host, services)?;
                let concerned = |name: &&String| enabled.contains(name) || active.contains(name);
                let concerned: Vec<String> = services.iter().filter(concerned).cloned().collect();
                // In the reverse order of an undo the rules come back first, and then who keeps them.
                self.begin(entry, Undo::Services { enabled, active, ufw: *ufw })?;
                flush::disable(self.host, &concerned, *ufw)?;
                self.flush(entry, legacy)?;
            }
        }
        if let Some(step) = entry.steps.last_mut() {
            step.done = true;
        }
        Ok(entry.save(self.host, self.state)?)
    }

    fn begin(&self, entry: &mut Entry, undo: Undo) -> Result<(), StepError> {
        entry.steps.push(StepEntry { undo, done: false });
        if let Err(error) = entry.save(self.host, self.state) {
            // The step is not begun, and so must not be taken back.
            entry.steps.pop();
            return Err(error.into());
        }
        Ok(())
    }

    fn iptables(
        &mut self,
        entry: &mut Entry,
        backend: Backend,
        family: Family,
        table: &str,
        inserts: &[Insert],
    ) -> Result<(), StepError> {
        match backend {
            Backend::Nft => self.look_at_nft()?,
            Backend::Legacy => self.look_at_legacy(family, table)?,
        }
        let family = ip_table(family);
        self.begin(entry, Undo::Rules { backend, family, table: table.to_owned() })?;
        let at = TableInserts { backend, family, table: table.to_owned(), inserts: inserts.to_vec() };
        insert_by_tool(self.host, &entry.id, &at)?;
        if backend == Backend::Nft {
            self.resume()?;
        }
        Ok(())
    }

    fn save(&self, entry: &Entry) -> Result<Vec<Saved>, StepError> {
        let raw = match &self.snapshot.firewall.nft {
            Seen::Present(rules) => Some(rules.raw.as_ref()),
            _ => None,
        };
        flush::save(self.host, self.state, &entry.id, raw)
    }

    fn flush(&self, entry: &mut Entry, legacy: Vec<Saved>) -> Result<(), StepError> {
        self.begin(entry, Undo::Rulesets { legacy: legacy.clone() })?;
        flush::flush(self.host, &legacy)
    }

    /// After a tool that makes as many commits as it likes.
    fn resume(&mut self) -> Result<(), StepError> {
        if self.generation.is_some() {
            self.generation = Some(nft::generation()?);
        }
        Ok(())
    }

    fn sshd(&self) -> Option<&Path> {
        self.snapshot.sshd.binary.present().map(|binary| PathBuf::as_path(&binary.path))
    }
}
