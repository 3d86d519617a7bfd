//! What a connection asks of the core, and what comes back.

use std::rc::Rc;

use tokio::sync::mpsc::UnboundedSender;

use crate::chain;
use crate::judge::Judgement;
use crate::pass::Report;
use crate::plan::Decision;
use crate::record::{Hold, Phase, RecordError, Trigger, UndoError, Undone};

/// What is asked for that needs the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Without `fresh` a look of a moment ago will do: not everybody may keep the host busy.
    Check {
        fresh: bool,
    },
    Repair {
        dry_run: bool,
        trigger: Trigger,
    },
    Undo {
        id: String,
    },
    Hold(Option<Hold>),
}

/// A question, and where the answer goes. Whoever does not wait any more gets none.
pub struct Request {
    pub asked: Asked,
    pub reply: UnboundedSender<Answer>,
}

pub enum Answer {
    Stage(&'static str),
    Checked(Rc<(Judgement, Decision)>),
    Repaired(Rc<Result<Report, String>>),
    Undone { phase: Phase, changed: bool },
    Held(bool),
    NoSuchRepair,
    Failed(String),
}

impl Request {
    /// A repair has come to this stage; gives whether somebody still waits.
    pub fn stage(&mut self, stage: &'static str) -> bool {
        self.reply.send(Answer::Stage(stage)).is_ok()
    }

    pub fn trigger(&self) -> Option<Trigger> {
        match &self.asked {
            Asked::Repair { trigger, .. } => Some(trigger.clone()),
            _ => None,
        }
    }

    pub fn checked(self, checked: &Rc<(Judgement, Decision)>) {
        self.answer(Answer::Checked(checked.clone()));
    }

    pub fn repaired(self, report: &Rc<Result<Report, String>>) {
        self.answer(Answer::Repaired(report.clone()));
    }

    pub fn undone(self, undone: &Result<Undone, UndoError>) {
        self.answer(match undone {
            Ok(Undone::TakenBack(entry)) => Answer::Undone { phase: entry.phase, changed: true },
            Ok(Undone::Already(phase)) => Answer::Undone { phase: *phase, changed: false },
            Err(UndoError::Record(RecordError::NoSuch(_))) => Answer::NoSuchRepair,
            Err(error) => Answer::Failed(chain(error)),
        });
    }

    pub fn held(self, held: &Result<bool, RecordError>) {
        self.answer(match held {
            Ok(held) => Answer::Held(*held),
            Err(error) => Answer::Failed(chain(error)),
        });
    }

    pub fn fail(self, message: &str) {
        self.answer(Answer::Failed(message.to_owned()));
    }

    fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }
}
