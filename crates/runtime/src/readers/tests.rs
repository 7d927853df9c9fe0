use std::num::NonZeroUsize;
use std::sync::mpsc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use vorpal_core::session::inquiries::reply;
use vorpal_core::store::Backend;
use vorpal_proto::element::el;
use vorpal_proto::ns;
use vorpal_store::memory::{Disk, Memory};

use super::*;

type Answer = JoinHandle<Result<Found, ReadError>>;

fn readers(count: usize, questions: usize) -> Readers {
    let store = Memory::open(&Disk::new()).expect("a store");
    let count = NonZeroUsize::new(count).expect("some");
    Readers::new(readers::Readers::open(count, || store.reader()).expect("readers"), count.get(), questions)
}

fn account(name: &str) -> BareJid {
    BareJid::parse(&format!("{name}@x.example")).expect("an address")
}

/// Questions that tell when they begin, and end when they are let go.
struct Slow {
    readers: Readers,
    begin: tokio::sync::mpsc::UnboundedSender<String>,
    begun: UnboundedReceiver<String>,
}

impl Slow {
    fn new(readers: Readers) -> Slow {
        let (begin, begun) = unbounded_channel();
        Slow { readers, begin, begun }
    }

    /// It ends when what is returned is dropped.
    async fn ask(&self, of: &str, name: &str) -> (mpsc::Sender<()>, Answer) {
        let (go, wait) = mpsc::channel();
        let (readers, of, begin, name) = (self.readers.clone(), account(of), self.begin.clone(), name.to_owned());
        let question: DueJob = Box::new(move |_| {
            begin.send(name).expect("the test goes on");
            let _ = wait.recv();
            Ok(Found { messages: Vec::new(), reply: reply(el("fin", ns::MAM)) })
        });
        let answer = tokio::spawn(async move { readers.question(&of, question).await });
        // It takes its place now.
        tokio::task::yield_now().await;
        (go, answer)
    }

    async fn begun(&mut self) -> String {
        self.begun.recv().await.expect("a question begins")
    }
}

#[tokio::test]
async fn an_account_has_one_question_read_at_a_time_and_another_gets_its_turn() {
    let mut slow = Slow::new(readers(3, 2));
    let mut asked = Vec::new();
    for n in 0..MAX_QUESTIONS {
        asked.push(slow.ask("romeo", &format!("romeo {n}")).await);
    }
    assert_eq!(slow.begun().await, "romeo 0");
    let (done, answer) = slow.ask("juliet", "juliet").await;
    assert_eq!(slow.begun().await, "juliet");
    drop(done);
    assert!(answer.await.expect("no panic").is_ok());
    assert!(slow.begun.try_recv().is_err(), "another one of romeo's is read");
    for (n, (done, answer)) in asked.into_iter().enumerate() {
        drop(done);
        assert!(answer.await.expect("no panic").is_ok());
        if n + 1 < MAX_QUESTIONS {
            assert_eq!(slow.begun().await, format!("romeo {}", n + 1));
        }
    }
    assert!(slow.readers.lines.0.lock().is_empty());
}

#[tokio::test]
async fn an_account_is_loaded_and_others_get_their_turn_while_one_account_has_all_it_can() {
    let mut slow = Slow::new(readers(2, 1));
    let (first, _) = slow.ask("romeo", "romeo 0").await;
    let (second, _) = slow.ask("romeo", "romeo 1").await;
    assert_eq!(slow.begun().await, "romeo 0");
    let (_juliet, _) = slow.ask("juliet", "juliet").await;
    // All that questions may have is taken.
    assert_eq!(slow.readers.read(|_| Ok(7)).await.expect("a read"), 7);
    assert!(slow.begun.try_recv().is_err());
    drop(first);
    assert_eq!(slow.begun().await, "juliet", "before the next one of romeo");
    drop(second);
}

#[tokio::test]
async fn a_question_too_many_is_put_off_and_one_nobody_waits_for_is_not_read() {
    let mut slow = Slow::new(readers(2, 1));
    let mut asked = Vec::new();
    for n in 0..MAX_QUESTIONS {
        asked.push(slow.ask("romeo", &n.to_string()).await);
    }
    let (_, refused) = slow.ask("romeo", "one too many").await;
    assert!(matches!(refused.await.expect("no panic"), Err(ReadError::Told(_))));
    assert_eq!(slow.begun().await, "0");
    for (_, answer) in &asked[1..] {
        answer.abort();
    }
    let (last, answer) = loop {
        // Until they have left the line.
        tokio::task::yield_now().await;
        if slow.readers.lines.0.lock()[&account("romeo")].length == 1 {
            break slow.ask("romeo", "last").await;
        }
    };
    // One that is read is read to its end, and keeps its place until then.
    asked[0].1.abort();
    tokio::task::yield_now().await;
    assert!(slow.begun.try_recv().is_err());
    drop(asked);
    assert_eq!(slow.begun().await, "last");
    drop(last);
    assert!(answer.await.expect("no panic").is_ok());
    assert!(slow.readers.lines.0.lock().is_empty());
}

#[tokio::test]
async fn a_question_that_panics_holds_nobody_up() {
    let readers = readers(1, 1);
    let panicked = readers.question(&account("romeo"), Box::new(|_| panic!("on purpose"))).await;
    assert!(matches!(panicked, Err(ReadError::Store(StoreError::Closed))));
    let mut slow = Slow::new(readers);
    let (done, answer) = slow.ask("romeo", "next").await;
    assert_eq!(slow.begun().await, "next");
    drop(done);
    assert!(answer.await.expect("no panic").is_ok());
}
