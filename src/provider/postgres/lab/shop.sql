begin;

create table customers (
    id      bigint generated always as identity primary key,
    name    text not null,
    email   text not null unique,
    country text not null default 'SE'
);

create table orders (
    id          bigint generated always as identity primary key,
    customer_id bigint not null references customers,
    status      text not null default 'paid' check (status in ('paid', 'sent', 'returned')),
    total       numeric(10, 2) not null,
    placed_at   timestamptz not null default now()
);

create index on orders (customer_id);

create table order_items (
    order_id bigint not null references orders,
    line     int not null,
    product  text not null,
    quantity int not null check (quantity > 0),
    price    numeric(10, 2) not null,
    primary key (order_id, line)
);

-- Every shop assistant sees the notes of one country only.
create table notes (
    id      bigint generated always as identity primary key,
    country text not null,
    note    text not null
);

alter table notes enable row level security;
alter table notes force row level security;
create policy notes_of_own_country on notes using (country = current_setting('shop.country', true));

insert into customers (name, email, country)
select 'Customer ' || n, 'customer' || n || '@example.org', (array['SE', 'DE', 'NL', 'ES'])[1 + n % 4]
from generate_series(1, 60) n;

insert into orders (customer_id, status, total, placed_at)
select 1 + n % 60, (array['paid', 'sent', 'sent', 'returned'])[1 + n % 4], (n % 90) + 9.5,
       now() - interval '1 hour' * (400 - n)
from generate_series(1, 400) n;

insert into order_items (order_id, line, product, quantity, price)
select o.id, line, 'Product ' || (o.id + line) % 25, 1 + (o.id + line) % 3, 4.75
from orders o, generate_series(1, 2) line;

insert into notes (country, note)
select (array['SE', 'DE', 'NL', 'ES'])[1 + n % 4], 'Note ' || n from generate_series(1, 20) n;

commit;
