//! How many may be served at once. A connection that says nothing costs a descriptor; one that is served costs room.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::wire::PATIENCE;

/// Calls and large frames at once, of all; of one user; and what is kept for root.
const LIVE: usize = 64;
const OF_ONE: usize = 8;
const ROOT: usize = 8;
/// Connections at once. For the next one, one of the user with the most must go.
const OPEN: usize = 2048;

#[derive(Default)]
pub struct Live {
    inner: RefCell<Inner>,
    freed: Notify,
}

#[derive(Default)]
struct Inner {
    open: BTreeMap<u64, Open>,
    next: u64,
    /// Served now, by user.
    served: BTreeMap<u32, usize>,
}

struct Open {
    uid: u32,
    served: bool,
    task: Option<AbortHandle>,
}

/// A connection that is open, until it is dropped.
pub struct Entry {
    live: Rc<Live>,
    number: u64,
    uid: u32,
}

/// Room to be served, until it is dropped.
pub struct Room {
    live: Rc<Live>,
    number: u64,
    uid: u32,
}

impl Live {
    /// A further connection of this user.
    pub fn enter(self: &Rc<Live>, uid: u32) -> Entry {
        let mut inner = self.inner.borrow_mut();
        if inner.open.len() >= OPEN {
            inner.make_room();
        }
        inner.next += 1;
        let number = inner.next;
        inner.open.insert(number, Open { uid, served: false, task: None });
        Entry { live: self.clone(), number, uid }
    }
}

impl Inner {
    /// Ends the oldest connection, of the user with the most, that is not being served.
    fn make_room(&mut self) {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for open in self.open.values().filter(|open| !open.served) {
            *counts.entry(open.uid).or_default() += 1;
        }
        let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { return };
        let oldest = self.open.iter().find(|(_, open)| open.uid == most && !open.served).map(|(number, _)| *number);
        if let Some(task) = oldest.and_then(|number| self.open.remove(&number)).and_then(|open| open.task) {
            task.abort();
        }
    }

    fn has_room(&self, uid: u32) -> bool {
        let all: usize = self.served.values().sum();
        let own = self.served.get(&uid).copied().unwrap_or(0);
        match uid {
            0 => all < LIVE,
            _ => all < LIVE - ROOT && own < OF_ONE,
        }
    }
}

impl Entry {
    /// The task that serves this connection, so that it can be ended.
    pub fn task(&self, task: AbortHandle) {
        if let Some(open) = self.live.inner.borrow_mut().open.get_mut(&self.number) {
            open.task = Some(task);
        }
    }

    /// Waits for room to be served; None if there is none for too long.
    pub async fn room(&self) -> Option<Room> {
        let wait = async {
            loop {
                let freed = self.live.freed.notified();
                if self.live.inner.borrow().has_room(self.uid) {
                    break;
                }
                freed.await;
            }
        };
        timeout(PATIENCE, wait).await.ok()?;
        let mut inner = self.live.inner.borrow_mut();
        *inner.served.entry(self.uid).or_default() += 1;
        if let Some(open) = inner.open.get_mut(&self.number) {
            open.served = true;
        }
        Some(Room { live: self.live.clone(), number: self.number, uid: self.uid })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.live.inner.borrow_mut().open.remove(&self.number);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut inner = self.live.inner.borrow_mut();
        if let Some(served) = inner.served.get_mut(&self.uid) {
            *served -= 1;
            if *served == 0 {
                inner.served.remove(&self.uid);
            }
        }
        if let Some(open) = inner.open.get_mut(&self.number) {
            open.served = false;
        }
        drop(inner);
        self.live.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_user_leaves_room_for_others_and_all_leave_room_for_root() {
        let live = Rc::new(Live::default());
        let mut kept = Vec::new();
        for uid in 1000..1007 {
            for _ in 0..OF_ONE {
                let entry = live.enter(uid);
                kept.push((entry.room().await.unwrap(), entry));
            }
            assert!(!live.inner.borrow().has_room(uid));
        }
        assert!(!live.inner.borrow().has_room(2000));
        for _ in 0..ROOT {
            let entry = live.enter(0);
            kept.push((entry.room().await.unwrap(), entry));
        }
        assert!(!live.inner.borrow().has_room(0));
        kept.clear();
        let inner = live.inner.borrow();
        assert!(inner.served.is_empty() && inner.open.is_empty());
    }

    #[tokio::test]
    async fn for_one_too_many_the_oldest_of_the_most_goes() {
        let live = Rc::new(Live::default());
        let mut kept = vec![live.enter(0), live.enter(7)];
        let served = live.enter(1000);
        let _room = served.room().await.unwrap();
        kept.extend((0..OPEN - 3).map(|_| live.enter(1000)));
        let _last = live.enter(7);
        let inner = live.inner.borrow();
        assert_eq!(inner.open.len(), OPEN);
        assert!(inner.open.contains_key(&kept[0].number) && inner.open.contains_key(&kept[1].number));
        assert!(inner.open.contains_key(&served.number) && !inner.open.contains_key(&kept[2].number));
    }
}
