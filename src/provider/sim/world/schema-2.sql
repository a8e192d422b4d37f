-- What the second version of the format added.

-- What is on or off and since when: `power`, `ssl`, and when the ranges were changed last.
create table switches (
    name text primary key,
    value text not null,
    since integer not null
) strict;

create table schedules (
    id text primary key,
    every text not null,
    at text not null,
    keep_days integer,
    -- When the next backup of it is complete.
    finish_at integer not null,
    key text
) strict;

-- Backups that a schedule took, and until when they are kept.
create table kept (
    backup text primary key,
    until integer not null
) strict;

create table replicas (
    id text primary key,
    region text,
    status text not null,
    created_at integer not null,
    key text
) strict;

-- Overrides as JSON: what is asked for, and what the server has taken up. They differ while a restart is waited for.
create table settings (
    name text primary key,
    wanted text not null,
    held text not null
) strict;

create table ranges (
    cidr text primary key,
    since integer not null
) strict;

create table bans (
    address text primary key
) strict;
