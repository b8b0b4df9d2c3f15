//! Tests of operations in several parts.
