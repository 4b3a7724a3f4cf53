//! Catches panics with their message and place, without the default report on standard error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs `body`; a panic becomes `Err` of its message and place.
///
/// Nothing of what `body` had borrowed may be relied upon after an `Err`, other than plain values.
pub(super) fn catch<R>(body: impl FnOnce() -> R) -> Result<R, String> {
    // The place of a panic is only known to the hook. This one stays out of the way of all other panics.
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if IS_CATCHING.get() {
                PLACE.set(info.location().map(ToString::to_string));
            } else {
                previous(info);
            }
        }));
    });
    let was_catching = IS_CATCHING.replace(true);
    PLACE.set(None);
    let result = catch_unwind(AssertUnwindSafe(body));
    IS_CATCHING.set(was_catching);
    result.map_err(|payload| match PLACE.take() {
        Some(place) => format!("{} at {place}", message(payload.as_ref())),
        None => message(payload.as_ref()).into(),
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}
