//! The program as a person and a script meet it: arguments in, text and exit status out. Nothing here changes the host.

mod common;
mod explain;
mod manuals;
mod policy;
mod words;
