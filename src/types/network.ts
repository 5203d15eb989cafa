// inet, cidr, macaddr, macaddr8.
// Wire formats: network_send and macaddr_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/
// {network,mac}.c: uint8 family (2 = v4, 3 = v6), uint8 mask bits, uint8 is-cidr, uint8 address length, the address.
import { writeOctet } from "./digits.ts";
import { malformed } from "./family.ts";
import { fixedMeasure, makeTextFamily, type TextFamily, type Write } from "./text-family.ts";

const HEADER_BYTES = 4;
const V4 = 2;
const V6 = 3;
/** The longest text: an IPv6 address with a mask. */
const TEXT_BYTES = 50;
const DOT = 0x2e;
const COLON = 0x3a;
const SLASH = 0x2f;
const hexDigits = Uint8Array.from("0123456789abcdef", (digit) => digit.charCodeAt(0));

function networkFamily(name: "inet" | "cidr"): TextFamily {
  const cidr = name === "cidr";
  return makeTextFamily(
    name,
    {
      plain: true,
      measure: (bytes, _view, at, length) => {
        const size = length - HEADER_BYTES;
        const wrong =
          (size === 4 ? bytes[at] !== V4 : size !== 16 || bytes[at] !== V6) ||
          bytes[at + 1]! > size * 8 ||
          bytes[at + 2]! !== (cidr ? 1 : 0) ||
          bytes[at + 3] !== size;
        if (wrong) throw malformed(name, at - 4, `${length} bytes that are no address`);
        return TEXT_BYTES;
      },
      write: (out, to, bytes, _view, at) => {
        const bits = bytes[at + 1]!;
        const v4 = bytes[at] === V4;
        const end = v4 ? writeV4(out, to, bytes, at + HEADER_BYTES) : writeV6(out, to, bytes, at + HEADER_BYTES);
        if (!cidr && bits === (v4 ? 32 : 128)) return end;
        out[end] = SLASH;
        return writeOctet(out, end + 1, bits);
      },
    },
    (text) => parseNetwork(name, text),
  );
}

export const inetFamily = networkFamily("inet");
export const cidrFamily = networkFamily("cidr");
export const macaddrFamily = macFamily("macaddr", 6);
export const macaddr8Family = macFamily("macaddr8", 8);

/** By OID (pg_type.dat). */
export const networkFamilies: readonly (readonly [number, TextFamily])[] = [
  [869, inetFamily],
  [650, cidrFamily],
  [829, macaddrFamily],
  [774, macaddr8Family],
];

function writeV4(out: Uint8Array, to: number, bytes: Uint8Array, at: number): number {
  let end = writeOctet(out, to, bytes[at]!);
  out[end] = DOT;
  end = writeOctet(out, end + 1, bytes[at + 1]!);
  out[end] = DOT;
  end = writeOctet(out, end + 1, bytes[at + 2]!);
  out[end] = DOT;
  return writeOctet(out, end + 1, bytes[at + 3]!);
}

// https://github.com/postgres/postgres/blob/master/src/port/inet_net_ntop.c: the first longest run of zeros becomes ::
function writeV6(out: Uint8Array, to: number, bytes: Uint8Array, at: number): number {
  let base = -1;
  let run = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && wordAt(bytes, at, i + length) === 0) length++;
    if (length > run) {
      base = i;
      run = length;
    }
    i += length;
  }
  const dotted = base === 0 && (run === 6 || (run === 5 && wordAt(bytes, at, 5) === 0xffff));
  let end = to;
  for (let i = 0; i < 8; i++) {
    if (base >= 0 && i >= base && i < base + run) {
      if (i === base) out[end++] = COLON;
      continue;
    }
    if (i !== 0) out[end++] = COLON;
    if (i === 6 && dotted) return writeV4(out, end, bytes, at + 12);
    end = writeHexWord(out, end, wordAt(bytes, at, i));
  }
  if (base >= 0 && base + run === 8) out[end++] = COLON;
  return end;
}

function wordAt(bytes: Uint8Array, at: number, index: number): number {
  return bytes[at + 2 * index]! * 256 + bytes[at + 2 * index + 1]!;
}

function writeHexWord(out: Uint8Array, to: number, word: number): number {
  let end = to;
  if (word > 0xfff) out[end++] = hexDigits[word >> 12]!;
  if (word > 0xff) out[end++] = hexDigits[(word >> 8) & 15]!;
  if (word > 0xf) out[end++] = hexDigits[(word >> 4) & 15]!;
  out[end++] = hexDigits[word & 15]!;
  return end;
}

function parseNetwork(name: "inet" | "cidr", text: string): Uint8Array {
  const [, address, mask] = /^([0-9a-f:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const octets = address === undefined ? null : address.includes(":") ? v6Octets(address) : v4Octets(address);
  const bits = Number(mask ?? (octets?.length ?? 0) * 8);
  if (!octets || bits > octets.length * 8) throw malformed(name, 0, "its text is not an address");
  return Uint8Array.of(octets.length === 4 ? V4 : V6, bits, name === "cidr" ? 1 : 0, octets.length, ...octets);
}

function v4Octets(text: string): number[] | null {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return null;
  const octets = text.split(".").map(Number);
  return octets.every((octet) => octet <= 255) ? octets : null;
}

function v6Octets(text: string): number[] | null {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted) {
    const tail = v4Octets(dotted[2]!);
    const head = tail && v6Octets(`${dotted[1]}0:0`);
    return head && [...head.slice(0, 12), ...tail];
  }
  const parts = text.split("::");
  if (parts.length > 2) return null;
  const [front, back] = parts.map((part) => (part === "" ? [] : part.split(":"))) as [string[], string[] | undefined];
  const words = [...front, ...Array(back ? Math.max(0, 8 - front.length - back.length) : 0).fill("0"), ...(back ?? [])];
  if (words.length !== 8 || !words.every((word) => /^[0-9a-f]{1,4}$/.test(word))) return null;
  return words.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]);
}

function macFamily(name: string, size: 6 | 8): TextFamily {
  const write: Write = (out, to, bytes, _view, at) => {
    for (let k = 0; k < size; k++) {
      if (k > 0) out[to + 3 * k - 1] = COLON;
      out[to + 3 * k] = hexDigits[bytes[at + k]! >> 4]!;
      out[to + 3 * k + 1] = hexDigits[bytes[at + k]! & 15]!;
    }
    return to + 3 * size - 1;
  };
  const pattern = new RegExp(`^[0-9a-f]{2}(:[0-9a-f]{2}){${size - 1}}$`);
  return makeTextFamily(name, { plain: true, measure: fixedMeasure(name, size, 3 * size), write }, (text) => {
    if (!pattern.test(text)) throw malformed(name, 0, "its text is not an address");
    return new Uint8Array(Buffer.from(text.replaceAll(":", ""), "hex"));
  });
}
