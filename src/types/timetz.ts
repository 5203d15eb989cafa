// timetz: a STRING with its offset.
// Wire format: timetz_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/date.c: int64
// microseconds of the day, int32 seconds west of UTC.
import { clockMicroseconds, timeMicroseconds, US_OF_DAY, writeTime } from "./date-time.ts";
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily, WireBuilder, writePadded } from "./text-family.ts";

/** The longest text: `23:59:59.999999+15:59:59`. */
const TEXT_BYTES = 24;
/** Offsets are below 16 hours (TZDISP_LIMIT). */
const OFFSET_LIMIT_SECONDS = 16 * 3600;
const COLON = 0x3a;

export const timetzFamily: TextFamily = makeTextFamily(
  "timetz",
  {
    measure: (_bytes, view, at, length) => {
      if (length !== 12) throw malformed("timetz", at - 4, `${length} bytes`);
      const microseconds = timeMicroseconds(view, at);
      const west = view.getInt32(at + 8);
      if (!(microseconds >= 0 && microseconds <= US_OF_DAY) || Math.abs(west) >= OFFSET_LIMIT_SECONDS) {
        throw malformed("timetz", at - 4, "it is not a time of day with an offset");
      }
      return TEXT_BYTES;
    },
    write: (out, to, _bytes, view, at) => {
      let end = to + writeTime(out, to, timeMicroseconds(view, at));
      const west = view.getInt32(at + 8);
      const offset = west < 0 ? -west : west;
      const minutes = (offset / 60) | 0;
      out[end] = west > 0 ? 0x2d : 0x2b;
      writePadded(out, end + 1, (minutes / 60) | 0, 2);
      end += 3;
      if (offset % 3600 === 0) return end;
      out[end] = COLON;
      writePadded(out, end + 1, minutes % 60, 2);
      end += 3;
      if (offset % 60 === 0) return end;
      out[end] = COLON;
      writePadded(out, end + 1, offset % 60, 2);
      return end + 3;
    },
  },
  (text) => {
    const match = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?$/.exec(text);
    if (!match) throw malformed("timetz", 0, "its text is not a time of day with an offset");
    const [, hour, minute, second, fraction, sign, ...offset] = match;
    const [hours, minutes, seconds] = offset.map((part) => Number(part ?? 0));
    const east = hours! * 3600 + minutes! * 60 + seconds!;
    const microseconds = clockMicroseconds(hour!, minute!, second!, fraction);
    return new WireBuilder()
      .int64(microseconds)
      .int32(sign === "-" ? east : -east)
      .finish();
  },
);

/** By OID (pg_type.dat). */
export const timetzFamilies: readonly (readonly [number, TextFamily])[] = [[1266, timetzFamily]];
