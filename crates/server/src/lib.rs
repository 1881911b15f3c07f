//! Library of the shell.
