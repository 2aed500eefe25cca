//! An allocator that counts what the threads of a pass allocate, and not what those of the store do.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hk_aws::bucket::{Credentials, Pace};
use hk_aws::config::Config;
use hk_aws::ingest::{PassEvent, PassMode, pass};

use crate::s3::{ACCESS_KEY, SECRET_KEY};
use crate::site::Site;

/// What was allocated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocated {
    /// How often.
    pub(crate) count: u64,
    /// How many bytes together, given back or not.
    pub(crate) bytes: u64,
}

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is one of the pass.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn see(bytes: usize) {
        // A thread that ends may allocate when its own values are gone.
        if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::Relaxed);
            BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "an allocator cannot be written without it; each call goes to the system's as it came")]
// SAFETY: everything is done by `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::see(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::see(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::see(bytes);
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Stores the site's pictures in this process; returns what that allocated, the site's own start included.
pub(crate) fn of_a_pass(site: &Site) -> Allocated {
    let config = Arc::new(Config::load(&site.config()).unwrap());
    let before = seen();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| IS_COUNTED.set(true))
        .build()
        .unwrap();
    // On a thread of the runtime: this one is not counted.
    let stored = runtime.block_on(runtime.spawn(async move {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "cost");
        let pace = Pace::new(hk_aws::daemon::now);
        let site = hk_aws::site::Site::new(config, Some(credentials), pace, hk_aws::daemon::now).await;
        let mut stored = 0;
        let tell = |event| {
            stored += usize::from(matches!(event, PassEvent::Done { outcome: Ok(_), .. }));
            std::ops::ControlFlow::Continue(())
        };
        pass(&Arc::new(site), Vec::new(), PassMode::Upload, tell).await.unwrap();
        stored
    }));
    drop(runtime);
    assert_eq!(stored.unwrap(), site.objects());
    let Allocated { count, bytes } = seen();
    Allocated { count: count - before.count, bytes: bytes - before.bytes }
}

fn seen() -> Allocated {
    Allocated { count: COUNT.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
}
