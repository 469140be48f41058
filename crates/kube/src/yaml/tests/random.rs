//! Whatever the text.
