//! A part of the server that ends by a panic ends the server, so that the service manager starts another one.

#![expect(clippy::disallowed_methods, reason = "a real process, in real time")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vorpal::control;
use vorpal::orders::Order;
use vorpal::{Program, serve_on};
use vorpal_config::Config;
use vorpal_core::store::{
    Backend, Batch, EntryId, Loading, MapId, Millis, Outcome, Owner, Probe, Reader, Result, Stale,
};
use vorpal_store::sqlite::{Options, Sqlite};

/// A store whose next commit panics once it is armed.
struct Faulty {
    inner: Sqlite,
    armed: Arc<AtomicBool>,
}

impl Backend for Faulty {
    fn map(&mut self, name: &str, loading: Loading) -> Result<MapId> {
        self.inner.map(name, loading)
    }

    fn last_id(&self) -> EntryId {
        self.inner.last_id()
    }

    fn next_owner(&self) -> Owner {
        self.inner.next_owner()
    }

    fn apply(&mut self, group: &[Batch], stale: &mut Stale) -> Vec<Outcome> {
        assert!(!self.armed.load(Ordering::SeqCst), "on purpose: a commit");
        self.inner.apply(group, stale)
    }

    fn idle(&mut self, now: Millis, busy: bool) -> Result<bool> {
        self.inner.idle(now, busy)
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        self.inner.reader()
    }

    fn probe(&self) -> Option<Probe> {
        self.inner.probe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_panics_ends_the_server_with_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "data = \"data\"\n[listen]\nc2s = [\"127.0.0.1:0\"]\nc2s_tls = []\n".to_owned();
    let config = Config::read(&folder.path().join("vorpal.toml"), text, [], &Program::VORPAL.known()).expect("read");
    let armed = Arc::new(AtomicBool::new(false));
    let inner = Sqlite::open(&config.data, Options::default()).expect("a store");
    let backend = Box::new(Faulty { inner, armed: armed.clone() });
    let socket = config.admin.to_path_buf();
    let server = tokio::spawn(serve_on(backend, config, None, Program::VORPAL));
    while !answers(&socket).await {
        assert!(!server.is_finished(), "the server ends before it is told to");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    armed.store(true, Ordering::SeqCst);
    let add = Order::UserAdd { jid: "a@localhost".into(), password: "secret".to_owned().into() };
    let asked = tokio::spawn({
        let socket = socket.clone();
        async move { control::order(&socket, &add).await }
    });
    let served = tokio::time::timeout(Duration::from_secs(60), server).await.expect("the server ends");
    let error = served.expect("no panic of its own").expect_err("an error").to_string();
    assert_eq!(error, "the store's writer has ended");
    assert!(!socket.exists(), "nobody is led to a server that is gone");
    asked.abort();
}

async fn answers(socket: &Path) -> bool {
    control::order(socket, &Order::Status).await.is_ok()
}
