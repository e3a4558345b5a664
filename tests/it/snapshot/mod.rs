//! The reader of databases: on files that real members wrote, on files made here in many shapes, and
//! on damaged ones.

mod build;
mod damage;
mod history;
mod judge;
mod real;
mod shapes;
