//! Interface files (<https://varlink.org/Interface-Definition>): what each method takes and gives. They are what calls are held
//! against, so that they cannot say another thing than the code does.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub types: BTreeMap<String, Type>,
    pub methods: BTreeMap<String, Method>,
    pub errors: BTreeMap<String, Fields>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    pub takes: Fields,
    pub gives: Fields,
}

type Fields = Vec<(String, Type)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int,
    Float,
    String,
    Object,
    Named(String),
    Struct(Fields),
    Enum(Vec<String>),
    Maybe(Box<Type>),
    Array(Box<Type>),
    Dict(Box<Type>),
}

impl Interface {
    /// None of a text that is no interface.
    pub fn parse(text: &str) -> Option<Interface> {
        let mut words = Words::of(text);
        words.expect("interface")?;
        let name = words.next()?;
        let (types, methods, errors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut interface = Interface { name, types, methods, errors };
        while let Some(keyword) = words.next() {
            let name = words.next()?;
            match keyword.as_str() {
                "type" => drop(interface.types.insert(name, words.structure()?)),
                "error" => drop(interface.errors.insert(name, words.fields()?)),
                "method" => {
                    let takes = words.fields()?;
                    words.expect("->")?;
                    drop(interface.methods.insert(name, Method { takes, gives: words.fields()? }));
                }
                _ => return None,
            }
        }
        Some(interface)
    }

    /// The first parameter that is missing, unknown or of another type.
    pub fn wrong(&self, fields: &Fields, values: &Map<String, Value>) -> Option<String> {
        let unknown = values.keys().find(|key| !fields.iter().any(|(name, _)| name == *key));
        let wrong = fields.iter().find(|(name, kind)| !self.fits(kind, values.get(name).unwrap_or(&Value::Null)));
        unknown.cloned().or_else(|| wrong.map(|(name, _)| name.clone()))
    }

    fn fits(&self, kind: &Type, value: &Value) -> bool {
        match (kind, value) {
            (Type::Maybe(_), Value::Null) => true,
            (Type::Maybe(inner), value) => self.fits(inner, value),
            (Type::Bool, Value::Bool(_)) | (Type::String, Value::String(_)) => true,
            (Type::Int, Value::Number(number)) => number.is_i64() || number.is_u64(),
            (Type::Float, Value::Number(_)) => true,
            (Type::Object, Value::Object(_)) => true,
            (Type::Named(name), value) => self.types.get(name).is_some_and(|kind| self.fits(kind, value)),
            (Type::Struct(fields), Value::Object(values)) => self.wrong(fields, values).is_none(),
            (Type::Enum(words), Value::String(word)) => words.contains(word),
            (Type::Array(inner), Value::Array(values)) => values.iter().all(|value| self.fits(inner, value)),
            (Type::Dict(inner), Value::Object(values)) => values.values().all(|value| self.fits(inner, value)),
            _ => false,
        }
    }
}

struct Words(std::vec::IntoIter<String>);

impl Words {
    /// Names, and each other mark by itself; `->` is one.
    fn of(text: &str) -> Words {
        let mut words: Vec<String> = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut open = false;
            for c in line.chars() {
                let part = c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                match words.last_mut() {
                    Some(last) if open && part => last.push(c),
                    Some(last) if last == "-" && c == '>' => last.push(c),
                    _ if !c.is_whitespace() => words.push(c.to_string()),
                    _ => {}
                }
                open = part;
            }
        }
        Words(words.into_iter())
    }

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn peek(&self) -> &str {
        self.0.as_slice().first().map_or("", String::as_str)
    }

    fn expect(&mut self, word: &str) -> Option<()> {
        (self.next()? == word).then_some(())
    }

    fn fields(&mut self) -> Option<Fields> {
        match self.structure()? {
            Type::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    /// What stands in parentheses: fields, or the words of an enum.
    fn structure(&mut self) -> Option<Type> {
        self.expect("(")?;
        let (mut fields, mut words) = (Vec::new(), Vec::new());
        while self.peek() != ")" {
            let name = self.next()?;
            match self.peek() {
                ":" => {
                    self.expect(":")?;
                    fields.push((name, self.kind()?));
                }
                _ => words.push(name),
            }
            if self.peek() == "," {
                self.expect(",")?;
            }
        }
        self.expect(")")?;
        match (fields.is_empty(), words.is_empty()) {
            (_, true) => Some(Type::Struct(fields)),
            (true, false) => Some(Type::Enum(words)),
            (false, false) => None,
        }
    }

    fn kind(&mut self) -> Option<Type> {
        if self.peek() == "(" {
            return self.structure();
        }
        Some(match self.next()?.as_str() {
            "?" => Type::Maybe(Box::new(self.kind()?)),
            "[" if self.peek() == "]" => {
                self.expect("]")?;
                Type::Array(Box::new(self.kind()?))
            }
            "[" => {
                self.expect("string")?;
                self.expect("]")?;
                Type::Dict(Box::new(self.kind()?))
            }
            "bool" => Type::Bool,
            "int" => Type::Int,
            "float" => Type::Float,
            "string" => Type::String,
            "object" => Type::Object,
            name => Type::Named(name.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_held_against_their_types() {
        let text = "# x\ninterface a.b-c\ntype T (a: ?int, b: []string)\ntype E (x, y)\nmethod M(t: T, d: [string]bool) -> (e: ?E)\nerror Bad ()";
        let interface = Interface::parse(text).unwrap();
        assert_eq!(interface.name, "a.b-c");
        let Method { takes, gives } = &interface.methods["M"];
        let wrong = |fields, value: Value| interface.wrong(fields, value.as_object().unwrap());
        assert_eq!(wrong(takes, json!({"t": {"b": ["x"]}, "d": {"k": true}})), None);
        assert_eq!(wrong(takes, json!({"t": {"a": 1.5, "b": []}, "d": {}})).as_deref(), Some("t"));
        assert_eq!(wrong(takes, json!({"t": {"b": [], "c": 1}, "d": {}})).as_deref(), Some("t"));
        assert_eq!(wrong(takes, json!({"t": {"b": []}})).as_deref(), Some("d"));
        assert_eq!(wrong(takes, json!({"t": {"b": []}, "d": {}, "z": 0})).as_deref(), Some("z"));
        assert_eq!(wrong(gives, json!({"e": "x"})), None);
        assert_eq!(wrong(gives, json!({"e": null})), None);
        assert_eq!(wrong(gives, json!({"e": "z"})).as_deref(), Some("e"));
        for broken in [
            "",
            "interface",
            "interface a.b\nmethod M(",
            "interface a.b\nmethod M(a int) -> ()",
            "interface a.b\nfoo X ()",
        ] {
            assert_eq!(Interface::parse(broken), None, "{broken:?}");
        }
    }
}
