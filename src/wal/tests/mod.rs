//! Logs that are put together record by record.

mod build;
mod ends;
mod logs;
mod vectors;
