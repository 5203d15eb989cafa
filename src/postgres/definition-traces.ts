// What a change of a table's definition leaves in the catalog beside the definition itself: whether rows were rewritten,
// whether a partition came with rows of its own, and the value that rows have that are older than a column. The log
// tells none of it.
// Source: https://www.postgresql.org/docs/current/catalog-pg-attribute.html

export interface DefinitionTraces {
  /** Attribute numbers only grow: one above it is a column that was added later, whatever its name. */
  readonly lastAttnum: number;
  /** By attribute number: which transaction last changed the column's row in pg_attribute. */
  readonly rowVersions: Readonly<Record<string, string>>;
  /** Columns that rows lack which are older. A rewrite of any kind ends that. */
  readonly missing: readonly number[];
  /** By attribute number: the column's default. A change of the type makes another one of it, VACUUM FULL does not. */
  readonly defaults: Readonly<Record<string, number>>;
  readonly partitioned: boolean;
  /** By OID, of the table or its leaves: the file that its rows are in. A rewrite gives it another one. */
  readonly heaps: Readonly<Record<string, number>>;
  /** By OID of a leaf: the transactions that attached it, and the partitions that it is in. */
  readonly attached: Readonly<Record<string, string>>;
  /**
   * Leaves that were made as partitions and have not been anything else, nor have the partitions that they are in: all of
   * their rows came in as the table's.
   */
  readonly born: readonly number[];
  /** Columns whose older rows do not have the same value in all leaves. */
  readonly varying: readonly number[];
}

/**
 * ATTACH PARTITION changes every column's row in pg_attribute, and DETACH does. So in a partition that was made as one,
 * and only there, they are as the command left them that made the relation, like the rows of its system columns.
 */
export const bornSql = `c.relispartition and (select count(distinct (t.xmin::text, t.cmin::text)) = 1 from pg_attribute t
      where t.attrelid = c.oid and (not t.attisdropped or t.attnum < 0)) as born`;

export interface LeafMissing {
  readonly relation: number;
  readonly name: string;
  readonly missingArray: string | null;
}

/** A partitioned table has no rows, so only its leaves tell. */
export const leafMissingSql = `
  select a.attrelid as relation, a.attname as name, a.attmissingval::text as "missingArray"
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  where a.atthasmissing and a.attnum > 0 and not a.attisdropped and c.relispartition`;

/** The value of all leaves; undefined for none, null when they differ. */
export function rootMissing(
  column: string,
  leaves: readonly { readonly oid: number }[],
  missing: ReadonlyMap<number, readonly LeafMissing[]>,
): string | null | undefined {
  const texts = leaves.map(({ oid }) =>
    missingText(missing.get(oid)?.find(({ name }) => name === column)?.missingArray ?? null),
  );
  return texts.every((text) => text === texts[0]) ? texts[0] : null;
}

interface TracedColumn {
  readonly attnum: number;
  readonly rowVersion: string;
  readonly missingArray: string | null;
  /** pg_attrdef.oid */
  readonly def: number | null;
}

export function columnTraces(
  lastAttnum: number,
  columns: readonly TracedColumn[],
): Pick<DefinitionTraces, "lastAttnum" | "rowVersions" | "missing" | "defaults"> {
  return {
    lastAttnum,
    rowVersions: Object.fromEntries(columns.map(({ attnum, rowVersion }) => [attnum, rowVersion])),
    missing: columns.filter(({ missingArray }) => missingArray !== null).map(({ attnum }) => attnum),
    defaults: Object.fromEntries(columns.flatMap(({ attnum, def }) => (def === null ? [] : [[attnum, def]]))),
  };
}

interface TracedHeap {
  readonly oid: number;
  readonly relfilenode: number;
  readonly attachedBy: string | null;
  readonly born: boolean;
}

/** `chainOf`: a leaf and the partitions that it is in. */
export function heapTraces<Heap extends TracedHeap>(
  partitioned: boolean,
  heaps: readonly Heap[],
  chainOf: (heap: Heap) => readonly TracedHeap[],
): Pick<DefinitionTraces, "partitioned" | "heaps" | "attached" | "born"> {
  const chains = new Map(partitioned ? heaps.map((heap) => [heap.oid, chainOf(heap)]) : []);
  return {
    partitioned,
    heaps: Object.fromEntries(heaps.map(({ oid, relfilenode }) => [oid, relfilenode])),
    attached: Object.fromEntries(
      [...chains].map(([oid, chain]) => [oid, chain.map(({ attachedBy }) => attachedBy).join("/")]),
    ),
    born: [...chains].flatMap(([oid, chain]) => (chain.every(({ born }) => born) ? [oid] : [])),
  };
}

/** The one element of an array's text; undefined when there is none. */
export function missingText(array: string | null): string | undefined {
  if (array === null) return undefined;
  const inner = array.slice(array.indexOf("{") + 1, array.lastIndexOf("}"));
  return inner.startsWith('"') ? inner.slice(1, -1).replaceAll(/\\(.)/gs, "$1") : inner;
}
