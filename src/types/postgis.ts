// geometry and geography of PostGIS: BYTE_ARRAY of ISO WKB, which is what GeoParquet takes.
// Wire format: LWGEOM_send in https://github.com/postgis/postgis/blob/master/postgis/lwgeom_inout.c, EWKB: WKB whose type
// code has flags for Z, M and an SRID behind it (https://libgeos.org/specifications/wkb/#extended-wkb). The SRID belongs to
// the column: a value that has another one than its column's type keeps its exact text. GeoParquet has points, lines,
// polygons and collections of them in two or three dimensions: a file that holds others does not say that it is one,
// because readers that make geometries of WKB refuse it whole.
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { type Encode, type Family, type InexactValues, malformed } from "./family.ts";

const FLAG_Z = 0x80000000;
const FLAG_M = 0x40000000;
const FLAG_SRID = 0x20000000;
const TYPE_BITS = 0x1fffffff;
/** ISO codes: thousands tell the dimensions. */
const ISO_Z = 1000;
const ISO_M = 2000;
const WGS84 = 4326;
const LAST_GEOPARQUET_TYPE = 7; // GeometryCollection

/** Pages of files in which there is something that GeoParquet has not. */
const beyondGeoParquet = new WeakSet<LeafBuffer>();

type Body = "point" | "points" | "rings" | "parts";
const bodies: readonly (Body | null)[] = [
  ...([null, "point", "points", "rings", "parts", "parts", "parts", "parts"] as const), // to GeometryCollection
  ...(["points", "parts", "parts", "parts", "parts", null, null, "parts", "parts", "rings"] as const), // to Triangle
];

export interface GeometryFamily extends Family {
  /** The SRID of the column's type; 0 when it has none. */
  readonly srid: number;
}

export const geometryFamily = (typmod: number): GeometryFamily => makeFamily("geometry", sridOf(typmod));
export const geographyFamily = (typmod: number): GeometryFamily => makeFamily("geography", sridOf(typmod) || WGS84);

/** TYPMOD_GET_SRID of https://github.com/postgis/postgis/blob/master/liblwgeom/liblwgeom.h.in */
function sridOf(typmod: number): number {
  return typmod < 0 ? 0 : ((typmod & 0x0fffff00) - (typmod & 0x10000000)) >> 8;
}

function makeFamily(name: string, srid: number): GeometryFamily {
  return {
    name,
    srid,
    type: { physical: "BYTE_ARRAY", logical: { kind: "none" } },
    encode: encodeGeometry(name, srid),
    parse: (text) => {
      if (!/^([0-9A-F]{2})+$/i.test(text)) throw malformed(name, 0, "its text is not hexadecimal");
      return new Uint8Array(Buffer.from(text, "hex"));
    },
    format: formatGeometry,
  };
}

const formatGeometry: Family["format"] = (bytes, _view, at, length) =>
  Buffer.from(bytes.buffer, bytes.byteOffset + at, length)
    .toString("hex")
    .toUpperCase();

function encodeGeometry(name: string, columnSrid: number): Encode {
  return (leaf, cells, inexact: InexactValues) => {
    const { bytes, view, positions, count } = cells;
    leaf.reserveEntries(count);
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        leaf.definitions[leaf.entryCount++] = leaf.present + at;
        continue;
      }
      const length = view.getInt32(at);
      leaf.reserve(4 + length);
      const start = leaf.end + 4;
      const { end, srid, plain } = writeWkb(name, leaf.bytes, leaf.view, start, bytes, view, at + 4, length);
      if (!plain) beyondGeoParquet.add(leaf);
      if (srid !== columnSrid) inexact.add(i, formatGeometry(bytes, view, at + 4, length));
      leaf.view.setUint32(leaf.end, end - start, true);
      leaf.end = end;
      leaf.definitions[leaf.entryCount++] = leaf.present;
      leaf.valueCount++;
    }
  };
}

/** Copies the value without SRID and with ISO type codes. Geometries follow their collection's header, so no recursion. */
function writeWkb(
  name: string,
  out: Uint8Array,
  outView: DataView,
  to: number,
  bytes: Uint8Array,
  view: DataView,
  value: number,
  length: number,
): { end: number; srid: number; plain: boolean } {
  const valueEnd = value + length;
  let at = value;
  let end = to;
  let srid = 0;
  let plain = true;
  const need = (size: number): void => {
    if (!(size <= valueEnd - at)) throw malformed(name, value - 4, "it ends before its coordinates do");
  };
  for (let missing = 1; missing > 0; missing--) {
    need(5);
    const little = bytes[at] === 1;
    if (bytes[at]! > 1) throw malformed(name, value - 4, `byte order ${bytes[at]}`);
    const code = view.getUint32(at + 1, little);
    const body = bodies[code & TYPE_BITS];
    if (!body) throw malformed(name, value - 4, `geometry type ${code & TYPE_BITS}`);
    const [hasZ, hasM, hasSrid] = [FLAG_Z, FLAG_M, FLAG_SRID].map((flag) => (code & flag) !== 0) as [
      boolean,
      boolean,
      boolean,
    ];
    if (hasM || (code & TYPE_BITS) > LAST_GEOPARQUET_TYPE) plain = false;
    out[end] = bytes[at]!;
    outView.setUint32(end + 1, (code & TYPE_BITS) + (hasZ ? ISO_Z : 0) + (hasM ? ISO_M : 0), little);
    end += 5;
    at += 5;
    if (hasSrid) {
      need(4);
      if (end === to + 5) srid = view.getInt32(at, little);
      at += 4;
    }
    const copy = (size: number): void => {
      need(size);
      out.set(bytes.subarray(at, at + size), end);
      at += size;
      end += size;
    };
    const pointBytes = 8 * (2 + (hasZ ? 1 : 0) + (hasM ? 1 : 0));
    const counted = (): number => {
      need(4);
      const count = view.getUint32(at, little);
      copy(4);
      return count;
    };
    if (body === "point") copy(pointBytes);
    else if (body === "points") copy(counted() * pointBytes);
    else if (body === "parts") {
      const parts = counted();
      need(parts * 5);
      missing += parts;
    } else for (let rings = counted(); rings > 0; rings--) copy(counted() * pointBytes);
  }
  if (at !== valueEnd) throw malformed(name, value - 4, "there are bytes behind its last coordinate");
  return { end, srid, plain };
}

/**
 * The GeoParquet metadata of a file with such columns, null when it has none; `leaf`: the column's, by which its values
 * were written. The reference system is told where GeoParquet
 * has a default for it (WGS 84); of another one only the number is known, which `pg_flo.columns` has.
 * Source: https://geoparquet.org/releases/v1.1.0/
 */
export function geoMetadata(
  columns: readonly { readonly fileName: string; readonly family: Family | null; readonly leaf: LeafBuffer }[],
): string | null {
  const described = columns.flatMap(({ fileName, family, leaf }) =>
    isGeometry(family) && !beyondGeoParquet.has(leaf) ? [[fileName, columnMetadata(family)] as const] : [],
  );
  if (described.length === 0) return null;
  return JSON.stringify({ version: "1.1.0", primary_column: described[0]![0], columns: Object.fromEntries(described) });
}

function isGeometry(family: Family | null): family is GeometryFamily {
  return family !== null && "srid" in family;
}

function columnMetadata({ name, srid }: GeometryFamily): object {
  return {
    encoding: "WKB",
    geometry_types: [],
    ...(srid === WGS84 ? {} : { crs: null }),
    ...(name === "geography" ? { edges: "spherical" } : {}),
  };
}
