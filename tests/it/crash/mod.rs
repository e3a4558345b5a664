//! Processes that end, and answers that are lost, at every call to the standby: whoever comes next
//! brings it to where it would be.

mod databases;
mod leases;
mod ledgers;
mod primary;
mod process;
mod requests;
mod stream;
mod way;

use std::time::Duration;

use way::Way;

/// Nothing takes so long, in the time of the tests.
const STUCK: Duration = Duration::from_secs(24 * 3600);
/// More processes than any run needs.
const PROCESSES_MAX: u64 = 20;

/// Lets processes live one after the other until one is through; how many there were.
async fn until_through(way: &Way, run: &str, live: impl AsyncFn(&Way, u64)) -> u64 {
    for number in 1..PROCESSES_MAX {
        let one = way.of_another();
        let dead = one.dead();
        let living = async {
            tokio::select! {
                () = live(&one, number) => true,
                () = dead.cancelled() => false,
            }
        };
        let is_through = tokio::time::timeout(STUCK, living).await;
        if is_through.unwrap_or_else(|_| panic!("{run}: process {number} is stuck")) {
            return number;
        }
        // What is left of it ends, and the next one is there soon.
        dead.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{run}: it never ends");
}
