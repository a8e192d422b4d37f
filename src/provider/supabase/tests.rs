//! The provider against a small loopback server.
