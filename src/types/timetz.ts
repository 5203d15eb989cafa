// timetz: a STRING with its offset.
// Wire format: timetz_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/date.c: int64
// microseconds of the day, int32 seconds west of UTC.
import { clockMicroseconds, timeMicroseconds, US_OF_DAY } from "./date-time.ts";
import { writeTime, writeTwo } from "./digits.ts";
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily, WireBuilder } from "./text-family.ts";

/** The longest text: `23:59:59.999999+15:59:59`. */
const TEXT_BYTES = 24;
/** Offsets are below 16 hours (TZDISP_LIMIT). */
const OFFSET_LIMIT_SECONDS = 16 * 3600;
const COLON = 0x3a;

export const timetzFamily: TextFamily = makeTextFamily(
  "timetz",
  {
    plain: true,
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
      const microseconds = timeMicroseconds(view, at);
      const seconds = Math.floor(microseconds / 1_000_000) | 0;
      let end = writeTime(out, to, seconds, (microseconds - seconds * 1_000_000) | 0);
      const west = view.getInt32(at + 8);
      const offset = west < 0 ? -west : west;
      const minutes = (offset / 60) | 0;
      out[end] = west > 0 ? 0x2d : 0x2b;
      const hours = (minutes / 60) | 0;
      end = writeTwo(out, end + 1, hours);
      if (offset === hours * 3600) return end;
      out[end] = COLON;
      end = writeTwo(out, end + 1, minutes - hours * 60);
      if (offset === minutes * 60) return end;
      out[end] = COLON;
      return writeTwo(out, end + 1, offset - minutes * 60);
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
