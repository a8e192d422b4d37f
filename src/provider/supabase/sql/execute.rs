//! A change, and how it is known afterwards whether it was committed.
//!
//! A request carries a whole transaction, so its id cannot be learned before it is committed. Instead the transaction
//! leaves a mark that is named after the call's key: an empty large object, which any role may make, with the number
//! of rows in its comment. It is there exactly when the transaction was committed. It is removed when the outcome has
//! been written down.
//!
//! A request that was lost may still arrive. The transaction therefore starts only before a moment on the database's
//! own clock, and holds an advisory lock while it runs: when that moment has passed, nobody holds the lock and there
//! is no mark, it was not committed and never will be.

use super::{Supabase, refused, state, wording};
use crate::{
    base::moment::Span,
    provider::{
        Accept, Code, Error, Result,
        model::{Key, SqlOutcome},
        statement,
    },
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// How long its answer is waited for: the platform's own gateway gives up earlier.
const ANSWER_MAX: Span = Span::seconds(300);
/// How long is waited until the mark is gone, which is nobody's business but ours.
const CLEARED_WITHIN: Span = Span::seconds(5);
/// How often, and how far apart, a transaction is looked for that was not answered: longer than it may start.
const LOOKS: u32 = 24;
const PAUSE: Span = Span::seconds(2);

/// What is written down of a transaction before it is sent.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// Names the lock and the large object.
    number: u32,
    /// When it starts at the latest, in the database's words.
    until: String,
    /// The timeline: a database that was restored since has another past.
    timeline: String,
    /// How many rows it touched, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows_affected: Option<u64>,
}

/// What is seen of a transaction.
enum Sight {
    Committed(u64),
    NotCommitted,
    /// It runs, or may still start.
    Open,
}

/// Runs one statement in a transaction of its own.
///
/// # Errors
/// What the database says; [`Code::Unknown`] when nobody knows whether it was committed.
pub(super) async fn run(
    project: &Supabase,
    sql: &str,
    timeout: Span,
    key: &Key,
    accepted: &dyn Accept,
) -> Result<SqlOutcome> {
    let sql = statement::single(sql)?;
    let mut mark = begin(project, key).await?;
    let statement =
        wording::execute(sql, &key.0, mark.number, object(&mark), &mark.until).ok_or_else(|| {
            Error::new(Code::Invalid, "the statement holds a mark of the call that is to run it")
        })?;
    let body = json!({ "query": statement });
    accepted.accepted(written(&mark)).await?;
    let api = project.api.within(timeout.min(ANSWER_MAX));
    let sight = match api.send(Method::POST, &project.database("query"), Some(&body)).await {
        Ok(_) => wait(project, key, &mark).await?,
        Err(error) if is_certain(&error) => return Err(late(refused(error))),
        Err(error) => match wait(project, key, &mark).await? {
            Sight::NotCommitted => return Err(not_run(error)),
            seen => seen,
        },
    };
    let Sight::Committed(rows_affected) = sight else {
        return Err(Error::new(
            Code::Unknown,
            "the API says that the statement has run, and the database shows no trace of it",
        )
        .hint("look at what the statement should have changed, and decide"));
    };
    mark.rows_affected = Some(rows_affected);
    accepted.accepted(written(&mark)).await?;
    clear(project, &mark).await;
    Ok(SqlOutcome { rows_affected })
}

/// Returns what became of a statement that may have been sent.
///
/// # Errors
/// [`Code::Unknown`] when nobody can know; [`Code::Unavailable`] while it runs.
pub(super) async fn settle(
    project: &Supabase,
    key: &Key,
    accepted: Option<&Value>,
) -> Result<Option<SqlOutcome>> {
    // Nothing is sent before it is accepted.
    let Some(accepted) = accepted else { return Ok(None) };
    let mark: Mark = serde_json::from_value(accepted.clone())
        .map_err(|e| Error::new(Code::Internal, format!("what was recorded is no transaction: {e}")))?;
    if let Some(rows_affected) = mark.rows_affected {
        return Ok(Some(SqlOutcome { rows_affected }));
    }
    // The mark stays: until the outcome is on disk, another resume has to find it.
    match wait(project, key, &mark).await? {
        Sight::Committed(rows_affected) => Ok(Some(SqlOutcome { rows_affected })),
        Sight::NotCommitted | Sight::Open => Ok(None),
    }
}

/// Returns the mark of a transaction that is to start soon.
async fn begin(project: &Supabase, key: &Key) -> Result<Mark> {
    let now = project.answer(&wording::clock()).await?;
    let text = |name: &str| now[name].as_str().map(str::to_owned);
    let (Some(until), Some(timeline)) = (text("until"), text("timeline")) else {
        return Err(Error::new(Code::Unavailable, "the database does not say what time it is there"));
    };
    let digest = Sha256::digest(key.0.as_bytes());
    let number = u32::from_be_bytes([digest[0] & 0x7f, digest[1], digest[2], digest[3]]);
    Ok(Mark { number, until, timeline, rows_affected: None })
}

fn written(mark: &Mark) -> Value {
    json!(mark)
}

/// Returns the large object's oid: above those that people come to.
fn object(mark: &Mark) -> u32 {
    mark.number | 0x8000_0000
}

/// Returns whether an error means that nothing was committed: the platform turned the request away, or the database
/// refused the statement itself. A connection that broke between the two of them says neither.
fn is_certain(error: &Error) -> bool {
    match error.message.split_once(super::SAID) {
        Some((_, said)) => state(said.trim()).is_some_and(|s| !s.starts_with("08") && !s.starts_with("57P")),
        None => !matches!(error.code, Code::Unknown | Code::Refused | Code::Invalid),
    }
}

/// Returns the error of a statement of which it turned out that it was not run.
fn not_run(error: Error) -> Error {
    if error.code != Code::Unknown {
        return refused(error);
    }
    let why = error.message.rsplit_once("took effect: ").map_or(error.message.as_str(), |(_, why)| why);
    Error::new(Code::Unavailable, format!("the statement was not run and nothing was changed: {why}"))
        .hint("it did not reach the database in time, and no longer can: ask again")
}

fn late(error: Error) -> Error {
    if !error.message.contains(wording::TOO_LATE) {
        return error;
    }
    Error::new(
        Code::Unavailable,
        "the statement reached the database too late and was not run, and nothing was changed",
    )
    .hint("the platform is slow: ask again")
}

/// Looks for a transaction until it is known what became of it.
async fn wait(project: &Supabase, key: &Key, mark: &Mark) -> Result<Sight> {
    for look in 0..LOOKS {
        if look > 0 {
            project.clock.sleep(PAUSE).await;
        }
        match see(project, key, mark).await {
            Ok(Sight::Open) => {}
            Err(e) if matches!(e.code, Code::Unavailable | Code::Timeout) && look + 1 < LOOKS => {}
            Ok(seen) => return Ok(seen),
            Err(e) => return Err(unknown(&e.message)),
        }
    }
    Err(unknown("it is still running"))
}

fn unknown(why: &str) -> Error {
    Error::new(Code::Unknown, format!("nobody knows whether the statement was committed: {why}"))
        .hint("ask again when the database answers and the statement is over")
}

/// Looks at a transaction. Whether it can still be on its way is asked first, and whether it left its mark after that:
/// the other way round it could be committed in between.
async fn see(project: &Supabase, key: &Key, mark: &Mark) -> Result<Sight> {
    let now = project.answer(&wording::sight(mark.number, &mark.until)).await?;
    let said = project.answer(&wording::mark(object(mark))).await?;
    if let Some(touched) = said.as_str().and_then(|said| said.strip_prefix(&wording::comment(&key.0))) {
        let rows =
            touched.parse().map_err(|_| Error::new(Code::Internal, format!("`{touched}` is no number")))?;
        return Ok(Sight::Committed(rows));
    }
    if now["timeline"] != mark.timeline.as_str() {
        return Err(Error::new(Code::Unknown, "the database was restored or failed over since"));
    }
    let is_over = now["late"] == true && now["running"] == false;
    Ok(if is_over { Sight::NotCommitted } else { Sight::Open })
}

/// Removes the mark. That it stays is a trifle: an empty large object, whose comment says whose it is.
async fn clear(project: &Supabase, mark: &Mark) {
    let body = json!({ "query": wording::clear(object(mark)) });
    drop(
        project.api.within(CLEARED_WITHIN).send(Method::POST, &project.database("query"), Some(&body)).await,
    );
}
