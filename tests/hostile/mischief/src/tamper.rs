//! Changes to an answer on its way from the SDK to the host: what the SDK would never let through.
//!
//! Arranged from inside the call whose answer it is; applied once, by `export!`.

use std::cell::{Cell, RefCell};

use rollcage_sdk::raw::{Spec, View};

type Change<T> = Option<Box<dyn FnOnce(&mut T)>>;

thread_local! {
    static SPEC: RefCell<Change<Spec>> = const { RefCell::new(None) };
    static VIEW: RefCell<Change<View>> = const { RefCell::new(None) };
    static END: Cell<bool> = const { Cell::new(false) };
    static TEXT: RefCell<Change<String>> = const { RefCell::new(None) };
}

/// Changes the spec, from inside `create`.
pub fn spec(change: impl FnOnce(&mut Spec) + 'static) {
    SPEC.set(Some(Box::new(change)));
}

/// Changes the view, from inside `reset` or `step`.
pub fn view(change: impl FnOnce(&mut View) + 'static) {
    VIEW.set(Some(Box::new(change)));
}

/// Changes the JSON text, from inside `call` or `get_attribute`.
pub fn text(change: impl FnOnce(&mut String) + 'static) {
    TEXT.set(Some(Box::new(change)));
}

/// Ends the episode behind the SDK's back, from inside `step`: it answers the next step too.
pub fn end() {
    END.set(true);
}

#[doc(hidden)]
pub fn apply_to_end(terminated: bool) -> bool {
    END.take() || terminated
}

#[doc(hidden)]
pub fn apply_to_spec(mut spec: Spec) -> Spec {
    if let Some(change) = SPEC.take() {
        change(&mut spec);
    }
    spec
}

#[doc(hidden)]
pub fn apply_to_view(mut view: View) -> View {
    if let Some(change) = VIEW.take() {
        change(&mut view);
    }
    view
}

#[doc(hidden)]
pub fn apply_to_text(mut text: String) -> String {
    if let Some(change) = TEXT.take() {
        change(&mut text);
    }
    text
}
