//! Who asks for a change: carried with a request through every task that works on it, so that the store can write
//! down who it was without every function between having to hand it on.
//!
//! Refuses to decide anything: what the actor may do is the API's.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

tokio::task_local! {
    static ACTOR: Arc<Actor>;
}

/// The key that a request came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The account it opens.
    pub account: String,
    /// The key's first characters; never the key.
    pub key: String,
}

/// A request, as far as it matters who made it.
#[derive(Debug)]
pub struct Actor {
    /// Identifier of the request, the client's own if it sent one.
    pub request_id: String,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// HTTP method; empty for the command line.
    pub method: String,
    /// Route, not path.
    pub route: String,
    who: OnceLock<Who>,
    is_audited: AtomicBool,
}

impl Actor {
    /// A request whose key is not known yet.
    pub fn new(request_id: String, address: Option<IpAddr>, method: String, route: String) -> Self {
        Self { request_id, address, method, route, who: OnceLock::new(), is_audited: AtomicBool::new(false) }
    }

    /// Whoever has the machine's command line.
    pub fn command_line(command: &str) -> Self {
        let actor = Self::new(String::new(), None, String::new(), command.to_owned());
        actor.identify(Who { account: String::new(), key: "cli".to_owned() });
        actor
    }

    /// Says whose key it is. The first word counts.
    pub fn identify(&self, who: Who) {
        // A request has one key; saying it twice changes nothing.
        let _ = self.who.set(who);
    }

    /// Whose key it is, once that is known.
    pub fn who(&self) -> Option<&Who> {
        self.who.get()
    }

    /// A change of this request is in the audit log.
    pub fn note_audited(&self) {
        self.is_audited.store(true, Ordering::Relaxed);
    }

    /// Whether a change of this request is in the audit log.
    pub fn is_audited(&self) -> bool {
        self.is_audited.load(Ordering::Relaxed)
    }
}

/// Who asks for what this task does; `None` when it is the node itself.
pub fn current() -> Option<Arc<Actor>> {
    ACTOR.try_with(Arc::clone).ok()
}

/// Does `work` in the name of `actor`.
pub async fn on_behalf<F: Future>(actor: Option<Arc<Actor>>, work: F) -> F::Output {
    match actor {
        Some(actor) => ACTOR.scope(actor, work).await,
        None => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawned_task_has_the_actor_it_is_given() {
        assert!(current().is_none());
        let actor = Arc::new(Actor::command_line("key create"));
        on_behalf(Some(actor), async {
            let own = current();
            assert_eq!(own.as_ref().and_then(|actor| actor.who().cloned()).unwrap().key, "cli");
            let bare = tokio::spawn(async { current().is_none() }).await.unwrap();
            assert!(bare, "a task of its own has none by itself");
            let given = tokio::spawn(on_behalf(own, async { current().is_some() })).await.unwrap();
            assert!(given);
        })
        .await;
    }
}
