use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A stack and what its pages hold. Loom reports two owners of a page at once, and an owner that
/// does not see what the last one wrote.
struct Model {
    nodes: Vec<Node>,
    stack: FreeStack,
    bytes: Vec<UnsafeCell<u32>>,
}

// SAFETY: the cells are accessed by whoever has taken the page, which is what the tests are about.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    fn new(count: u32) -> Arc<Self> {
        let nodes: Vec<Node> = (0..count).map(|_| Node::new()).collect();
        let stack = FreeStack::new(&nodes, (0..count).rev(), 0);
        let bytes = (0..count).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { nodes, stack, bytes })
    }

    fn touch(&self, page: u32) {
        self.bytes[page as usize].with_mut(|bytes| {
            // SAFETY: the caller has taken the page and not given it back.
            unsafe { *bytes += 1 }
        });
    }

    fn pop(&self, floor: u32) -> Option<u32> {
        let page = self.stack.pop(&self.nodes, floor)?;
        self.touch(page);
        Some(page)
    }

    fn pop_many(&self, floor: u32, want: u32) -> Vec<u32> {
        let mut pages = Vec::new();
        self.stack.pop_many(&self.nodes, floor, want, |page| pages.push(page));
        for &page in &pages {
            self.touch(page);
        }
        pages
    }

    fn push(&self, page: u32) {
        self.touch(page);
        self.stack.push(&self.nodes, page);
    }

    /// All pages are there, each once.
    fn check(&self, mut held: Vec<u32>) {
        assert_eq!(self.stack.depth(&self.nodes) as usize, self.nodes.len() - held.len());
        held.extend(self.pop_many(0, u32::MAX));
        held.sort_unstable();
        assert!(held.into_iter().eq(0..u32::try_from(self.nodes.len()).unwrap()));
    }
}

/// The case that a stack without tags gets wrong: one thread holds an old top and its link while
/// another takes two pages and gives the first back.
#[test]
fn a_top_that_left_and_came_back_is_noticed() {
    loom::model(|| {
        let model = Model::new(3);
        let other = model.clone();
        let thread = thread::spawn(move || {
            let first = other.pop(0);
            let second = other.pop(0);
            if let Some(page) = first {
                other.push(page);
            }
            second
        });
        let mine = model.pop(0);
        let theirs = thread.join().unwrap();
        model.check(mine.into_iter().chain(theirs).collect());
    });
}

#[test]
fn two_threads_take_and_give() {
    loom::model(|| {
        let model = Model::new(2);
        let other = model.clone();
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                if let Some(page) = other.pop(0) {
                    other.push(page);
                }
            }
        });
        if let Some(page) = model.pop(0) {
            model.push(page);
        }
        thread.join().unwrap();
        model.check(Vec::new());
    });
}

#[test]
fn batches_are_whole() {
    loom::model(|| {
        let model = Model::new(3);
        let other = model.clone();
        let thread = thread::spawn(move || {
            let page = other.pop(0);
            if let Some(page) = page {
                other.push(page);
            }
        });
        let mine = model.pop_many(0, 2);
        assert_eq!(mine.len(), 2, "there were always two");
        thread.join().unwrap();
        model.check(mine);
    });
}

#[test]
fn batches_go_back_whole() {
    loom::model(|| {
        let model = Model::new(4);
        let mine = model.pop_many(0, 2);
        let other = model.clone();
        let thread = thread::spawn(move || {
            let page = other.pop(0).unwrap();
            other.push(page);
            other.pop(0)
        });
        for &page in &mine {
            model.touch(page);
        }
        model.stack.push_many(&model.nodes, &mine);
        let theirs = thread.join().unwrap();
        assert!(theirs.is_some());
        model.check(theirs.into_iter().collect());
    });
}

/// The reserve is exact: of two threads that would both take the last page above it, one does.
#[test]
fn the_floor_holds_whoever_comes_first() {
    loom::model(|| {
        let model = Model::new(3);
        let other = model.clone();
        let thread = thread::spawn(move || other.pop(2));
        let mine = model.pop_many(2, 2);
        let theirs = thread.join().unwrap();
        assert_eq!(mine.len() + usize::from(theirs.is_some()), 1);
        model.check(mine.into_iter().chain(theirs).collect());
    });
}

/// Nobody is turned away by a depth that was never true: there are always two pages above the floor
/// or one, never none.
#[test]
fn a_refusal_is_never_made_up() {
    loom::model(|| {
        let model = Model::new(3);
        let other = model.clone();
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                let page = other.pop(0).unwrap();
                other.push(page);
            }
        });
        let mine = model.pop(1);
        assert!(mine.is_some());
        thread.join().unwrap();
        model.check(mine.into_iter().collect());
    });
}
