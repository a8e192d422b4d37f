//! Fills a new world with the environment of its database: schedules, replicas, settings, the network.
//!
//! A world of the first format had none of it, and gets what its text says, which is what every world has that says
//! nothing: on, open, without overrides.

use super::{
    archive::span_to_micros,
    network::on_off,
    schedules::parse_time_of_day,
    store::{WorldTx, store_error},
    switches::{POWER, RANGES, SSL},
    world::WorldSpec,
};
use crate::provider::{Code, Error, Result};
use ipnet::IpNet;
use serde_json::Value;

/// Adds the tables of the second format, and what the world says is in them.
pub(super) fn populate_environment(present: &WorldTx<'_>, world: &WorldSpec) -> Result<()> {
    present.conn.raw_connection().execute_batch(include_str!("schema-2.sql")).map_err(|e| store_error(&e))?;
    // What is there from the start is applied from the start.
    let begun = present.now - span_to_micros(world.apply_duration());
    present.set_switch(POWER, "on", begun)?;
    present.set_switch(SSL, on_off(world.ssl), begun)?;
    present.set_switch(RANGES, "as made", begun)?;
    for schedule in &world.schedules {
        let (id, time) = (schedule.id.get_ref(), parse_time_of_day(schedule.at.get_ref())?);
        present.add_schedule(id, (schedule.every, time), schedule.keep_days, None, present.now)?;
    }
    for replica in &world.replicas {
        present.add_replica(replica.id.get_ref(), replica.region.as_deref(), "ready", None)?;
    }
    for (name, value) in &world.settings {
        present.override_from_start(name.get_ref(), &setting_to_json(value)?)?;
    }
    for text in &world.restrictions {
        present.add_range(&parse_range(text.get_ref())?, begun)?;
    }
    world.bans.iter().try_for_each(|address| present.add_ban(*address.get_ref()))
}

/// Reads a range of addresses.
///
/// # Errors
/// [`Code::Invalid`] when it is none, or has host bits set.
pub(super) fn parse_range(text: &str) -> Result<IpNet> {
    let wrong = |why: &str| Error::new(Code::Invalid, format!("`{text}` {why}"));
    let net: IpNet = text
        .parse()
        .map_err(|_| wrong("is no range of addresses").with_hint("write it as `203.0.113.0/24`"))?;
    if net.trunc() != net {
        return Err(wrong("has host bits set").with_hint(format!("write `{}`", net.trunc())));
    }
    Ok(net)
}

/// Returns the value of a setting.
///
/// # Errors
/// [`Code::Invalid`] when it is a list or a table.
pub(super) fn setting_to_json(value: &toml::Value) -> Result<Value> {
    match value {
        toml::Value::String(text) => Ok(text.as_str().into()),
        toml::Value::Integer(n) => Ok((*n).into()),
        toml::Value::Float(n) => Ok((*n).into()),
        toml::Value::Boolean(b) => Ok((*b).into()),
        _ => Err(Error::new(Code::Invalid, "a setting is text, a number, or true or false")
            .with_hint("write it as `work_mem = \"8MB\"`")),
    }
}
