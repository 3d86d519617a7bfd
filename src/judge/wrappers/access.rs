//! Both tables for a set of sources at once (`hosts_access` and `table_match` of libwrap).

use crate::decode::hosts_access::{Entry, Patterns, Table, at_host};
use crate::facts::AddrSet;

use super::options::{Effect, effect};
use super::pattern::{self, Doubt, Matched, Request, UNKNOWN};

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    Allow,
    Deny,
}

/// An entry, or the line at which libwrap stopped reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub file: File,
    pub line: usize,
    pub text: String,
    /// It bans single addresses, as fail2ban and denyhosts write them.
    pub ban: bool,
}

/// What becomes of some sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Granted,
    /// The door is closed; the reason is a fragment where the line does not speak for itself.
    Denied {
        line: Line,
        reason: Option<String>,
    },
    /// Another program answers.
    Twisted {
        line: Line,
    },
    /// Granted but for few clients of a certain name.
    Mostly {
        line: Line,
        reason: String,
    },
    Unknown {
        line: Line,
        reason: String,
    },
}

/// Sources with one fate; the parts are disjoint and cover what the request is about.
#[derive(Debug, Clone)]
pub struct Part {
    pub sources: AddrSet,
    pub fate: Fate,
}

/// Sources that have got this far, and what may have become of them on the way.
#[derive(Debug, Clone)]
struct Flow {
    sources: AddrSet,
    /// The first entry that may have decided about them.
    doubt: Option<(Line, Doubt)>,
    may_grant: bool,
    may_deny: bool,
}

/// A table that was read, or why it was not.
pub type Readable<'a> = Result<&'a Table, String>;

/// The fate of every source that the request is about.
pub fn access(allow: Readable<'_>, deny: Readable<'_>, request: &Request<'_>) -> Vec<Part> {
    let sources = request.client.map_or_else(|| AddrSet::full(request.family), AddrSet::single);
    let all = Flow { sources, doubt: None, may_grant: false, may_deny: false };
    let mut walk = Walk { request, parts: Vec::new() };
    let flows = walk.table(File::Allow, allow, vec![all]);
    let flows = walk.table(File::Deny, deny, flows);
    for flow in flows {
        walk.end(flow, Fate::Granted);
    }
    walk.parts
}

struct Walk<'a> {
    request: &'a Request<'a>,
    parts: Vec<Part>,
}

impl Walk<'_> {
    /// Sends the flows through one table; gives those that reach its end.
    fn table(&mut self, file: File, table: Readable<'_>, mut flows: Vec<Flow>) -> Vec<Flow> {
        let table = match table {
            Ok(table) => table,
            Err(reason) => {
                let line = Line { file, line: 0, text: String::new(), ban: false };
                return flows
                    .into_iter()
                    .map(|flow| flow.doubted(&line, Doubt { reason: reason.clone(), few: false }, file))
                    .collect();
            }
        };
        let mut through: Vec<Flow> = Vec::new();
        for entry in &table.entries {
            if flows.is_empty() {
                break;
            }
            let served = self.daemons(&entry.daemons);
            if served == Tri::No {
                continue;
            }
            let clients = list(&entry.clients, |token| self.client(token), self.request);
            let line = Line { file, line: entry.line, text: entry.text.clone(), ban: is_ban(entry) };
            let effect = match entry.options.as_deref().map(effect) {
                Some(Effect::Command(_)) | None if self.request.client.is_some() => Effect::File,
                Some(effect) => effect,
                None => Effect::File,
            };
            let mut rest = Vec::new();
            for flow in flows {
                self.meet(flow, &line, served, &clients, &effect, &mut rest, &mut through);
            }
            flows = rest;
        }
        flows.append(&mut through);
        if let (File::Deny, Some(number)) = (file, table.broken) {
            let line = Line { file, line: number, text: String::new(), ban: false };
            let reason = "it has no newline at its end, or is too long: libwrap then denies everybody".to_owned();
            for flow in flows.drain(..) {
                self.end(flow, Fate::Denied { line: line.clone(), reason: Some(reason.clone()) });
            }
        }
        merged(flows)
    }

    /// One flow at one entry: what is matched ends here, what may be goes on with a doubt, the rest goes on.
    #[allow(clippy::too_many_arguments)]
    fn meet(
        &mut self,
        mut flow: Flow,
        line: &Line,
        served: Tri,
        clients: &Matched,
        effect: &Effect,
        rest: &mut Vec<Flow>,
        through: &mut Vec<Flow>,
    ) {
        let mut yes = flow.sources.intersection(&clients.yes);
        let mut maybe = flow.sources.intersection(&clients.maybe);
        let mut why = clients.why.clone();
        if served == Tri::Maybe {
            maybe.union_with(&yes);
            yes = AddrSet::empty(yes.family());
            why = why.or(Some(Doubt { reason: "a pattern for this host's own name".to_owned(), few: false }));
        }
        flow.sources.subtract(&yes);
        flow.sources.subtract(&maybe);
        if !yes.is_empty() {
            let flow = flow.with(yes);
            match (effect, line.file) {
                (Effect::Command(command), file) => {
                    let doubt = Doubt { reason: format!("what the command `{command}` says"), few: false };
                    through.push(flow.doubted(line, doubt, file));
                }
                (Effect::Unknown { reason, .. }, _) if word(effect, line.file) == File::Allow => {
                    let doubt = Doubt { reason: reason.clone(), few: false };
                    let flow = flow.doubted(line, doubt, File::Allow).doubted(
                        line,
                        Doubt { reason: String::new(), few: false },
                        File::Deny,
                    );
                    self.end(flow, Fate::Granted);
                }
                _ => self.end(flow, fate(effect, line)),
            }
        }
        if !maybe.is_empty() {
            let doubt = why.unwrap_or(Doubt { reason: String::new(), few: false });
            let flow = flow.with(maybe);
            let flow = flow.doubted(line, doubt, word(effect, line.file));
            match effect {
                Effect::Command(_) | Effect::Unknown { .. } => {
                    rest.push(flow.doubted(line, Doubt { reason: String::new(), few: false }, File::Deny))
                }
                _ => rest.push(flow),
            }
        }
        if !flow.sources.is_empty() {
            rest.push(flow);
        }
    }

    /// The last word about a flow.
    fn end(&mut self, flow: Flow, last: Fate) {
        let grants = last == Fate::Granted;
        let fate = match flow.doubt {
            Some((line, doubt)) if grants && flow.may_deny => match doubt.few && !flow.may_grant {
                true => Fate::Mostly { line, reason: doubt.reason },
                false => Fate::Unknown { line, reason: doubt.reason },
            },
            Some((line, doubt)) if !grants && flow.may_grant => Fate::Unknown { line, reason: doubt.reason },
            _ => last,
        };
        // Each ban is a line of its own: no other part can have its fate.
        let ban = matches!(&fate, Fate::Denied { line, .. } if line.ban);
        match self.parts.iter_mut().find(|p| !ban && p.fate == fate) {
            Some(part) => part.sources.union_with(&flow.sources),
            None => self.parts.push(Part { sources: flow.sources, fate }),
        }
    }

    fn daemons(&self, patterns: &Patterns) -> Tri {
        // The same list as for clients, over a set that is all or nothing.
        let full = || AddrSet::full(self.request.family);
        let matched = list(
            patterns,
            |token| match self.daemon(token) {
                Tri::No => Matched::none(self.request.family),
                Tri::Yes => Matched { yes: full(), ..Matched::none(self.request.family) },
                Tri::Maybe => Matched { maybe: full(), ..Matched::none(self.request.family) },
            },
            self.request,
        );
        match (matched.yes.is_empty(), matched.maybe.is_empty()) {
            (false, _) => Tri::Yes,
            (true, false) => Tri::Maybe,
            (true, true) => Tri::No,
        }
    }

    /// `daemon`, `port`, either with `@` and an address of this host (`server_match`).
    fn daemon(&self, token: &[u8]) -> Tri {
        let Some((daemon, host)) = at_host(token) else { return self.process(token) };
        if self.process(daemon) == Tri::No {
            return Tri::No;
        }
        let Some((address, _)) = self.request.server else {
            // Neither address nor name are known.
            return Tri::from(pattern::string(host, UNKNOWN));
        };
        let matched = pattern::host(host, self.request);
        match (matched.yes.contains(address), matched.maybe.contains(address)) {
            (true, _) => Tri::Yes,
            (false, true) => Tri::Maybe,
            (false, false) => Tri::No,
        }
    }

    fn process(&self, token: &[u8]) -> Tri {
        match port(token) {
            Some(port) => Tri::from(self.request.server.is_some_and(|(_, own)| own == port)),
            None => Tri::from(pattern::string(token, self.request.daemon)),
        }
    }

    fn client(&self, token: &[u8]) -> Matched {
        let Some((user, host)) = at_host(token) else { return pattern::host(token, self.request) };
        let matched = pattern::host(host, self.request);
        if user.eq_ignore_ascii_case(b"ALL") {
            return matched;
        }
        if self.request.client.is_some() {
            return if pattern::string(user, UNKNOWN) { matched } else { Matched::none(self.request.family) };
        }
        let user = crate::facts::escape(&String::from_utf8_lossy(user));
        matched.and_maybe(format!("what the client's own host says of its user (`{user}`)"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tri {
    No,
    Maybe,
    Yes,
}

impl From<bool> for Tri {
    fn from(value: bool) -> Tri {
        if value { Tri::Yes } else { Tri::No }
    }
}

impl Flow {
    /// The same history for other sources.
    fn with(&self, sources: AddrSet) -> Flow {
        Flow { sources, doubt: self.doubt.clone(), may_grant: self.may_grant, may_deny: self.may_deny }
    }

    /// With the word that a line may have spoken.
    fn doubted(mut self, line: &Line, doubt: Doubt, word: File) -> Flow {
        match word {
            File::Allow => self.may_grant = true,
            File::Deny => self.may_deny = true,
        }
        match &mut self.doubt {
            Some((_, first)) => first.few &= doubt.few,
            none => *none = Some((line.clone(), doubt)),
        }
        self
    }
}

/// Flows of one history side by side, so that their number stays small.
fn merged(flows: Vec<Flow>) -> Vec<Flow> {
    let mut out: Vec<Flow> = Vec::new();
    for flow in flows {
        let same =
            |f: &&mut Flow| f.doubt == flow.doubt && (f.may_grant, f.may_deny) == (flow.may_grant, flow.may_deny);
        match out.iter_mut().find(same) {
            Some(other) => other.sources.union_with(&flow.sources),
            None => out.push(flow),
        }
    }
    out
}

/// What an entry says in the end, if nothing goes wrong: as all of the one file do, or all of the other.
fn word(effect: &Effect, file: File) -> File {
    match effect {
        Effect::Allow | Effect::Unknown { allow: true, .. } => File::Allow,
        Effect::File | Effect::Command(_) | Effect::Unknown { .. } => file,
        Effect::Deny | Effect::Error(_) | Effect::Twist(_) => File::Deny,
    }
}

fn fate(effect: &Effect, line: &Line) -> Fate {
    let line = line.clone();
    match (effect, line.file) {
        (Effect::Allow, _) | (Effect::File, File::Allow) => Fate::Granted,
        (Effect::Error(reason), _) => Fate::Denied { line, reason: Some(format!("{reason}: libwrap then denies")) },
        (Effect::Twist(_), _) => Fate::Twisted { line },
        _ => Fate::Denied { line, reason: None },
    }
}

/// `a b EXCEPT c`: matched by a pattern of the first part and not by the rest (`list_match`).
fn list(patterns: &Patterns, matches: impl Fn(&[u8]) -> Matched, request: &Request<'_>) -> Matched {
    let none = || Matched::none(request.family);
    patterns
        .0
        .iter()
        .rev()
        .fold(none(), |rest, part| part.iter().map(|token| matches(token)).fold(none(), Matched::or).except(&rest))
}

/// `sscanf(token, "%u%c", …) == 1`: a port in a daemon's place.
fn port(token: &[u8]) -> Option<u16> {
    let (negative, digits) = match token {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')));
    let value = if negative { value.wrapping_neg() } else { value };
    u16::try_from(value as u32).ok()
}

/// A line that denies nothing but single addresses.
fn is_ban(entry: &Entry) -> bool {
    let single = |token: &[u8]| {
        let text = String::from_utf8_lossy(token);
        text.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
    };
    entry.clients.0.len() == 1 && entry.clients.tokens().all(single)
}
