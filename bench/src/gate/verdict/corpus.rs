//! Recordings, and what is decided on them: a change of the statistics shows here what it would have decided.
