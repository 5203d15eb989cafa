// What the values of a column are made of besides the column's own type: the attributes of composites and the labels of
// enums, wherever they are inside. Changing them writes nothing into the log and no Relation message tells it, but the
// rows that are there look otherwise from then on: so the parts belong to a column's definition.
import type { PgType, SourceColumn } from "./catalog.ts";

/** `label <pg_enum.oid>` to the label, `attribute <type's oid>.<attnum>` to name, type and typmod. */
export type TypeParts = Readonly<Record<string, string>>;

const LABEL = "label ";

/** Null for a type that has none. */
export function typeParts(oid: number, types: ReadonlyMap<number, PgType>): TypeParts | null {
  const parts: Record<string, string> = {};
  const seen = new Set<number>();
  const visit = (typeOid: number): void => {
    const type = types.get(typeOid);
    if (!type || seen.has(typeOid)) return;
    seen.add(typeOid);
    for (const { oid: label, label: text } of type.labels ?? []) parts[`${LABEL}${label}`] = text;
    for (const { name, attnum, typeOid: inner, typmod } of type.fields ?? []) {
      parts[`attribute ${typeOid}.${attnum}`] = JSON.stringify([name, inner, typmod]);
      visit(inner);
    }
    for (const inner of [type.elementOid, type.baseOid, type.subtypeOid ?? 0]) visit(inner);
  };
  visit(oid);
  return Object.keys(parts).length === 0 ? null : parts;
}

export function withTypeParts(column: SourceColumn, types: ReadonlyMap<number, PgType>): SourceColumn {
  const parts = typeParts(column.typeOid, types);
  return parts === null ? column : { ...column, typeParts: parts };
}

/** True when values that were written before look the same now. New labels are in none of them. */
export function sameParts(before: TypeParts | undefined, now: TypeParts | undefined): boolean {
  // Columns that were stored by a version that did not know of parts.
  if (before === undefined) return true;
  const kept = Object.keys(before).every((key) => before[key] === now?.[key]);
  return kept && Object.keys(now ?? {}).every((key) => key in before || key.startsWith(LABEL));
}

export function equalParts(a: TypeParts | undefined, b: TypeParts | undefined): boolean {
  const count = (parts: TypeParts | undefined): number => Object.keys(parts ?? {}).length;
  return count(a) === count(b) && Object.keys(a ?? {}).every((key) => a?.[key] === b?.[key]);
}
