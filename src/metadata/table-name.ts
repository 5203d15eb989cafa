// How a table is called, and how to keep tables by it.
export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** Of a Map or a Set of tables: names may have any characters in them. */
export function nameKey({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}
