// The heaps of the tables that are copied: as the source has them now, and as their ranges were planned for.
import type { ClientBase } from "pg";
import type { MeasuredHeap } from "../copy/plan.ts";
import { type Queryable, rows } from "../metadata/queryable.ts";
import type { HeapRelation } from "../postgres/catalog.ts";

/** Measures all heaps in one query, by table id. A heap that was dropped meanwhile is left out. */
export async function measureHeaps(
  source: ClientBase,
  heaps: ReadonlyMap<number, readonly HeapRelation[]>,
): Promise<Map<number, MeasuredHeap[]>> {
  const oids = [...heaps.values()].flatMap((ofTable) => ofTable.map((heap) => heap.oid));
  const { rows: found } = await source.query<{
    oid: string;
    filenode: string;
    heap: string;
    toast: string;
    block: string;
  }>(
    `select c.oid, pg_relation_filenode(c.oid) as filenode, pg_relation_size(c.oid) as heap,
       coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) as toast, current_setting('block_size') as block
     from pg_class c where c.oid = any($1::oid[])`,
    [oids],
  );
  const measured = new Map(found.map((heap) => [Number(heap.oid), heap]));
  const ofTable = (heap: HeapRelation): MeasuredHeap[] => {
    const sizes = measured.get(heap.oid);
    if (!sizes) return [];
    const { oid, schema, name } = heap;
    return [
      {
        ...{ oid, schema, name },
        relfilenode: Number(sizes.filenode),
        heapBytes: Number(sizes.heap),
        toastBytes: Number(sizes.toast),
        blockBytes: Number(sizes.block),
      },
    ];
  };
  return new Map([...heaps].map(([tableId, relations]) => [tableId, relations.flatMap(ofTable)]));
}

export interface StoredHeap {
  readonly oid: number;
  readonly relfilenode: number;
}

/** The heaps that a table's ranges were planned for, by table id. */
export async function planStored(db: Queryable, group: string): Promise<Map<number, StoredHeap[]>> {
  const found = await rows<{ table_id: string; heap_oid: string; relfilenode: string }>(
    db,
    "select distinct table_id, heap_oid, relfilenode from _pg_flo.copy_ranges where group_name = $1",
    [group],
  );
  const stored = new Map<number, StoredHeap[]>();
  for (const { table_id, heap_oid, relfilenode } of found) {
    const heaps = stored.get(Number(table_id)) ?? [];
    heaps.push({ oid: Number(heap_oid), relfilenode: Number(relfilenode) });
    stored.set(Number(table_id), heaps);
  }
  return stored;
}
