// Types that are a version byte (1) and their text on the wire: jsonpath; ltree, lquery and ltxtquery of extension ltree.
// Wire formats: jsonpath_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/jsonpath.c, and
// contrib/ltree/ltree_io.c.
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily, WireBuilder, writeBytes } from "./text-family.ts";

const VERSION = 1;

function versionedFamily(name: string): TextFamily {
  return makeTextFamily(
    name,
    {
      measure: (bytes, _view, at, length) => {
        if (length < 1 || bytes[at] !== VERSION) throw malformed(name, at - 4, "its version is not 1");
        return length - 1;
      },
      write: (out, to, bytes, _view, at, length) => writeBytes(out, to, bytes, at + 1, at + length),
    },
    (text) => new WireBuilder().uint8(VERSION).text(text).finish(),
  );
}

export const jsonpathFamily = versionedFamily("jsonpath");
export const ltreeFamily = versionedFamily("ltree");
export const lqueryFamily = versionedFamily("lquery");
export const ltxtqueryFamily = versionedFamily("ltxtquery");

/** By OID (pg_type.dat). */
export const versionedFamilies: readonly (readonly [number, TextFamily])[] = [[4072, jsonpathFamily]];
