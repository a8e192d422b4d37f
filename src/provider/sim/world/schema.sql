-- Times are microseconds since 1970, places in the log are numbers that only grow; both are the same for all branches.
create table world (
    id text not null,
    text text not null,
    made_at integer not null,
    clock_offset integer not null default 0,
    lsn integer not null,
    xid integer not null
) strict;

-- What was asked of the world and took effect, in order.
create table effects (
    seq integer primary key autoincrement,
    key text unique,
    kind text not null,
    what text not null,
    at integer not null,
    answer text not null
) strict;

-- A line of history: the target's first one, one more for each restore in place, one for each branch.
create table lines (
    id integer primary key,
    branch text,
    number integer not null,
    parent integer references lines (id),
    fork integer,
    start integer not null,
    begun_at integer not null,
    ended_at integer
) strict;

create table history (
    lsn integer primary key,
    xid integer not null unique,
    line integer not null references lines (id),
    at integer not null,
    sql text not null,
    event text,
    object text
) strict;
create index history_of_line on history (line, lsn);

create table marks (
    name text primary key,
    line integer not null references lines (id),
    lsn integer not null,
    at integer not null,
    key text
) strict;

create table backups (
    id text primary key,
    label text,
    line integer not null references lines (id),
    stop integer not null,
    digest text not null,
    bytes integer not null,
    status text not null,
    started_at integer not null,
    finished_at integer,
    key text
) strict;

create table branches (
    id text primary key,
    name text not null unique,
    line integer not null references lines (id),
    status text not null,
    created_at integer not null,
    backup text not null,
    reached integer,
    temporary integer not null,
    run text,
    key text
) strict;

create table jobs (
    id text primary key,
    kind text not null,
    subject text not null,
    state text not null,
    started_at integer not null,
    ends_at integer not null,
    bytes integer not null,
    detail text not null,
    value text
) strict;
