//! Errors that the product logs while a run is on: each is a violation, for an error is never logged in vain.
//!
//! It watches the thread it was begun on, so that runs on other threads do not mix in, and takes nothing below ERROR.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Watches this thread's log until it is dropped.
pub fn begin() -> DefaultGuard {
    LOGGED.with_borrow_mut(Vec::clear);
    tracing::subscriber::set_default(Watch)
}

/// The errors logged since the last call.
pub fn take() -> Vec<String> {
    LOGGED.with_borrow_mut(std::mem::take)
}

struct Watch;

impl Subscriber for Watch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        LOGGED.with_borrow_mut(|logged| logged.push(line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_are_kept_and_nothing_else() {
        let guard = super::begin();
        tracing::warn!("a warning");
        tracing::error!(call = 7, "the product is at fault");
        let logged = super::take();
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(logged[0].contains("call=7") && logged[0].contains("at fault"));
        drop(guard);
        tracing::error!("nobody watches");
        assert!(super::take().is_empty());
    }
}
