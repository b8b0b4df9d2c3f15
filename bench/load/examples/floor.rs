//! A target without any storage behind it, to measure what the generator itself costs:
//!
//! ```text
//! taskset -c 0 cargo run --release -p kagami-bench --example floor -- 127.0.0.1:13270 &
//! kagami-bench load iscsi://127.0.0.1:13270/iqn.2026-11.io.kagami:fake/0 --core 1
//! ```
#![allow(missing_docs, dead_code)]

#[path = "../tests/fake/mod.rs"]
mod fake;

fn main() {
    let place = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:13270".to_owned());
    let target = fake::FakeTarget::start_at(&place, 1 << 16, 512);
    target.disk.lock().unwrap().null = std::env::args().nth(2).is_none_or(|word| word != "ram");
    println!("{}", target.url());
    loop {
        std::thread::park();
    }
}
