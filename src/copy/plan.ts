// Splits a table's heaps into ranges of blocks, each about one file. Pure.

/** A heap as it was measured after the snapshot was taken; relpages can be 0 or stale, which would lose rows. */
export interface MeasuredHeap {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly relfilenode: number;
  /** pg_relation_size of the main fork. */
  readonly heapBytes: number;
  /** Of its TOAST table; 0 without one. */
  readonly toastBytes: number;
  /** The server's block_size. */
  readonly blockBytes: number;
}

export interface PlannedRange {
  readonly heapOid: number;
  readonly heapSchema: string;
  readonly heapName: string;
  readonly relfilenode: number;
  readonly blockFrom: number;
  readonly blockTo: number | null;
}

/**
 * Ranges of about `rangeBytes` of heap and its share of TOAST. The last one of a heap is open-ended: the heap may have
 * grown since it was measured, also by rows that the snapshot sees.
 */
export function planHeaps(heaps: readonly MeasuredHeap[], rangeBytes: number): PlannedRange[] {
  return heaps.flatMap((heap) => {
    const blocks = Math.ceil(heap.heapBytes / heap.blockBytes);
    const bytesPerBlock = blocks === 0 ? heap.blockBytes : (heap.heapBytes + heap.toastBytes) / blocks;
    const blocksPerRange = Math.max(1, Math.round(rangeBytes / bytesPerBlock));
    const count = Math.max(1, Math.ceil(blocks / blocksPerRange));
    return Array.from({ length: count }, (_, index) => ({
      heapOid: heap.oid,
      heapSchema: heap.schema,
      heapName: heap.name,
      relfilenode: heap.relfilenode,
      blockFrom: index * blocksPerRange,
      blockTo: index === count - 1 ? null : (index + 1) * blocksPerRange,
    }));
  });
}
