//! The reader of databases: on files that real members wrote, on files made here in many shapes, and
//! on damaged ones.

mod build;
mod damage;
mod dump;
mod fixtures;
mod history;
mod judge;
mod real;
mod shapes;
