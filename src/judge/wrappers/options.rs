//! The options of an entry (hosts_options(5); `process_options` of libwrap's options.c).

use super::pattern::atoi;

/// What the options of an entry make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the file decides.
    File,
    Allow,
    Deny,
    /// The options cannot be processed, and libwrap denies to be safe. The reason is a fragment.
    Error(String),
    /// Another program answers in sshd's place.
    Twist(String),
    /// A command decides: the file's word, or on with the next file.
    Command(String),
    /// It depends on what is not known here: the entry's word, or an error. The word is to let in where `allow` is the last
    /// option, else the file's.
    Unknown {
        reason: String,
        allow: bool,
    },
}

struct Kind {
    name: &'static str,
    value: Value,
    last: bool,
}

#[derive(PartialEq)]
enum Value {
    None,
    Needed,
    Optional,
}

const fn kind(name: &'static str, value: Value, last: bool) -> Kind {
    Kind { name, value, last }
}

const KINDS: [Kind; 15] = [
    kind("user", Value::Needed, false),
    kind("group", Value::Needed, false),
    kind("umask", Value::Needed, false),
    kind("linger", Value::Needed, false),
    kind("keepalive", Value::None, false),
    kind("spawn", Value::Needed, false),
    kind("twist", Value::Needed, true),
    kind("rfc931", Value::Optional, false),
    kind("setenv", Value::Needed, false),
    kind("nice", Value::Optional, false),
    kind("severity", Value::Needed, false),
    kind("allow", Value::None, true),
    kind("deny", Value::None, true),
    kind("banners", Value::Needed, false),
    kind("aclexec", Value::Needed, false),
];

const FACILITIES: [&str; 17] = [
    "kern", "user", "mail", "daemon", "auth", "lpr", "news", "uucp", "cron", "local0", "local1", "local2", "local3",
    "local4", "local5", "local6", "local7",
];
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The effect of all that stands behind the second `:` of an entry.
pub fn effect(options: &[u8]) -> Effect {
    let mut depends = None;
    let mut fields = fields(options).into_iter().peekable();
    while let Some(field) = fields.next() {
        let (key, value) = key_value(&field);
        if key.is_empty() {
            return Effect::Error("an option without a name".to_owned());
        }
        let shown = || crate::facts::escape(&String::from_utf8_lossy(key));
        let Some(kind) = KINDS.iter().find(|k| key.eq_ignore_ascii_case(k.name.as_bytes())) else {
            return Effect::Error(format!("unknown option `{}`", shown()));
        };
        match (value, &kind.value) {
            (None, Value::Needed) => return Effect::Error(format!("option `{}` without its value", kind.name)),
            (Some(_), Value::None) => return Effect::Error(format!("option `{}` takes no value", kind.name)),
            _ => {}
        }
        if kind.last && fields.peek().is_some() {
            return Effect::Error(format!("option `{}` is not the last one", kind.name));
        }
        let value = value.unwrap_or_default();
        match kind.name {
            "allow" => {
                return match depends {
                    Some(Effect::Unknown { reason, .. }) => Effect::Unknown { reason, allow: true },
                    _ => Effect::Allow,
                };
            }
            "deny" => return Effect::Deny,
            "twist" => return Effect::Twist(crate::facts::escape(&String::from_utf8_lossy(value))),
            "aclexec" => depends = Some(Effect::Command(crate::facts::escape(&String::from_utf8_lossy(value)))),
            "user" | "group" => {
                let reason = format!("option `{}` runs the server as somebody else", kind.name);
                depends.get_or_insert(Effect::Unknown { reason, allow: false });
            }
            name if !valid(name, value) => {
                return Effect::Error(format!("option `{name}` with a bad value"));
            }
            _ => {}
        }
    }
    depends.unwrap_or(Effect::File)
}

fn valid(option: &str, value: &[u8]) -> bool {
    match option {
        "umask" => number(value, 8).is_some_and(|n| (0..=0o777).contains(&n)),
        "linger" => number(value, 10).is_some_and(|n| n >= 0),
        "nice" => value.is_empty() || number(value, 10).is_some(),
        "rfc931" => value.is_empty() || number(value, 10).is_some_and(|n| n > 0),
        "severity" => severity(value),
        // setenv(3) refuses a name with `=`, and libwrap takes the refusal for a lack of memory.
        "setenv" => !value.split(u8::is_ascii_whitespace).next().unwrap_or_default().contains(&b'='),
        _ => true,
    }
}

fn severity(value: &[u8]) -> bool {
    let known = |names: &[&str], name: &[u8]| names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    let mut level = value.to_vec();
    match crate::decode::hosts_access::split_at(&mut level, b'.') {
        Some(after) => known(&FACILITIES, &level) && known(&LEVELS, &after),
        None => known(&LEVELS, value),
    }
}

/// `sscanf(value, "%d%c", …) == 1`, or `%o`: a number and nothing behind it. As the C int that it becomes.
fn number(value: &[u8], radix: u32) -> Option<i32> {
    let text = value.trim_ascii_start();
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let all = !digits.is_empty() && digits.iter().all(|b| (*b as char).is_digit(radix));
    if !all {
        return None;
    }
    if radix == 10 {
        return Some(atoi(text));
    }
    let value = digits.iter().fold(0u64, |n, b| n.saturating_mul(8).saturating_add(u64::from(b - b'0')));
    let value = value as i32;
    Some(if text.starts_with(b"-") { value.wrapping_neg() } else { value })
}

/// The fields between `:`; `\:` is a `:` of the field itself (`get_field`).
fn fields(options: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = options;
    while !rest.is_empty() {
        let mut field = Vec::new();
        loop {
            rest = match rest {
                [] => break,
                [b':', after @ ..] => {
                    rest = after;
                    break;
                }
                [b'\\', b':', after @ ..] => {
                    field.push(b':');
                    after
                }
                [byte, after @ ..] => {
                    field.push(*byte);
                    after
                }
            };
        }
        out.push(field);
    }
    out
}

/// The name, and the value behind blanks and at most one `=`.
fn key_value(field: &[u8]) -> (&[u8], Option<&[u8]>) {
    let blank = |b: &u8| b" \t\r\n".contains(b);
    let chopped = chop(field);
    let end = chopped.iter().position(|b| blank(b) || *b == b'=').unwrap_or(chopped.len());
    let (key, mut value) = chopped.split_at_checked(end).unwrap_or((chopped, &[]));
    let skip = |text: &'_ [u8]| text.iter().take_while(|b| blank(b)).count();
    if value.first().is_some_and(blank) {
        value = value.get(skip(value)..).unwrap_or_default();
    }
    if let [b'=', rest @ ..] = value {
        value = rest.get(skip(rest)..).unwrap_or_default();
    }
    (key, (!value.is_empty()).then_some(value))
}

/// isspace(3) knows two more blanks than the separators do.
fn chop(text: &[u8]) -> &[u8] {
    let space = |b: &u8| b" \t\r\n\x0b\x0c".contains(b);
    let start = text.iter().position(|b| !space(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !space(b)).map_or(start, |n| n + 1);
    text.get(start..end).unwrap_or_default()
}
