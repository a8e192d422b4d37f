//! Restore points, transactions and places in the WAL: how they are written, and what every provider refuses of them in
//! the same words.

#[cfg(test)]
pub(in crate::provider) mod contract;

use super::{Code, Error, Result, model::RestorePoint};
use crate::base::suggest;
use std::fmt::Display;

/// The longest name of a restore point, in bytes: what PostgreSQL takes.
const NAME_BYTES_MAX: usize = 63;

/// Refuses a text that cannot name a restore point.
///
/// # Errors
/// [`Code::Invalid`].
pub(in crate::provider) fn check_point_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it has {} bytes", name.len())
    } else if name.chars().any(char::is_control) {
        "it has a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(Code::Invalid, format!("`{}` cannot name a restore point: {why}", name.escape_debug()))
        .with_hint(format!("use 1 to {NAME_BYTES_MAX} bytes, without control characters")))
}

/// Parses a transaction id, with or without its epoch.
///
/// # Errors
/// [`Code::Invalid`].
pub(in crate::provider) fn parse_xid(text: &str) -> Result<u64> {
    text.trim().parse().map_err(|_| {
        Error::new(Code::Invalid, format!("`{text}` is no transaction id"))
            .with_hint("write its digits, as `pg_current_xact_id()` does")
    })
}

/// Parses a place in the WAL.
///
/// # Errors
/// [`Code::Invalid`].
pub(in crate::provider) fn parse_lsn(text: &str) -> Result<u64> {
    let part = |digits: &str| {
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).map(u64::from)
    };
    let parts = text.trim().split_once('/').and_then(|(high, low)| part(high).zip(part(low)));
    parts.map(|(high, low)| high << 32 | low).ok_or_else(|| {
        Error::new(Code::Invalid, format!("`{text}` is no place in the WAL"))
            .with_hint("write it as `pg_current_wal_lsn()` does, such as `16/B374D848`")
    })
}

/// Returns the error for making a restore point whose name another one has, which is described in words.
pub(in crate::provider) fn taken_name_error(name: &str, taken: &str) -> Error {
    let message = format!("there is already a restore point `{name}`, {taken}; none was made");
    let error = Error::new(Code::Conflict, message)
        .with_hint("choose another name: of two with one name, nobody could say which is meant");
    Error { retryable: false, ..error }
}

/// Returns the error for a name that several restore points have.
pub(in crate::provider) fn ambiguous_name_error(name: &str, points: &[RestorePoint]) -> Error {
    let is_on_one_timeline = points.windows(2).all(|pair| pair[0].timeline == pair[1].timeline);
    let code = if is_on_one_timeline { Code::Refused } else { Code::AmbiguousTimeline };
    let places: Vec<String> = points.iter().map(describe_place).collect();
    let message = format!("there are {} restore points `{name}`: {}", points.len(), places.join("; "))
        + "; nothing was restored";
    let named = points.iter().find_map(|point| point.lsn.as_ref().zip(point.timeline));
    let hint = named.map_or_else(
        || "give the moment of the one you mean".to_owned(),
        |(lsn, timeline)| {
            format!(
                "give the place of the one you mean, such as `to: #{{ lsn: \"{lsn}\", timeline: {timeline} }}`, \
                 on the command line `--to lsn={lsn},timeline={timeline}`"
            )
        },
    );
    Error::new(code, message).with_hint(hint)
}

/// Returns the error for a name that no restore point has.
pub(in crate::provider) fn unknown_name_error(target: &str, name: &str, known: &[String]) -> Error {
    let hint = match suggest::nearest_name(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "make one with `backup::pitr::mark` beforehand; until then go back to a moment".into(),
    };
    Error::new(Code::NotFound, format!("the history of `{target}` holds no restore point `{name}`"))
        .with_hint(hint)
}

/// Returns the error for a restore point that is not where it is said to be.
pub(in crate::provider) fn unknown_point_error(target: &str, point: &RestorePoint) -> Error {
    let message = format!(
        "the history of `{target}` holds no restore point `{}` {}",
        point.name,
        describe_place(point)
    );
    Error::new(Code::NotFound, message)
        .with_hint("pass what `backup::pitr::mark` returned for this very target, or give its name alone")
}

/// Returns the error for a restore point of a platform that does not say where it is.
pub(in crate::provider) fn placeless_point_error(point: &RestorePoint) -> Error {
    Error::new(Code::Invalid, format!("the restore point `{}` says no place in the WAL", point.name))
        .with_hint("it was made on another kind of target; give a restore point of this one, or a name")
}

/// Returns the error for a transaction whose commit is nowhere.
pub(in crate::provider) fn unknown_transaction_error(target: &str, xid: impl Display) -> Error {
    Error::new(Code::NotFound, format!("the history of `{target}` holds no commit of transaction `{xid}`"))
        .with_hint(
            "`backup::pitr::find` lists drops and truncates with their transactions; one that was rolled back is no \
             target",
        )
}

/// Returns the error for a timeline that the target never was on.
pub(in crate::provider) fn unknown_timeline_error(target: &str, asked: u32, known: &[u32]) -> Error {
    let known: Vec<String> = known.iter().map(u32::to_string).collect();
    Error::new(Code::NotFound, format!("`{target}` has no timeline {asked}"))
        .with_hint(format!("its timelines are {}", known.join(", ")))
}

/// Returns where and when a restore point was made, in words.
pub(in crate::provider) fn describe_place(point: &RestorePoint) -> String {
    let place = match (&point.lsn, point.timeline) {
        (Some(lsn), Some(timeline)) => format!("at {lsn} on timeline {timeline}, "),
        (Some(lsn), None) => format!("at {lsn}, "),
        _ => String::new(),
    };
    format!("{place}of {}", point.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::moment::Moment;

    fn point(lsn: &str, timeline: u32) -> RestorePoint {
        let time = Moment::parse("2026-11-20T03:00:00Z").expect("a moment");
        RestorePoint { name: "weekly".into(), lsn: Some(lsn.into()), timeline: Some(timeline), time }
    }

    #[test]
    fn a_name_is_held_to_what_postgresql_takes() {
        for name in ["x", "before deploy", "é", &"x".repeat(63)] {
            assert_eq!(check_point_name(name), Ok(()), "{name}");
        }
        for name in ["", "a\nb", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
            let error = check_point_name(name).expect_err("no name");
            assert!(error.code == Code::Invalid && error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn places_and_transactions_are_read_strictly() {
        assert_eq!(parse_lsn(" 16/B374D848 "), Ok(0x16_B374_D848));
        assert_eq!(parse_lsn("FFFFFFFF/0"), Ok(0xFFFF_FFFF_0000_0000));
        for wrong in ["", "0", "0/", "/0", "0/+1", "0/-1", "0/1/2", "0/123456789", "x/1"] {
            assert_eq!(parse_lsn(wrong).expect_err("no place").code, Code::Invalid, "{wrong}");
        }
        assert_eq!(parse_xid(" 771 "), Ok(771));
        for wrong in ["", "-1", "x", "7.0"] {
            assert_eq!(parse_xid(wrong).expect_err("no id").code, Code::Invalid, "{wrong}");
        }
    }

    #[test]
    fn every_restore_point_of_a_name_is_shown_with_what_to_type() {
        let error = ambiguous_name_error("weekly", &[point("0/30", 1), point("0/50", 1)]);
        assert_eq!(error.code, Code::Refused);
        assert_eq!(
            error.message,
            "there are 2 restore points `weekly`: at 0/30 on timeline 1, of 2026-11-20T03:00:00Z; at 0/50 on timeline \
             1, of 2026-11-20T03:00:00Z; nothing was restored"
        );
        assert!(error.hint.expect("a hint").contains("#{ lsn: \"0/30\", timeline: 1 }"));
        let forked = ambiguous_name_error("weekly", &[point("0/30", 1), point("0/30", 2)]);
        assert_eq!(forked.code, Code::AmbiguousTimeline);
        let taken = taken_name_error("weekly", &describe_place(&point("0/30", 1)));
        assert_eq!((taken.code, taken.retryable), (Code::Conflict, false));
    }
}
