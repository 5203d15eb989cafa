// Families of types that the catalog decides: ranges, multiranges, composites, extensions' types, money. What they hold
// may be of any type, and is asked of the registry. All of them are one value in portable files.
import type { PgType } from "../postgres/catalog.ts";
import { bitFamilies } from "./bits.ts";
import { textFamily } from "./bytes.ts";
import { charFamilies } from "./char.ts";
import { compositeFamily, compositeJsonForm, type JsonField } from "./composite-json.ts";
import type { Codec, Family } from "./family.ts";
import { cubeFamily, geometryFamilies } from "./geometry.ts";
import { hstoreFamily, hstoreJsonForm } from "./hstore.ts";
import { identifierFamilies } from "./identifiers.ts";
import { intervalFamilies } from "./interval.ts";
import {
  jsonArrayForm,
  jsonBoolForm,
  jsonbRawForm,
  jsonNumberForm,
  jsonRawForm,
  jsonStringForm,
  jsonTextForm,
  jsonTimeForm,
} from "./json-form.ts";
import { listCodec } from "./list.ts";
import { MONEY_OID, moneyFamily } from "./money.ts";
import { networkFamilies } from "./network.ts";
import { sparsevecFamily, vectorTrees } from "./pgvector.ts";
import { geographyFamily, geometryFamily } from "./postgis.ts";
import { multirangeFamily, rangeFamily } from "./range-wire.ts";
import type { TextForm } from "./text-family.ts";
import { type AnyCodec, formattedForm, textFormOf } from "./text-forms.ts";
import { textSearchFamilies } from "./text-search.ts";
import { timetzFamilies } from "./timetz.ts";
import type { TypeTree } from "./type-tree.ts";
import { oidVectorFamilies } from "./vectors.ts";
import { lqueryFamily, ltreeFamily, ltxtqueryFamily, versionedFamilies } from "./versioned-text.ts";

/** Built-in types with one family each, by OID. */
export const scalarFamilies: ReadonlyMap<number, Family> = new Map<number, Family>([
  ...bitFamilies,
  ...charFamilies,
  ...geometryFamilies,
  ...identifierFamilies,
  ...intervalFamilies,
  ...networkFamilies,
  ...oidVectorFamilies,
  ...textSearchFamilies,
  ...timetzFamilies,
  ...versionedFamilies,
  [1790, textFamily], // refcursor
]);

/** Extensions' types by `extension.type`: their OIDs differ between databases. */
const extensionFamilies: ReadonlyMap<string, (typmod: number) => Family> = new Map<string, (typmod: number) => Family>([
  ["citext.citext", () => textFamily],
  ["cube.cube", () => cubeFamily],
  ["hstore.hstore", () => hstoreFamily],
  ["ltree.ltree", () => ltreeFamily],
  ["ltree.lquery", () => lqueryFamily],
  ["ltree.ltxtquery", () => ltxtqueryFamily],
  ["vector.sparsevec", () => sparsevecFamily],
  ["postgis.geometry", geometryFamily],
  ["postgis.geography", geographyFamily],
]);

/** Extensions' types that are lists by themselves. */
export function vectorTree({ type }: ResolvedType): TypeTree | null {
  return type?.hasSend && type.extension === "vector" ? (vectorTrees.get(type.typname)?.() ?? null) : null;
}

/** The type behind all domains, as the registry resolves it. */
export interface ResolvedType {
  readonly oid: number;
  readonly typmod: number;
  readonly type: PgType | undefined;
}

/** What the registry knows of the types inside. */
export interface InnerTypes {
  readonly resolve: (typeOid: number, typmod: number) => ResolvedType;
  /** Null: no binary decoder for it. */
  readonly family: (typeOid: number, typmod: number) => Family | null;
}

/** The family of a type that is no array. Null: it, or a type inside of it, has no binary decoder here. */
export function catalogFamily({ oid, typmod, type }: ResolvedType, inner: InnerTypes): Family | null {
  if (oid === MONEY_OID) return moneyFamily(type?.moneyScale ?? undefined);
  const scalar = scalarFamilies.get(oid);
  if (scalar) return scalar;
  if (!type?.hasSend) return null;
  if (type.kind === "r") return type.subtypeOid ? rangeOf(type.subtypeOid, inner, rangeFamily) : null;
  if (type.kind === "m") {
    const range = type.subtypeOid ? inner.resolve(type.subtypeOid, -1).type : undefined;
    return range?.subtypeOid ? rangeOf(range.subtypeOid, inner, multirangeFamily) : null;
  }
  if (type.kind === "c") return compositeOf(type, inner);
  return extensionFamilies.get(`${type.extension}.${type.typname}`)?.(typmod) ?? null;
}

function rangeOf(subtypeOid: number, inner: InnerTypes, make: typeof rangeFamily): Family | null {
  const codec = codecOf(subtypeOid, -1, inner);
  return codec && make(codec, textFormOfType(subtypeOid, -1, codec, inner));
}

function compositeOf(type: PgType, inner: InnerTypes): Family | null {
  const fields = jsonFields(type, inner);
  return fields && compositeFamily(type.name, fields);
}

/** Null: a field's type has no binary decoder. */
function jsonFields({ fields }: PgType, inner: InnerTypes): JsonField[] | null {
  if (!fields) return null;
  const known: JsonField[] = [];
  for (const { name, typeOid, typmod } of fields) {
    const codec = codecOf(typeOid, typmod, inner);
    if (!codec) return null;
    known.push({ name, typeOid, codec, json: jsonForm(typeOid, typmod, codec, inner) });
  }
  return known;
}

/** Parser and text output of any type. */
function codecOf(typeOid: number, typmod: number, inner: InnerTypes): AnyCodec | null {
  const base = inner.resolve(typeOid, typmod);
  const elementOid = elementOf(base);
  if (elementOid === 0) return inner.family(typeOid, typmod) ?? vectorTree(base)?.codec ?? null;
  const element = codecOf(elementOid, base.typmod, inner);
  return element && listCodec(element, elementOid, inner.resolve(elementOid, -1).type?.delimiter);
}

/** The element type of an array, else 0. int2vector and oidvector, which have elements, are families of their own. */
export function elementOf({ oid, type }: ResolvedType): number {
  return scalarFamilies.has(oid) ? 0 : (type?.elementOid ?? 0);
}

/** Arrays and composites check their bytes as JSON does. */
function textFormOfType(typeOid: number, typmod: number, codec: Codec, inner: InnerTypes): TextForm {
  const base = inner.resolve(typeOid, typmod);
  if (elementOf(base) === 0) return textFormOf(codec);
  const { measure } = jsonForm(typeOid, typmod, codec, inner);
  return formattedForm(codec, measure);
}

const NUMBERS: ReadonlySet<number> = new Set([20, 21, 23, 700, 701, 1700]);
const TIMES: ReadonlySet<number> = new Set([1082, 1114, 1184]);
const TEXTS: ReadonlySet<number> = new Set([19, 25, 1042, 1043, 142]);
const BOOL_OID = 16;
const JSON_OID = 114;
const JSONB_OID = 3802;

/** json_categorize_type of https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/jsonfuncs.c */
function jsonForm(typeOid: number, typmod: number, codec: AnyCodec, inner: InnerTypes): TextForm {
  const base = inner.resolve(typeOid, typmod);
  const elementOid = elementOf(base);
  if (elementOid !== 0) {
    // The codec of the array is there, so that of its elements is.
    return jsonArrayForm(jsonForm(elementOid, base.typmod, codecOf(elementOid, base.typmod, inner)!, inner));
  }
  if (base.oid === BOOL_OID) return jsonBoolForm(codec);
  if (NUMBERS.has(base.oid)) return jsonNumberForm(codec);
  if (TIMES.has(base.oid)) return jsonTimeForm(codec);
  if (base.oid === JSON_OID) return jsonRawForm;
  if (base.oid === JSONB_OID) return jsonbRawForm;
  if (base.type?.kind === "c") return compositeJsonForm(jsonFields(base.type, inner)!);
  if (base.type?.kind === "e" || TEXTS.has(base.oid)) return jsonTextForm;
  if (codec === hstoreFamily) return hstoreJsonForm;
  return jsonStringForm(textFormOf(codec));
}
