//! The operator: accounts are disabled, enabled, removed and made again, and get new passwords, in the middle of traffic. What an
//! order takes goes on as the command's does (`server/control/act.rs`): a step when the one before is stored.

use std::sync::Arc;

use parking_lot::Mutex;
use vorpal_core::life::users::{NewUser, Sessions};
use vorpal_core::owner::account::AccountRef;
use vorpal_core::owner::words::Notice;
use vorpal_proto::jid::BareJid;

use super::Simulator;
use crate::random::Random;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Disable,
    Enable,
    /// a new password, by its number; and whether sessions go on
    Password(usize, Sessions),
    Remove,
    /// with this password
    Create(usize),
}

impl Order {
    /// Whether sessions of before end.
    pub fn revokes(self) -> bool {
        matches!(self, Order::Disable | Order::Remove | Order::Password(_, Sessions::End))
    }
}

/// How far an order is.
enum Stage {
    /// all of it is submitted
    Submitted,
    /// the first step of a removal is
    Begun,
    /// what these contacts hold ends next, and what others held is on its way to the disk
    Leaving(Vec<BareJid>, Vec<Told>),
    /// the last step is submitted
    Deleting,
}

/// An order that is carried out.
pub(super) struct Job {
    pub account: usize,
    pub order: Order,
    /// the account's revocation that it is, if it is one
    pub revocation: u32,
    stage: Stage,
    lock: Option<AccountRef>,
    told: Told,
    /// nobody had the name when it was submitted
    pub free: bool,
}

/// Whether a step is stored, once that is known.
type Told = Arc<Mutex<Option<bool>>>;

/// The end of a step.
fn teller(told: &Told) -> Notice {
    let told = told.clone();
    Box::new(move |stored| *told.lock() = Some(stored))
}

impl Simulator {
    /// The operator may want something.
    pub(super) fn order(&mut self, r: &mut Random) {
        if !self.taste.operator {
            return;
        }
        let account = r.below(self.accounts.len());
        let busy = self.jobs.iter().any(|job| job.account == account);
        let name = &self.names[account];
        let new_key = name.next_key;
        let order = if busy {
            // Somebody else works on the same account.
            let orders = [Order::Disable, Order::Enable, Order::Remove, Order::Create(new_key)];
            r.one_in(20).then(|| orders[r.below(4)])
        } else if name.owner.is_none() {
            r.one_in(5).then_some(Order::Create(new_key))
        } else if name.half_removed {
            // As the handbook says: the command is run again.
            r.one_in(6).then_some(Order::Remove)
        } else if name.disabled {
            r.one_in(10).then(|| if r.one_in(4) { Order::Remove } else { Order::Enable })
        } else {
            let sessions = if r.one_in(4) { Sessions::Keep } else { Sessions::End };
            let orders = [
                Order::Disable,
                Order::Remove,
                Order::Remove,
                Order::Password(new_key, sessions),
                Order::Create(new_key),
            ];
            r.one_in(40).then(|| orders[r.below(5)])
        };
        if let Some(order) = order {
            self.begin_order(account, order);
        }
    }

    /// Submits the first step of an order, if the command gets as far as that.
    pub(super) fn begin_order(&mut self, account: usize, order: Order) {
        let jid: BareJid = self.bare(account).parse().expect("an address");
        let found = self.world.load(&jid);
        if let Order::Create(key) = order {
            if found.is_some() {
                self.note(|| format!("{jid} exists already"));
                return;
            }
            self.names[account].next_key = (key + 1) % self.world.secrets().count();
        } else if found.is_none() {
            self.note(|| format!("there is no {jid} for {order:?}"));
            return;
        }
        self.note(|| format!("the operator: {order:?} {jid}"));
        let told = Arc::new(Mutex::new(None));
        self.take_facts();
        let free = self.names[account].owner.is_none();
        let revocation = self.submitted(account, order, found.as_ref());
        let (core, now) = (self.world.core().clone(), self.world.now);
        let done = teller(&told);
        let mut stage = Stage::Submitted;
        match (order, &found) {
            (Order::Disable, Some(lock)) => core.disable_user(now, lock, true, done),
            (Order::Enable, Some(lock)) => core.disable_user(now, lock, false, done),
            (Order::Password(key, sessions), Some(lock)) => {
                self.names[account].next_key = (key + 1) % self.world.secrets().count();
                let secrets = self.world.secrets().clone();
                core.set_credentials(now, lock, secrets.credentials(key), sessions, done);
            }
            (Order::Remove, Some(lock)) => {
                stage = Stage::Begun;
                core.begin_removal(now, lock, done);
            }
            (Order::Create(key), _) => {
                let user = NewUser::new(jid).expect("a name that can log in");
                let secrets = self.world.secrets().clone();
                core.create_user(now, &user, secrets.credentials(key), done);
            }
            _ => return,
        }
        self.jobs.push(Job { account, order, revocation, stage, lock: found, told, free });
    }

    /// Goes on with what the operator waits for. Whether anything was done.
    pub(super) fn operate(&mut self) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        self.take_facts();
        let mut any = false;
        let mut at = 0;
        while at < self.jobs.len() {
            match self.go_on(at) {
                Some(true) => {
                    any = true;
                    at += 1;
                }
                Some(false) => at += 1,
                None => {
                    any = true;
                    self.jobs.remove(at);
                }
            }
        }
        any
    }

    /// One step of one order, if it is time to: whether there was one; none if the order is done.
    fn go_on(&mut self, at: usize) -> Option<bool> {
        let (core, now) = (self.world.core().clone(), self.world.now);
        let job = &mut self.jobs[at];
        let (account, order) = (job.account, job.order);
        if let Stage::Leaving(contacts, left) = &mut job.stage {
            let lock = job.lock.clone()?;
            while let Some(contact) = contacts.last() {
                let told = Told::default();
                if core.leave(now, &lock, contact, teller(&told)).is_some() {
                    let contact = contact.clone();
                    self.world.load(&contact);
                    return Some(true);
                }
                left.push(told);
                contacts.pop();
            }
            if left.iter().any(|told| told.lock().is_none()) {
                return Some(false);
            }
            if left.iter().any(|told| *told.lock() == Some(false)) {
                let name = self.bare(account);
                self.note(|| format!("what contacts hold of {name} could not be ended"));
                core.stop_removal(&lock);
                return None;
            }
            job.stage = Stage::Deleting;
            let done = teller(&job.told);
            core.delete_user(now, &lock, done);
            return Some(true);
        }
        let Some(stored) = job.told.lock().take() else { return Some(false) };
        let name = self.bare(account);
        if !stored {
            self.note(|| format!("it could not be stored: {order:?} {name}"));
            self.refused(at);
            return None;
        }
        let job = &mut self.jobs[at];
        if let (Stage::Begun, Some(lock)) = (&job.stage, job.lock.clone()) {
            job.stage = Stage::Leaving(core.contacts(&lock), Vec::new());
            self.names[account].half_removed = true;
            self.note(|| format!("the removal of {name} has begun"));
            return Some(true);
        }
        if let Stage::Deleting = job.stage {
            core.forget_directed(&name.parse().expect("an address"));
            self.note(|| format!("{name} is removed"));
            self.nobody_holds_anything_of(account);
        } else {
            self.note(|| format!("done: {order:?} {name}"));
        }
        self.obeyed += 1;
        None
    }
}
