//! Time and allocations of every small piece of work in `tandem_benches::cases`.

use divan::{AllocProfiler, Bencher};
use tandem_benches::cases;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = cases::NAMES)]
fn case(bencher: Bencher, name: &str) {
    bencher.bench_local(cases::prepare(name));
}
