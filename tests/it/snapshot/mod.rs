//! The reader of databases: on files that real members wrote, on files made here in many shapes, and
//! on damaged ones.

pub(crate) mod build;
mod damage;
mod dump;
mod fixtures;
pub(crate) mod history;
pub(crate) mod judge;
mod real;
mod shapes;
