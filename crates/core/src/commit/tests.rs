use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use vorpal_proto::datetime::Timestamp;
use vorpal_proto::jid::BareJid;

use super::*;
use crate::bounds::Bounds;
use crate::core::turn::Locked;
use crate::core::{Core, core_names};
use crate::module::host::Host;
use crate::module::registry::Registry;
use crate::owner::account::{Account, AccountLock, AccountRef};
use crate::owner::cursor::LogState;
use crate::owner::stanza_id::IdKey;
use crate::owner::state::States;
use crate::owner::words::{Say, Words};
use crate::session::Session;
use crate::session::ledger::Pending;
use crate::store::Outcome;
use crate::store::{Batch, BatchId, EntryId, Expect, Ids, Journal, MapId, Owner, StoreError};

/// A queue that commits nothing by itself.
#[derive(Default)]
struct Queue {
    next: AtomicU64,
    batches: Mutex<Vec<Batch>>,
    reloaded: Mutex<Vec<Owner>>,
}

struct Numbers<'a>(&'a AtomicU64, BatchId);

impl Ids for Numbers<'_> {
    fn entry(&mut self) -> EntryId {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn owner(&mut self) -> Owner {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    fn batch(&self) -> BatchId {
        self.1
    }
}

impl Journal for Queue {
    fn submit(&self, _: Timestamp, build: &mut dyn FnMut(&mut dyn Ids) -> Batch) -> bool {
        let id = BatchId(self.next.fetch_add(1, Ordering::Relaxed));
        self.batches.lock().push(build(&mut Numbers(&self.next, id)));
        true
    }

    fn reloaded(&self, owner: Owner) {
        self.reloaded.lock().push(owner);
    }

    fn is_full(&self) -> bool {
        false
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const MAP: MapId = MapId(0x4001);

struct World {
    core: Core,
    queue: Arc<Queue>,
    lock: AccountRef,
    session: Arc<Session>,
}

/// An account with a session that can be resumed and has sent one stanza.
fn world() -> World {
    let queue = Arc::new(Queue::default());
    let names = core_names();
    let numbers = AtomicU64::new(1);
    names.bind(|_, _| Ok::<_, StoreError>(MapId(numbers.fetch_add(1, Ordering::Relaxed) as u16))).expect("tables");
    let registry = Registry::build(std::iter::empty(), names.clone(), |_| None).expect("no modules");
    let core = Core::new(queue.clone(), names, MAP, [7; 32], Box::new(|bytes| bytes.fill(3)), NOW);
    let jid: BareJid = "romeo@x".parse().expect("an address");
    let full = jid.as_jid().with_resource("orchard").expect("an address");
    let session = Arc::new(Session::new(7, full, &Bounds::default()));
    {
        let mut stream = session.stream();
        stream.manage(Some("token".to_owned()), 1_000, 0);
        let Pending(n) = stream.enter(100);
        stream.progress_rows(MAP, 7, n, &mut Vec::new());
    }
    let account = Account {
        jid: jid.clone(),
        owner: 1,
        host: Arc::new(Host::new(&BareJid::of_domain("x").expect("a host"), registry)),
        disabled: false,
        stored_disabled: false,
        deleted: false,
        leaving: false,
        sessions: [session.clone()].into_iter().collect(),
        states: States::new(core.names.tables.lock().clone()),
        ids: IdKey::new(&[7; 32], 1),
        waiting: Default::default(),
        log: LogState::default(),
        dirty: false,
        doomed: None,
        troubled: false,
        unsaved: false,
        revocations: 0,
        requests: None,
        company: None,
        gone: Vec::new(),
    };
    World { core, queue, lock: AccountLock::new(account), session }
}

impl World {
    /// Submits a write of the account, and says in the list what became of it.
    fn submit(&self, write: Write, told: &Arc<Mutex<Vec<(u8, bool)>>>, as_what: u8) -> BatchId {
        let told = told.clone();
        let words = Words::of_says([Say::Notice(Box::new(move |done| told.lock().push((as_what, done))))]);
        self.core.turn(NOW, |turn| {
            turn.finish_one(&mut Locked::new(&self.lock, &mut self.lock.lock()), words, None, vec![write]);
        });
        self.queue.batches.lock().last().expect("a batch").id
    }
}

fn requires() -> Write {
    Write::Require { map: MAP, owner: 1, key: Bytes::from_static(b"k"), expect: Expect::Absent }
}

fn puts() -> Write {
    Write::Put { map: MAP, owner: 1, key: Bytes::from_static(b"k"), row: None }
}

#[test]
fn a_refusal_concerns_its_batch_alone() {
    let world = world();
    let told = Arc::default();
    let refused = world.submit(requires(), &told, 1);
    let behind = world.submit(puts(), &told, 2);
    world.core.complete(NOW, [(refused, Outcome::Refused { write: 0 })]);
    {
        let account = world.lock.lock();
        assert_eq!((account.doomed, account.unsaved, account.troubled), (None, false, false));
    }
    assert_eq!(world.session.stream().ledger().submitted(), 1, "the rows of its sessions are as they were");
    assert!(world.queue.reloaded.lock().is_empty());
    let after = world.submit(puts(), &told, 3);
    world.core.complete(NOW, [(behind, Outcome::Committed), (after, Outcome::Committed)]);
    assert_eq!(*told.lock(), [(1, false), (2, true), (3, true)]);
}

#[test]
fn a_failure_takes_what_is_behind_it() {
    let world = world();
    let told = Arc::default();
    let failed = world.submit(puts(), &told, 1);
    let behind = world.submit(puts(), &told, 2);
    world.core.complete(NOW, [(failed, Outcome::Failed(StoreError::Full))]);
    {
        let account = world.lock.lock();
        assert!(account.doomed.is_some_and(|(last, _)| last == behind) && account.unsaved && account.troubled);
    }
    assert_eq!(world.session.stream().ledger().submitted(), 0);
    assert_eq!(*world.queue.reloaded.lock(), [1]);
}
