// The tables of the failpoint tests: every kind of identity, and a transaction that does everything to them.
import type { Client } from "pg";

export const SCHEMA = `
  create table t (id int primary key, n int not null default 0, x text, large text);
  alter table t alter large set storage external;
  insert into t select n, 0, md5(n::text), case when n % 20 = 0 then repeat(md5(n::text), 90) end from generate_series(1, 300) n;
  create table wide (a int not null, b text not null, c timestamptz default now(), primary key (a, b));
  insert into wide select n, 'b' || n from generate_series(1, 300) n;
  create table plain (n int);
  insert into plain select generate_series(1, 50);
  create table parted (id int primary key, x text) partition by range (id);
  create table parted_low partition of parted for values from (minvalue) to (100);
  create table parted_high partition of parted for values from (100) to (maxvalue);
  insert into parted select n, 'p' from generate_series(1, 200) n;
  create table audit (id int, x text);
  alter table audit replica identity full;
  insert into audit select n, 'audit' from generate_series(1, 20) n;`;

/** A transaction of everything: key changes, chains, moves between partitions, untouched TOAST, rows taken and put. */
export async function write(client: Client, step: number): Promise<void> {
  await client.query(`begin;
    update t set n = n + 1 where id % 5 = ${step % 5};
    update t set id = -id where id in (20, -20, ${step % 300}, ${-(step % 300)});
    insert into t (id, x) values (${1000 + step}, 'new');
    savepoint gone; delete from t; truncate wide; rollback to gone;
    delete from wide where a = ${step % 300};
    update wide set a = a + 1000, b = 'moved' where a = ${(step * 7) % 300};
    insert into plain select ${step} from generate_series(1, 3);
    update parted set id = case when id < 100 then id + 10000 else id - 10000 end where id % 7 = ${step % 7};
    insert into audit values (${step}, 'one'), (${step}, 'one');
    update audit set x = x || '!' where id = ${step - 1};
    delete from audit where id = ${step - 2};
    commit`);
}
