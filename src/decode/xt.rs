//! Matches and targets of x_tables, whichever back-end carries them.

use crate::facts::{Family, XtMatch, XtTarget};

/// A match or a target as the kernel gives it: name, revision, and the structure of both.
#[derive(Debug, Clone, Copy)]
pub struct Extension<'a> {
    pub name: &'a [u8],
    pub revision: u8,
    pub info: &'a [u8],
}

pub fn r#match(_family: Option<Family>, extension: &Extension<'_>) -> XtMatch {
    XtMatch::Unknown { name: String::from_utf8_lossy(extension.name).into_owned() }
}

pub fn target(_family: Option<Family>, extension: &Extension<'_>) -> XtTarget {
    XtTarget::Unknown { name: String::from_utf8_lossy(extension.name).into_owned() }
}
