//! Threads that watch for work: sharing some takes a third of a microsecond.

#![allow(unsafe_code, reason = "helpers borrow work from the stack of the thread that shares it")]

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How often an idle helper looks before it starts to yield its core, and before it sleeps. A helper that slept between
/// the steps of a small network could come too late to each.
const LOOKS: u32 = 20_000;
const YIELDS: u32 = 10_000;

/// One leader, who shares work, and helpers.
pub(crate) struct Team {
    helpers: usize,
    /// The work that is shared at the moment, or null.
    job: AtomicPtr<Job<'static>>,
    /// How many jobs there have been.
    round: AtomicUsize,
    /// Helpers that may be using `job`.
    active: AtomicUsize,
    /// Whether the team has been dissolved.
    closed: AtomicBool,
    sleeping: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Parts of work, taken one by one by whoever is free: by the leader from the first on, by helpers from the last on, so
/// that a part tends to come to the thread that did it last time and has its numbers in the cache.
struct Job<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    count: usize,
    taken: AtomicUsize,
    by_leader: AtomicUsize,
    by_helpers: AtomicUsize,
    panicked: AtomicBool,
}

thread_local!(static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) });
thread_local!(static INDEX: Cell<usize> = const { Cell::new(0) });

/// How many threads share work that this thread shares.
pub fn thread_count() -> usize {
    let team = TEAM.with_borrow(|team| team.as_ref().map(|team| team.helpers));
    // Of rayon's pool, this thread may be none.
    team.unwrap_or_else(rayon::current_num_threads) + 1
}

/// The number of this thread among those that share work, below [`thread_count`].
pub fn thread_index() -> usize {
    match INDEX.get() {
        0 => rayon::current_thread_index().map_or(0, |index| index + 1),
        helper => helper,
    }
}

impl Job<'_> {
    fn work(&self) {
        let leads = INDEX.get() == 0;
        while self.taken.fetch_add(1, SeqCst) < self.count {
            (self.f)(if leads {
                self.by_leader.fetch_add(1, SeqCst)
            } else {
                self.count - 1 - self.by_helpers.fetch_add(1, SeqCst)
            });
        }
    }
}

impl Team {
    pub(crate) fn new(helpers: usize) -> Arc<Self> {
        Arc::new(Self {
            helpers,
            job: AtomicPtr::new(ptr::null_mut()),
            round: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        })
    }

    /// Runs `work` as the team's leader, then sends the helpers home, also where `work` panics.
    pub(crate) fn lead<R>(team: Arc<Self>, work: impl FnOnce() -> R) -> R {
        struct Leading {
            team: Arc<Team>,
            before: Option<Arc<Team>>,
        }
        impl Drop for Leading {
            fn drop(&mut self) {
                TEAM.set(self.before.take());
                self.team.closed.store(true, SeqCst);
                self.team.wake_all();
            }
        }
        let before = TEAM.replace(Some(team.clone()));
        let _leading = Leading { team, before };
        work()
    }

    /// Does the parts `0..count` with the team that this thread leads. False, and nothing is done, if it leads none.
    pub(crate) fn share(count: usize, f: &(dyn Fn(usize) + Sync)) -> bool {
        let Some(team) = TEAM.with_borrow(Option::clone) else { return false };
        if team.helpers == 0 {
            (0..count).for_each(f);
        } else {
            team.run(count, f);
        }
        true
    }

    fn run(&self, count: usize, f: &(dyn Fn(usize) + Sync)) {
        let zero = || AtomicUsize::new(0);
        let (taken, by_leader, by_helpers) = (zero(), zero(), zero());
        let job = Job { f, count, taken, by_leader, by_helpers, panicked: AtomicBool::new(false) };
        self.job.store(ptr::from_ref(&job).cast_mut().cast(), SeqCst);
        self.round.fetch_add(1, SeqCst);
        if self.sleeping.load(SeqCst) > 0 {
            self.wake_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job.work()));
        // No more parts: those not yet taken are left where this thread's own panicked.
        job.taken.store(count, SeqCst);
        self.job.store(ptr::null_mut(), SeqCst);
        // A helper counts itself in before it reads `job`, so whoever saw this one is counted.
        let mut waits = 0_u32;
        while self.active.load(SeqCst) > 0 {
            pause(&mut waits);
        }
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!job.panicked.load(SeqCst), "work on another thread panicked");
    }

    /// Helps, as the helper of this number, from 1, until the team is dissolved.
    pub(crate) fn help(&self, index: usize) {
        INDEX.set(index);
        let (mut waits, mut seen) = (0, 0);
        while !self.closed.load(SeqCst) {
            let round = self.round.load(SeqCst);
            if round == seen {
                if waits < LOOKS + YIELDS {
                    pause(&mut waits);
                } else {
                    self.sleep(seen);
                    waits = 0;
                }
                continue;
            }
            (waits, seen) = (0, round);
            self.active.fetch_add(1, SeqCst);
            // SAFETY: a job that is there while this thread is counted as active is not taken down before it is
            // counted out again.
            if let Some(job) = unsafe { self.job.load(SeqCst).as_ref() }
                && catch_unwind(AssertUnwindSafe(|| job.work())).is_err()
            {
                job.panicked.store(true, SeqCst);
            }
            self.active.fetch_sub(1, SeqCst);
        }
    }

    /// Sleeps until there is another round than `seen`.
    fn sleep(&self, seen: usize) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleeping.fetch_add(1, SeqCst);
        let idle = |(): &mut ()| self.round.load(SeqCst) == seen && !self.closed.load(SeqCst);
        drop(self.wake.wait_while(guard, idle));
        self.sleeping.fetch_sub(1, SeqCst);
    }

    fn wake_all(&self) {
        drop(self.lock.lock());
        self.wake.notify_all();
    }
}

/// Passes a moment, longer the more there were.
fn pause(waits: &mut u32) {
    if *waits >= LOOKS {
        std::thread::yield_now();
    } else if waits.is_multiple_of(64) {
        // Now and then only: virtual machines may be interrupted for pausing often.
        std::hint::spin_loop();
    }
    *waits = waits.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::parallel::{for_each_part, with_threads};

    fn shared(threads: usize, parts: usize, f: impl Fn(usize) + Sync) {
        with_threads(threads, || assert!(Team::share(parts, &f))).unwrap();
    }

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 3, 8] {
            for parts in [0, 1, 2, 7, 1000] {
                let done: Vec<AtomicU32> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                shared(threads, parts, |part| {
                    done[part].fetch_add(1, SeqCst);
                });
                assert!(done.iter().all(|count| count.load(SeqCst) == 1));
            }
        }
    }

    #[test]
    fn many_jobs_with_pauses_between_them() {
        with_threads(3, || {
            for round in 0..300 {
                let sum = AtomicUsize::new(0);
                assert!(Team::share(10, &|part| {
                    sum.fetch_add(part, SeqCst);
                }));
                assert_eq!(sum.load(SeqCst), 45);
                if round % 100 == 0 {
                    // Long enough for the helpers to fall asleep.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        })
        .unwrap();
    }

    #[test]
    fn what_a_part_shares_in_turn_is_done_by_its_own_thread() {
        let count = AtomicUsize::new(0);
        let inner = || {
            let thread = std::thread::current().id();
            for_each_part(5, usize::MAX, |_| {
                assert_eq!(std::thread::current().id(), thread);
                count.fetch_add(1, SeqCst);
            });
        };
        with_threads(3, || for_each_part(4, usize::MAX, |_| inner())).unwrap();
        for_each_part(4, usize::MAX, |_| inner());
        assert_eq!(count.load(SeqCst), 40);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_ends_nothing_else() {
        for threads in [1, 2] {
            let outcome = catch_unwind(|| shared(threads, 50, |part| assert!(part != 30, "part 30")));
            assert!(outcome.is_err());
            shared(threads, 3, |_| {});
        }
    }
}
