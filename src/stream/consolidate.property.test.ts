// Random transactions on a model of five tables, as the server would log them: read, consolidated and applied by the rule
// of design.md they must give the model's rows. Relations are sent again with other columns around the mirrored ones,
// also between two changes of a transaction.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  applyNetRows,
  feed,
  lsnOf,
  message,
  netRows,
  sortedRows,
  type TableState,
} from "../../test/support/stream-log.ts";
import { Server, type Statement, statement, tables } from "../../test/support/stream-model.ts";
import { ChangeReader } from "./change-reader.ts";
import { Consolidator } from "./consolidate.ts";
import type { StreamTable } from "./stream-table.ts";

function replay(transactions: readonly (readonly Statement[])[]): void {
  const server = new Server();
  const states = new Map<StreamTable, TableState>(tables.map((table) => [table, new Map()]));
  const consolidator = new Consolidator();
  const reader = new ChangeReader(new Map(tables.map((table) => [table.oid, table])), lsnOf(0), {
    committed: ({ store }) => {
      const rows = netRows(store, consolidator);
      for (const table of tables) {
        const own = rows.filter((row) => row.table === table);
        states.set(table, applyNetRows(table, states.get(table)!, own));
      }
    },
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  for (const [index, statements] of transactions.entries()) {
    const lsn = BigInt(100 + index * 10);
    server.log.push(message.begin(lsn));
    for (const each of statements) server.run(each);
    server.log.push(message.commit(lsn));
    const middle = Math.floor(server.log.length / 2);
    feed(reader, server.log.splice(0, middle));
    reader.releaseCommitted();
    feed(reader, server.log.splice(0));
    for (const table of tables) {
      const rows = server.rows.get(table)!.map(({ v, id, big, part }) => JSON.stringify([v, id, big, part]));
      assert.deepEqual(sortedRows(states.get(table)!), rows.sort(), `table ${table.oid} after transaction ${index}`);
    }
  }
}

test("random small transactions, found by looking at each place, give the rows of the server", () => {
  const small = fc.array(fc.array(statement, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 15 });
  fc.assert(fc.property(small, replay), { numRuns: 1500 });
});

test("random large transactions, found by the hash index, give the rows of the server", () => {
  const large = fc.array(fc.array(statement, { minLength: 13, maxLength: 150, size: "max" }), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(fc.property(large, replay), { numRuns: 300 });
});
