//! Connections, and the methods that they call.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

use super::INTERFACE;
use super::access::Access;
use super::answer::{Answer, Asked, Request};
use super::idl::{Interface, Method};
use super::live::{Entry, Live};
use super::wire::{Call, Wire, call, error, reply};
use crate::chain;
use crate::host::{Host, Peer};
use crate::record::{Hold, StateDir, Trigger, history};

const SERVICE: &str = "org.varlink.service";
const SERVICE_INTERFACE: &str = include_str!("org.varlink.service.varlink");
/// How long no further connection is taken after one could not be.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest hold, in seconds.
const LONGEST_HOLD: u64 = 30 * 86400;

/// What every connection shares.
struct Service {
    access: Rc<Access>,
    requests: UnboundedSender<Request>,
    state: StateDir,
    interfaces: [(Interface, &'static str); 2],
}

/// Answers everybody who connects, for ever.
pub async fn serve(listener: UnixListener, access: Rc<Access>, state: StateDir, requests: UnboundedSender<Request>) {
    let parse = |text| Interface::parse(text).map(|interface| (interface, text));
    let (Some(service), Some(agent)) = (parse(SERVICE_INTERFACE), parse(INTERFACE)) else { return };
    let service = Rc::new(Service { access, requests, state, interfaces: [service, agent] });
    let live = Rc::new(Live::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let entry = Rc::new(live.enter(peer.uid));
        let task = spawn_local(connection(service.clone(), Wire::new(stream), peer, entry.clone()));
        entry.task(task.abort_handle());
    }
}

async fn connection(service: Rc<Service>, mut wire: Wire, peer: Peer, entry: Rc<Entry>) {
    loop {
        let Ok(frame) = wire.frame(async || entry.room().await).await else { return };
        let Some(_room) = entry.room().await else { return };
        let answered = match call(&frame) {
            // In a box of its own: who says nothing has none.
            Ok(call) => Box::pin(service.answer(&mut wire, &peer, call)).await,
            Err("call") => return,
            Err(part) => wire.send(&wrong(part)).await,
        };
        if answered.is_err() {
            return;
        }
    }
}

fn wrong(parameter: &str) -> Value {
    error("org.varlink.service.InvalidParameter", json!({"parameter": parameter}))
}

impl Service {
    async fn answer(&self, wire: &mut Wire, peer: &Peer, call: Call) -> std::io::Result<()> {
        let (more, oneway) = (call.more, call.oneway);
        let mut sent = Ok(());
        let mut tell = async |answer: Value| {
            if !oneway && sent.is_ok() {
                sent = wire.send(&answer).await;
            }
            sent.is_ok()
        };
        match self.dispatch(peer, call, more, &mut tell).await {
            Ok(last) => drop(tell(reply(last, false)).await),
            Err(Refusal { name, parameters }) => drop(tell(error(&name, parameters)).await),
        }
        sent
    }

    async fn dispatch(
        &self,
        peer: &Peer,
        call: Call,
        more: bool,
        tell: &mut impl AsyncFnMut(Value) -> bool,
    ) -> Result<Value, Refusal> {
        let (interface, method, name) = self.find(&call)?;
        if let Some(parameter) = interface.wrong(&method.takes, &call.parameters) {
            return Err(Refusal::service("InvalidParameter", "parameter", &parameter));
        }
        let parameters = &call.parameters;
        let changes = match name {
            "Repair" => !flag(parameters, "dry_run"),
            "Hold" | "Release" | "Undo" => true,
            _ => false,
        };
        if (changes || name == "Repair") && !self.access.may_change(peer) {
            return Err(Refusal { name: format!("{SERVICE}.PermissionDenied"), parameters: json!({}) });
        }
        match name {
            "GetInfo" => Ok(self.info()),
            "GetInterfaceDescription" => self.description(parameters),
            "Check" => self.check(parameters, self.access.may_change(peer)).await,
            "Repair" => self.repair(peer, parameters, more, tell).await,
            "Status" => Ok(json!({"status": &*self.access.status.borrow()})),
            "Monitor" => self.monitor(more, tell).await,
            "Hold" => self.hold(peer, parameters).await,
            "Release" => match self.ask(Asked::Hold(None)).await? {
                Answer::Held(released) => Ok(json!({"released": released})),
                answer => Err(Refusal::unexpected(answer)),
            },
            "History" => self.history().await,
            "Undo" => self.undo(parameters).await,
            _ => Err(Refusal::service("MethodNotImplemented", "method", name)),
        }
    }

    fn find<'a>(&'a self, call: &'a Call) -> Result<(&'a Interface, &'a Method, &'a str), Refusal> {
        let (interface, name) = call.method.rsplit_once('.').unwrap_or(("", &call.method));
        let known = self.interfaces.iter().map(|(known, _)| known).find(|known| known.name == interface);
        let known = known.ok_or_else(|| Refusal::service("InterfaceNotFound", "interface", interface))?;
        let method = known.methods.get(name);
        Ok((known, method.ok_or_else(|| Refusal::service("MethodNotFound", "method", name))?, name))
    }

    fn info(&self) -> Value {
        let interfaces: Vec<&str> = self.interfaces.iter().map(|(interface, _)| interface.name.as_str()).collect();
        json!({
            "vendor": "ssh-rescue",
            "product": "ssh-rescue agent",
            "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_REPOSITORY"),
            "interfaces": interfaces,
        })
    }

    fn description(&self, parameters: &Map<String, Value>) -> Result<Value, Refusal> {
        let name = text(parameters, "interface").unwrap_or_default();
        match self.interfaces.iter().find(|(interface, _)| interface.name == name) {
            Some((_, text)) => Ok(json!({"description": text})),
            None => Err(Refusal::service("InterfaceNotFound", "interface", name)),
        }
    }

    async fn check(&self, parameters: &Map<String, Value>, fresh: bool) -> Result<Value, Refusal> {
        match self.ask(Asked::Check { fresh }).await? {
            Answer::Checked(checked) => {
                let text = (self.access.faces.check)(&checked.0, &checked.1, flag(parameters, "color"));
                let mut report = json!(checked.0);
                if let Some(members) = report.as_object_mut() {
                    members.insert("hold".to_owned(), json!(self.access.status.borrow().hold));
                }
                Ok(json!({"report": report, "text": text}))
            }
            answer => Err(Refusal::unexpected(answer)),
        }
    }

    async fn repair(
        &self,
        peer: &Peer,
        parameters: &Map<String, Value>,
        more: bool,
        tell: &mut impl AsyncFnMut(Value) -> bool,
    ) -> Result<Value, Refusal> {
        let dry_run = flag(parameters, "dry_run");
        let who = format!("user {}", peer.uid);
        let reason = text(parameters, "trigger").map(|t| format!(": {t}")).unwrap_or_default();
        let trigger = Trigger { what: format!("asked for by {who}{reason}"), who: Some(who) };
        let mut answers = self.request(Asked::Repair { dry_run, trigger });
        loop {
            match answers.recv().await {
                Some(Answer::Stage(stage)) => {
                    if more && !tell(reply(json!({"stage": stage}), true)).await {
                        return Err(Refusal::failed("nobody listens"));
                    }
                }
                Some(Answer::Repaired(report)) => {
                    let report = report.as_ref().as_ref().map_err(|error| Refusal::failed(error))?;
                    let text = (self.access.faces.repair)(report, dry_run, flag(parameters, "color"));
                    return Ok(json!({"report": report, "text": text}));
                }
                answer => return Err(answer.map_or_else(|| Refusal::failed("the agent ends"), Refusal::unexpected)),
            }
        }
    }

    async fn monitor(&self, more: bool, tell: &mut impl AsyncFnMut(Value) -> bool) -> Result<Value, Refusal> {
        let mut status = self.access.status.clone();
        loop {
            let now = json!({"status": &*status.borrow_and_update()});
            if !more {
                return Ok(now);
            }
            if !tell(reply(now, true)).await || status.changed().await.is_err() {
                return Err(Refusal::failed("the agent ends"));
            }
        }
    }

    async fn hold(&self, peer: &Peer, parameters: &Map<String, Value>) -> Result<Value, Refusal> {
        let seconds = parameters.get("seconds").and_then(Value::as_u64).filter(|s| (1..=LONGEST_HOLD).contains(s));
        let hold = seconds.and_then(|s| Hold::new(s, text(parameters, "reason"), format!("user {}", peer.uid)));
        let hold = hold.ok_or_else(|| Refusal::service("InvalidParameter", "parameter", "seconds"))?;
        match self.ask(Asked::Hold(Some(hold.clone()))).await? {
            Answer::Held(_) => Ok(json!({"hold": hold})),
            answer => Err(Refusal::unexpected(answer)),
        }
    }

    async fn history(&self) -> Result<Value, Refusal> {
        let state = self.state.clone();
        let read = tokio::task::spawn_blocking(move || history(&Host::live(), &state)).await;
        let history = read.map_err(|e| Refusal::failed(&e.to_string()))?.map_err(|e| Refusal::failed(&chain(&e)))?;
        let unreadable: Vec<Value> =
            history.unreadable.iter().map(|(id, error)| json!({"id": id, "error": chain(error)})).collect();
        Ok(json!({"repairs": history.entries, "unreadable": unreadable}))
    }

    async fn undo(&self, parameters: &Map<String, Value>) -> Result<Value, Refusal> {
        let id = text(parameters, "id").unwrap_or_default().to_owned();
        match self.ask(Asked::Undo { id: id.clone() }).await? {
            Answer::Undone { phase, changed } => Ok(json!({"phase": phase, "changed": changed})),
            Answer::NoSuchRepair => {
                Err(Refusal { name: format!("{}.NoSuchRepair", super::SOCKET), parameters: json!({"id": id}) })
            }
            answer => Err(Refusal::unexpected(answer)),
        }
    }

    fn request(&self, asked: Asked) -> UnboundedReceiver<Answer> {
        let (answers, answer) = unbounded_channel();
        let _ = self.requests.send(Request { asked, reply: answers });
        answer
    }

    async fn ask(&self, asked: Asked) -> Result<Answer, Refusal> {
        let mut answers = self.request(asked);
        answers.recv().await.ok_or_else(|| Refusal::failed("the agent ends"))
    }
}

/// An error reply.
struct Refusal {
    name: String,
    parameters: Value,
}

impl Refusal {
    /// One of Varlink's own.
    fn service(name: &str, key: &str, value: &str) -> Refusal {
        Refusal { name: format!("{SERVICE}.{name}"), parameters: json!({key: value}) }
    }

    fn failed(message: &str) -> Refusal {
        Refusal { name: format!("{}.Failed", super::SOCKET), parameters: json!({"message": message}) }
    }

    fn unexpected(answer: Answer) -> Refusal {
        match answer {
            Answer::Failed(message) => Refusal::failed(&message),
            _ => Refusal::failed("the agent gave another answer than was asked for"),
        }
    }
}

fn flag(parameters: &Map<String, Value>, name: &str) -> bool {
    parameters.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(parameters: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    parameters.get(name).and_then(Value::as_str)
}
