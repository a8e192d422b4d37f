//! What providers know of PostgreSQL's SQL without a server: where a statement ends, how values are written, what
//! error codes mean.

pub(super) mod sqlstate;
pub(super) mod statement;
pub(super) mod values;
