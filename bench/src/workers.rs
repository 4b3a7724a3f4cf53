//! One function over many items, on all processors, results in the order of the items.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::progress::Progress;

/// `work` of every item; none for those that it was not asked for any more. The bar shows the `name` of what is done. A
/// panic of `work` is the caller's.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    name: impl Fn(&T) -> String,
    is_wanted: impl Fn() -> bool + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    // Relaxed suffices: the counter only hands out indices, results travel through the channel.
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..available.min(items.len()) {
            let sender = sender.clone();
            let (next, work, is_wanted) = (&next, &work, &is_wanted);
            scope.spawn(move || {
                while is_wanted() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    if sender.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        // The loop below ends when the last worker has dropped its sender.
        drop(sender);
        let progress = Progress::new(items.len());
        for (done, (index, result)) in receiver.iter().enumerate() {
            progress.step(done as u64 + 1, &name(&items[index]));
            results[index] = Some(result);
        }
        progress.finish();
    });
    results
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slow(item: &u64) -> u64 {
        thread::sleep(Duration::from_micros(200 - item));
        item * 2
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..200).collect();
        let doubled = map(&items, u64::to_string, || true, slow);
        assert_eq!(doubled, items.iter().map(|item| Some(item * 2)).collect::<Vec<_>>());
        assert!(map(&[], u64::to_string, || true, slow).is_empty());
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_done() {
        assert_eq!(map(&[1, 2, 3], u64::to_string, || false, slow), [None, None, None]);
    }
}
