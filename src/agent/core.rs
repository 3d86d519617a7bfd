//! What the agent knows, what it does next, and whom it tells.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bus::Signals;
use super::journal::{Event, Journal};
use super::legacy::{Changed, Legacy};
use super::notify::Notify;
use super::socket::{Asked, Request};
use super::status::{PolicyState, Status};
use super::wake::{Ends, Wake};
use super::worker::{self, Done, Job, Look, Looked};
use super::{AgentError, Faces, Setup};
use crate::judge::Judgement;
use crate::plan::Decision;
use crate::plan::settle::Settle;
use crate::policy::Policy;
use crate::record::{StateDir, Trigger};

/// However still it is, the host is looked at this often.
const SWEEP: Duration = Duration::from_secs(60);
/// firewalld's changes count as a reload for this long.
const RELOAD: Duration = Duration::from_millis(1500);
/// Whoever may not change anything gets a look that is no older.
const STALE: Duration = Duration::from_secs(2);
/// A pass that takes longer than this hangs: systemd is not told any more that all is well.
const HANGS: Duration = Duration::from_secs(120);

/// A judgement, and what would be done about it.
type Checked = Rc<(Judgement, Decision)>;

pub struct Core {
    pub(super) setup: Setup,
    pub(super) policy: watch::Sender<Arc<Policy>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) metrics: String,
    jobs: Sender<Job>,
    queue: VecDeque<(Job, Vec<Request>)>,
    /// What the worker is at, since when, and who waits for it.
    current: Option<(Kind, Instant, Vec<Request>)>,
    checked: Option<(Instant, Checked)>,
    settle: Settle,
    trigger: Option<Trigger>,
    began: Instant,
    again: Option<Instant>,
    sweep: Instant,
    reload: Option<Instant>,
    firewalld: bool,
    legacy: Legacy,
    ends: Ends,
    signals: Signals,
    wakes: UnboundedSender<Wake>,
    pub(super) notify: Notify,
    pub(super) journal: Journal,
}

/// Kinds of jobs that several may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Repair { dry_run: bool, looked: bool },
    Check,
    Other,
}

impl Core {
    pub fn new(setup: Setup, wakes: UnboundedSender<Wake>, done: UnboundedSender<Done>) -> Result<Core, AgentError> {
        let seed = RandomState::new().build_hasher().finish();
        let jobs = worker::start(setup.host, setup.state.clone(), seed, done).map_err(AgentError::Thread)?;
        let (policy, state) = match (setup.load)() {
            Ok((policy, source)) => (policy, PolicyState { source, error: None }),
            Err(error) => {
                (Policy::default(), PolicyState { source: setup.policy_file.display().to_string(), error: Some(error) })
            }
        };
        let now = Instant::now();
        let mut core = Core {
            policy: watch::Sender::new(Arc::new(policy)),
            status: watch::Sender::new(Status::new(state)),
            metrics: String::new(),
            jobs,
            queue: VecDeque::new(),
            current: None,
            checked: None,
            settle: Settle::default(),
            trigger: None,
            began: now,
            again: None,
            sweep: now + SWEEP,
            reload: None,
            firewalld: false,
            legacy: Legacy::default(),
            ends: Ends::default(),
            signals: Signals::default(),
            wakes,
            notify: Notify::from_env(),
            journal: Journal::open(),
            setup,
        };
        core.legacy.changed(&core.setup.host);
        Ok(core)
    }

    pub fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub fn state(&self) -> StateDir {
        self.setup.state.clone()
    }

    pub fn faces(&self) -> Faces {
        self.setup.faces
    }

    /// The socket listens: what an earlier run left is taken back, then the host is looked at.
    pub fn begin(&mut self) {
        let version = env!("CARGO_PKG_VERSION");
        self.journal.say(Event::Started, &format!("ssh-rescue {version} watches over SSH"), &[]);
        if let Some(error) = self.status.borrow().policy.error.clone() {
            self.policy_mistake(&error);
        }
        self.hold();
        self.notify.ready();
        self.signals.again(&self.wakes);
        self.enqueue(Job::Recover, None);
        self.look();
    }

    pub fn end(&mut self) {
        self.notify.stopping();
    }

    pub fn woken(&mut self, wake: Wake) {
        let who = wake.who().map(|changer| changer.name.clone());
        // Itself, or a tool that has ended, so that nobody knows who ran it.
        let reloads = |name: &str| name == "firewalld" || self.firewalld && name.contains("tables-resto");
        if who.as_deref().is_some_and(reloads) {
            self.reload = Some(Instant::now());
        }
        match &wake {
            // Whether they are this host's tables is not known yet.
            Wake::Suspected(suspect) => return self.legacy.suspect(suspect.clone()),
            Wake::Reloaded => self.reload = None,
            Wake::Deaf { source, why } => {
                self.journal.say(Event::Deaf, &format!("{source} is not listened to any more: {why}"), &[]);
            }
            Wake::Policy => self.reload(),
            _ => {}
        }
        // While a repair is at work the changes are its own.
        let own = matches!(self.current, Some((Kind::Repair { dry_run: false, .. }, ..)));
        if let Some(what) = wake.words().filter(|_| !own) {
            // The first of a burst, unless a later one has a name.
            if self.trigger.as_ref().is_none_or(|t| t.who.is_none() && who.is_some()) {
                self.trigger = Some(Trigger { what, who });
            }
        }
        self.settle.changed(self.elapsed());
    }

    /// When something is to be done although nothing happens.
    pub fn next(&self) -> Instant {
        let settled = self.settle.due().map(|at| self.began + Duration::from_millis(at));
        [settled, self.again, self.legacy.next(self.current.is_some()), Some(self.sweep)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.sweep)
    }

    pub fn tick(&mut self, now: Instant) {
        let busy = self.current.is_some();
        if self.legacy.next(busy).is_some_and(|at| at <= now)
            && let Some(Changed { by }) = self.legacy.changed(&self.setup.host)
        {
            // A tool that the repair ran is nobody to blame.
            self.woken(Wake::Legacy(by.filter(|_| !busy)));
        }
        let swept = self.sweep <= now;
        if swept {
            self.signals.again(&self.wakes);
            self.alive();
        }
        let settled = self.settle.due().is_some_and(|at| self.began + Duration::from_millis(at) <= now);
        if settled || swept || self.again.is_some_and(|at| at <= now) {
            self.look();
        }
    }

    fn look(&mut self) {
        self.settle.looked();
        (self.again, self.sweep) = (None, Instant::now() + SWEEP);
        let look = Look {
            policy: self.policy.borrow().clone(),
            report_only: self.status.borrow().policy.error.is_some(),
            trigger: self.trigger.take(),
            reload: self.reload.is_some_and(|at| at.elapsed() < RELOAD),
        };
        match self.queue.iter_mut().find_map(|(job, _)| if let Job::Look(look) = job { Some(look) } else { None }) {
            // One look sees it all.
            Some(queued) => *queued = Look { trigger: queued.trigger.take().or(look.trigger), ..look },
            None => self.enqueue(Job::Look(look), None),
        }
    }

    pub fn asked(&mut self, request: Request) {
        let wanted = match &request.asked {
            Asked::Repair { dry_run, .. } => Kind::Repair { dry_run: *dry_run, looked: false },
            Asked::Check { .. } => Kind::Check,
            Asked::Undo { .. } | Asked::Hold(_) => Kind::Other,
        };
        let error = self.status.borrow().policy.error.clone();
        if let (Kind::Repair { .. }, Some(error)) = (wanted, error) {
            return request.fail(&format!("nothing is repaired while the policy has a mistake: {error}"));
        }
        if let (Asked::Check { fresh: false }, Some((at, checked))) = (&request.asked, &self.checked)
            && at.elapsed() < STALE
        {
            return request.checked(checked);
        }
        // Several at once become one, as long as it has not looked yet.
        if let Some((kind, _, waiting)) = &mut self.current
            && matches!(wanted, Kind::Repair { .. })
            && *kind == wanted
        {
            return waiting.push(request);
        }
        if wanted != Kind::Other
            && let Some((_, waiting)) = self.queue.iter_mut().find(|(job, _)| Kind::of(job) == wanted)
        {
            return waiting.push(request);
        }
        let policy = self.policy.borrow().clone();
        let job = match &request.asked {
            Asked::Repair { dry_run, trigger } => Job::Repair { policy, dry_run: *dry_run, trigger: trigger.clone() },
            Asked::Check { .. } => Job::Check { policy },
            Asked::Undo { id } => Job::Undo { id: id.clone() },
            Asked::Hold(hold) => Job::Hold(hold.clone()),
        };
        self.enqueue(job, Some(request));
    }

    /// What somebody waits for goes before what nobody does, and a repair before all.
    fn enqueue(&mut self, job: Job, request: Option<Request>) {
        let place = match (&job, &request) {
            (Job::Repair { .. }, _) => 0,
            (_, Some(_)) => self.queue.iter().take_while(|(_, waiting)| !waiting.is_empty()).count(),
            (_, None) => self.queue.len(),
        };
        self.queue.insert(place, (job, request.into_iter().collect()));
        self.work();
    }

    fn work(&mut self) {
        if self.current.is_some() {
            return;
        }
        if let Some((job, waiting)) = self.queue.pop_front() {
            self.current = Some((Kind::of(&job), Instant::now(), waiting));
            // The worker ends only with the process.
            let _ = self.jobs.send(job);
        }
    }

    pub fn done(&mut self, done: Done) {
        if let Done::Stage(stage) = done {
            if let Some((Kind::Repair { looked, .. }, _, waiting)) = &mut self.current {
                *looked |= stage != "observe";
                waiting.retain_mut(|request| request.stage(stage));
            }
            return;
        }
        // A bus may have come up since.
        self.signals.again(&self.wakes);
        let waiting = self.current.take().map(|(_, _, waiting)| waiting).unwrap_or_default();
        match done {
            Done::Stage(_) | Done::Forgiven => {}
            Done::Recovered(recovered) => self.recovered(recovered),
            Done::Looked(looked) => self.looked(*looked),
            Done::Checked(checked) => {
                self.seen(&checked.0, None);
                let checked = Rc::new(*checked);
                self.checked = Some((Instant::now(), checked.clone()));
                waiting.into_iter().for_each(|request| request.checked(&checked));
            }
            Done::Repaired(report) => {
                if let Ok(report) = &*report {
                    let trigger = waiting.iter().find_map(Request::trigger);
                    self.repaired(report, trigger);
                    self.legacy.acquit();
                    self.settle.changed(self.elapsed());
                }
                let report = Rc::new(*report);
                waiting.into_iter().for_each(|request| request.repaired(&report));
            }
            Done::Undone(undone) => {
                self.legacy.acquit();
                self.settle.changed(self.elapsed());
                waiting.into_iter().for_each(|request| request.undone(&undone));
            }
            Done::Held(held) => {
                self.hold();
                self.settle.changed(self.elapsed());
                waiting.into_iter().for_each(|request| request.held(&held));
            }
        }
        self.alive();
        self.publish();
        self.work();
    }

    fn looked(&mut self, looked: Looked) {
        self.ends.of(&looked.listeners, &self.wakes);
        self.firewalld = looked.firewalld;
        self.hold();
        let again = looked.again.map(|pause| Instant::now() + pause);
        // A hold that ends by its time is an event, too.
        let held = self.status.borrow().hold.as_ref().map(|hold| {
            let left = hold.until.duration_since(Timestamp::now());
            Instant::now() + Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1)
        });
        self.again = [again, held].into_iter().flatten().min();
        let stopped = (self.status.borrow().stopped.is_some(), looked.stopped.is_some());
        self.status.send_modify(|status| {
            status.waiting = looked.waiting.clone();
            status.stopped = looked.stopped.clone();
        });
        match (stopped, &looked.stopped) {
            ((false, true), Some(words)) => {
                self.journal.say(Event::Restrained, &format!("nothing more is repaired: {words}"), &[])
            }
            ((true, false), _) => self.journal.say(Event::Restrained, "repairs are made again", &[]),
            _ => {}
        }
        match &looked.report {
            Some(report) => self.repaired(report, looked.trigger.clone()),
            None => self.seen(&looked.judgement, looked.trigger.as_ref()),
        }
        if let Some(error) = &looked.error {
            self.journal.say(Event::Failed, &format!("no repair: {error}"), &[]);
        }
        if looked.report.is_some() {
            self.legacy.acquit();
        } else if let Some(Changed { by }) = self.legacy.changed(&self.setup.host) {
            // They changed while the look was under way.
            self.woken(Wake::Legacy(by));
        }
    }

    /// The policy file has changed, or somebody says so (SIGHUP).
    pub fn reload(&mut self) {
        self.notify.reloading();
        let was = self.status.borrow().policy.clone();
        match (self.setup.load)() {
            Ok((policy, source)) => {
                let same = *self.policy.borrow().as_ref() == policy;
                self.status.send_modify(|status| status.policy = PolicyState { source, error: None });
                if !same || was.error.is_some() {
                    let source = self.status.borrow().policy.source.clone();
                    self.journal.say(Event::Policy, &format!("the policy in force is that of {source}"), &[]);
                    self.policy.send_replace(Arc::new(policy));
                    self.enqueue(Job::Forgive, None);
                }
            }
            Err(error) => {
                if was.error.as_ref() != Some(&error) {
                    self.policy_mistake(&error);
                }
                self.status.send_modify(|status| status.policy.error = Some(error));
            }
        }
        self.notify.ready();
        self.publish();
        self.settle.changed(self.elapsed());
    }

    fn alive(&self) {
        if self.current.as_ref().is_none_or(|(_, since, _)| since.elapsed() < HANGS) {
            self.notify.alive();
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Kind {
    fn of(job: &Job) -> Kind {
        match job {
            Job::Repair { dry_run, .. } => Kind::Repair { dry_run: *dry_run, looked: false },
            Job::Check { .. } => Kind::Check,
            _ => Kind::Other,
        }
    }
}
