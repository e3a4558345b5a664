//! Cuts a list that shows a fault down to a short one that still shows it.

use anyhow::Result;

/// Removes ever smaller parts as long as `fails` says true of what is left.
///
/// # Errors
/// Those of `fails`.
pub(crate) async fn shrink<T: Clone>(
    whole: &[T],
    mut fails: impl AsyncFnMut(&[T]) -> Result<bool>,
) -> Result<Vec<T>> {
    let mut left = whole.to_vec();
    let mut part = left.len().div_ceil(2);
    while part > 0 {
        let before = left.len();
        let mut from = 0;
        while from < left.len() {
            let to = (from + part).min(left.len());
            let shorter = [&left[..from], &left[to..]].concat();
            if fails(&shorter).await? {
                left = shorter;
            } else {
                from = to;
            }
        }
        if part == 1 && left.len() == before {
            break;
        }
        part = if part == 1 { 1 } else { part / 2 };
    }
    Ok(left)
}
