// Rows of one table as they stand in a snapshot, found by their identities, as whole images for stream files. Keys are
// first resolved to places in the heap: in one snapshot each row has one, so a row that is asked for twice (two texts of
// an equal key) comes once, and rows are read in the heap's order.
import { PgFloError } from "../base/errors.ts";
import { CopyDecoder } from "../copy/copy-decoder.ts";
import { valuesSql } from "../copy/range-copy.ts";
import { inSavepoint } from "../copy/snapshot-connection.ts";
import type { HeapRelation } from "../postgres/catalog.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/quote.ts";
import type { RawConnection } from "../postgres/raw-connection.ts";
import { tupleKind } from "../postgres/tuple.ts";
import { Arena } from "../stream/arena.ts";
import type { Batch } from "../stream/batch.ts";
import type { StreamRelation } from "../stream/stream-table.ts";
import { OPERATION_UPDATE } from "../stream/transaction-store.ts";
import type { StoredHeap } from "./copy-plan.ts";

/** Rows that one statement looks up or reads. */
const ROWS_AT_ONCE = 1000;
/** Row images that are encoded in one go. */
const PENDING_BYTES = 4 * 1024 * 1024;
const OFFSET_BITS = 65_536;

export interface ImageSource {
  readonly connection: RawConnection;
  readonly relation: StreamRelation;
  /** The heaps of the table, with their names now. */
  readonly heaps: readonly HeapRelation[];
  /** As they were planned: another relfilenode means that the table was rewritten. */
  readonly planned: readonly StoredHeap[];
}

/** Where rows are: by the heap's OID, block and line pointer as one number. */
export type RowPlaces = ReadonlyMap<number, readonly number[]>;

/** The places of the rows that have these identities. `keys`: texts, in the order of the identity's columns. */
export async function findRows(
  source: ImageSource,
  keys: AsyncIterable<readonly (readonly string[])[]>,
): Promise<RowPlaces> {
  const places = new Map<number, number[]>();
  for await (const batch of keys) {
    for (let from = 0; from < batch.length; from += ROWS_AT_ONCE) {
      const found = await readUnchanged(source, lookUpSql(source, batch.slice(from, from + ROWS_AT_ONCE)));
      for (const [heap, ctid] of found) {
        const ofHeap = places.get(Number(heap)) ?? [];
        ofHeap.push(placeOf(ctid!));
        places.set(Number(heap), ofHeap);
      }
    }
  }
  return new Map([...places].map(([heap, ofHeap]) => [heap, sortedOnce(ofHeap)]));
}

/** Reads rows into the batch, under the transaction that `begin` begins in it. Gives their number. */
export async function readImages(
  source: ImageSource,
  places: RowPlaces,
  batch: Batch,
  begin: () => void,
): Promise<number> {
  let rowCount = 0;
  for (const heap of source.heaps) {
    const ofHeap = places.get(heap.oid) ?? [];
    for (let from = 0; from < ofHeap.length; from += ROWS_AT_ONCE) {
      const some = ofHeap.slice(from, from + ROWS_AT_ONCE);
      const count = await readPlaces(source, heap, some, batch, begin, rowCount);
      if (count !== some.length) {
        const { schema, name } = source.relation.table;
        throw new PgFloError("INTERNAL", `read rows of ${schema}.${name}, ${count} of ${some.length} found again`);
      }
      rowCount += count;
    }
  }
  return rowCount;
}

async function readPlaces(
  source: ImageSource,
  heap: HeapRelation,
  places: readonly number[],
  batch: Batch,
  begin: () => void,
  firstSequence: number,
): Promise<number> {
  const { connection, relation } = source;
  const images = new Images(relation, batch, begin, firstSequence);
  await inSavepoint(connection, async () => {
    await connection.copyOut(placesSql(heap, places, relation), images);
    images.end();
    await refuseRewritten(source);
  });
  await images.encode();
  return images.rowCount;
}

/** Rows of COPY as tuples of the stream, on their way into the batch. */
class Images {
  readonly #relation: StreamRelation;
  readonly #batch: Batch;
  readonly #begin: () => void;
  readonly #decoder: CopyDecoder;
  readonly #arena = new Arena();
  #sequence: number;
  #bytes = new Uint8Array(0);
  rowCount = 0;

  constructor(relation: StreamRelation, batch: Batch, begin: () => void, firstSequence: number) {
    this.#relation = relation;
    this.#batch = batch;
    this.#begin = begin;
    this.#sequence = firstSequence;
    this.#decoder = new CopyDecoder(relation.table.columns.length);
  }

  row(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    this.#decoder.row(bytes, view, start, end);
    this.#bytes = bytes as Uint8Array<ArrayBuffer>;
    if (this.#decoder.full) this.#take(view);
  }

  chunk(): Promise<void> | undefined {
    const { buffer, byteOffset, byteLength } = this.#bytes;
    this.#take(new DataView(buffer, byteOffset, byteLength));
    return this.#arena.length > PENDING_BYTES ? this.encode() : undefined;
  }

  end(): void {
    if (!this.#decoder.complete)
      throw new PgFloError("PROTOCOL_VIOLATION", "rows by place, COPY, ended without its end");
  }

  async encode(): Promise<void> {
    await this.#batch.encodePending(this.#arena);
    this.#arena.reset();
  }

  #take(view: DataView): void {
    const decoder = this.#decoder;
    for (let row = 0; row < decoder.rowCount; row++) {
      if (this.#batch.pendingRows === 0) this.#begin();
      this.#batch.row(this.#relation, OPERATION_UPDATE, this.#append(view, row), -1, ++this.#sequence);
      this.rowCount++;
    }
    decoder.rowCount = 0;
  }

  /** COPY's row and the stream's tuple differ in the byte that tells a value's kind. */
  #append(view: DataView, row: number): number {
    const arena = this.#arena;
    const { columns } = this.#relation.table;
    const tuple = arena.reserve(2);
    arena.view.setUint16(tuple, columns.length);
    for (let column = 0; column < columns.length; column++) {
      const at = this.#decoder.positions[column]![row]!;
      const kind = arena.reserve(1);
      if (at < 0) {
        arena.bytes[kind] = tupleKind.null;
        continue;
      }
      arena.bytes[kind] = columns[column]!.binary ? tupleKind.binary : tupleKind.text;
      arena.append(this.#bytes, at, at + 4 + view.getInt32(at));
    }
    return tuple;
  }
}

/** Runs a query whose answer only counts if the table was not rewritten: its locks are held until that was seen. */
function readUnchanged(source: ImageSource, sql: string) {
  return inSavepoint(source.connection, async () => {
    const found = await source.connection.query(sql, { patient: true });
    await refuseRewritten(source);
    return found;
  });
}

/** TABLE_CHANGED: old snapshots see nothing of what a TRUNCATE left, say. */
async function refuseRewritten({ connection, planned, relation }: ImageSource): Promise<void> {
  const oids = planned.map(({ oid }) => oid).join(", ");
  const found = await connection.query(
    `select c.oid, pg_relation_filenode(c.oid) from pg_catalog.pg_class c where c.oid = any('{${oids}}'::oid[])`,
  );
  const now = new Map(found.map(([oid, filenode]) => [Number(oid), Number(filenode)]));
  if (planned.every(({ oid, relfilenode }) => now.get(oid) === relfilenode)) return;
  const { schema, name } = relation.table;
  throw new PgFloError("TABLE_CHANGED", `table ${schema}.${name}, heap, it was rewritten since its copy began`);
}

/** The table itself, or the root of its leaves. */
function lookUpSql({ relation, heaps }: ImageSource, keys: readonly (readonly string[])[]): string {
  const { table, keyColumns } = relation;
  const identity = table.identity.kind === "none" ? [] : table.identity.columns;
  const texts = identity.map((_, at) => quoteLiteral(arrayText(keys.map((key) => key[at]!))));
  const types = new Map([...keyColumns].map((column) => [table.columns[column]!.source.name, table.columns[column]!]));
  const equal = identity.map(
    (name, at) => `t.${quoteIdentifier(name)} = k.k${at}::${types.get(name)!.source.typeName}`,
  );
  const only = heaps.some(({ oid }) => oid === table.oid) ? "only " : "";
  return `select t.tableoid, t.ctid
    from unnest(${texts.map((text) => `${text}::text[]`).join(", ")}) as k(${identity.map((_, at) => `k${at}`).join(", ")})
    join ${only}${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)} t on ${equal.join(" and ")}`;
}

function placesSql(heap: HeapRelation, places: readonly number[], { table }: StreamRelation): string {
  const tids = places.map((place) => `"(${Math.floor(place / OFFSET_BITS)},${place % OFFSET_BITS})"`);
  const from = `${quoteIdentifier(heap.schema)}.${quoteIdentifier(heap.name)}`;
  return `copy (select ${valuesSql(table.columns)} from only ${from} where ctid = any('{${tids.join(",")}}'::tid[]))
    to stdout (format binary)`;
}

/** https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO */
function arrayText(texts: readonly string[]): string {
  return `{${texts.map((text) => `"${text.replace(/[\\"]/g, "\\$&")}"`).join(",")}}`;
}

function placeOf(ctid: string): number {
  const [, block, offset] = /^\((\d+),(\d+)\)$/.exec(ctid)!;
  return Number(block) * OFFSET_BITS + Number(offset);
}

function sortedOnce(places: readonly number[]): number[] {
  const sorted = Float64Array.from(places).sort();
  return [...sorted.filter((place, at) => at === 0 || place !== sorted[at - 1])];
}
